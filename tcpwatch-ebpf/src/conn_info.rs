//! The program `info`: the owner of a connection, and its time in each state.

use tcpwatch_common::Owner;
use tcpwatch_common::ledger::STATES;
use tcpwatch_common::record::{DWELL_UNKNOWN, spent_index};

use crate::hook::Hook;
use crate::owner;
use crate::run::{OPENING_DELAYED, Run};
use crate::sock_state::{self, SockState, Storage};
use crate::task::Task;
use crate::{needs, words};

/// The info of one connection. Together with its state and 72 bytes for the kernel it takes 256 bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct ConnInfo {
    /// Time spent in each state, ns ([`tcpwatch_common::record::SPENT`]).
    pub(crate) spent_ns: [u64; 8],
    /// Owner.
    pub(crate) owner: Owner,
    /// The process that closed it, if that is not the owner; 0 for none.
    pub(crate) closer_pid: u32,
    /// Padding.
    pub(crate) reserved: u32,
    /// Name of this process.
    pub(crate) closer_comm: [u8; 16],
}

const _: () = assert!(size_of::<ConnInfo>() == 120);

/// State and info of one connection.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct StateAndInfo {
    pub(crate) state: SockState,
    pub(crate) info: ConnInfo,
}

/// An empty state and info, for inserts.
pub(crate) static NEW_BOTH: StateAndInfo = StateAndInfo {
    state: sock_state::NEW,
    info: ConnInfo {
        spent_ns: [0; 8],
        owner: Owner::UNKNOWN,
        closer_pid: 0,
        reserved: 0,
        closer_comm: [0; 16],
    },
};

impl ConnInfo {
    /// Adds `ns` to the time spent in the state of number `state`.
    #[inline(always)]
    fn spend(&mut self, state: u32, ns: u64) {
        if (state as usize) < STATES
            && let Some(place) = spent_index(state as u8)
        {
            self.spent_ns[place & 7] += ns;
        }
    }
}

/// The program `info`: updates the info of the connection.
#[inline(always)]
pub(crate) fn follow<H: Hook>(hook: &H, run: &mut Run, storage: &mut Storage) -> Option<()> {
    let step = run.step();
    let task = if needs::owners() {
        Task::running()
    } else {
        Task::Unknown
    };
    let Some(info) = hook.kept(storage, false).info else {
        // The program `listen` has found the owner of a listener.
        if !step.is_listen() {
            // SAFETY: zeros are a valid owner.
            unsafe { words::clear(&mut run.owner) };
        }
        return Some(());
    };
    if step.is_birth() {
        // SAFETY: zeros are a valid info, and it has fifteen words.
        unsafe { words::clear(info) };
    }
    owner::follow(hook, info, run, task);
    words::copy(&mut run.owner, &info.owner);
    if run.flags & OPENING_DELAYED == 0 && run.dwell_ns != DWELL_UNKNOWN && step.moves() {
        info.spend(step.from, run.dwell_ns);
    }
    Some(())
}
