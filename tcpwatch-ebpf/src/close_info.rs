//! The program `close`: counts the evidence that a socket shows at its end, and does not interpret it.

use tcpwatch_common::Evidence;
use tcpwatch_common::evidence::{
    ALL_ACKED, DEAD, DONE, ENDS, ERR_OLD, KNOWN, NO_PORT, NO_SOCKET, RESET_AFTER, RESET_RECEIVED, RESET_SENT,
};

use crate::counter::inc;
use crate::filter;
use crate::hook::Hook;
use crate::ledger::{self, SharedBank, inc_shared};
use crate::maps::AMENDING;
use crate::run::{Run, barrier};
use crate::sock;
use crate::sock_state::SockState;
use crate::step::{CLOSE, CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK, LISTEN, Step};

/// `SOCK_DEAD` and `SOCK_DONE`, the first of `enum sock_flags` (include/net/sock.h).
const SOCK_DEAD: u64 = 1 << 0;
const SOCK_DONE: u64 = 1 << 1;

/// Whether a `struct socket` belongs to the socket at its `*>CLOSE`; false at other transitions.
///
/// Call this before the paths of a program branch: for each load of a pointer, on each path to it, the verifier searches all
/// types of the kernel.
#[inline(always)]
pub(crate) fn has_socket<H: Hook>(hook: &H, step: Step) -> bool {
    step.is_end() && hook.known() && sock::has_socket(hook.sk())
}

/// The evidence at `*>CLOSE`, from the socket and its `state`; empty at other transitions.
#[inline(always)]
pub(crate) fn read<H: Hook>(
    hook: &H,
    state: Option<&SockState>,
    step: Step,
    no_port: bool,
    has_socket: bool,
) -> Evidence {
    if !step.is_end() {
        return Evidence {
            from: if step.is_last() { step.from as u8 } else { 0 },
            ..Evidence::default()
        };
    }
    let mut evidence = Evidence {
        from: step.from as u8,
        ..Evidence::default()
    };
    if no_port {
        evidence.flags |= NO_PORT;
    }
    if let Some(state) = state {
        evidence.flags |= state.resets;
        evidence.reason = state.reason;
    }
    if !hook.known() {
        return evidence;
    }
    let sk = hook.sk();
    evidence.flags |= KNOWN;
    evidence.err = sock::err(sk);
    if let Some(state) = state
        && evidence.err != 0
        && state.err == evidence.err
    {
        evidence.flags |= ERR_OLD;
    }
    let flags = sock::flags(sk);
    if flags & SOCK_DEAD != 0 {
        evidence.flags |= DEAD;
    }
    if flags & SOCK_DONE != 0 {
        evidence.flags |= DONE;
    }
    if !has_socket {
        evidence.flags |= NO_SOCKET;
    }
    evidence.shutdown = sock::shutdown(sk);
    // In other states the value means nothing, so it is not read.
    if matches!(step.from, LAST_ACK | CLOSING) && sock::all_acked(sk) {
        evidence.flags |= ALL_ACKED;
    }
    evidence
}

/// Whether a reset may still be sent after the end of the connection, so its state must stay.
#[inline(always)]
pub(crate) fn may_go_on(evidence: Evidence) -> bool {
    let from = evidence.from as u32;
    !(evidence.flags & ALL_ACKED != 0 || from == FIN_WAIT2 && evidence.flags & DONE != 0 || !is_end(evidence))
}

/// Whether the ending was recorded with a received reset in a state in which the kernel may still send one: data arrived that
/// no process reads any more.
#[inline(always)]
pub(crate) fn awaits_reset(state: &SockState) -> bool {
    state.ended != 0
        && state.resets & RESET_RECEIVED != 0
        && matches!(Evidence::from_key(state.end).from as u32, FIN_WAIT1 | FIN_WAIT2)
}

/// Whether this is the end of a connection. The end of a listener is not counted.
#[inline(always)]
pub(crate) fn is_end(evidence: Evidence) -> bool {
    !matches!(evidence.from as u32, LISTEN | CLOSE)
}

/// Whether nothing can follow the transition of `run` on this connection.
#[inline(always)]
pub(crate) fn is_final(run: &Run) -> bool {
    run.step().is_last() && !may_go_on(run.close_info)
}

/// Whether the program `close` counts this step.
#[inline(always)]
pub(crate) fn counts(step: Step) -> bool {
    step.is_end() && filter::wants(step.from, step.to)
}

/// The program `close`: counts how the connection ended.
#[inline(always)]
pub(crate) fn count(run: &Run) -> Option<()> {
    let ledger = run.ledger()?;
    let key = run.close_info.key();
    let first = first_place(key);
    for step in 0..ENDS {
        let (place, count) = ledger.end((first + step) & (ENDS - 1));
        if place.get() == 0 {
            place.set(key);
        }
        if place.get() == key {
            inc(count);
            return Some(());
        }
    }
    inc(ledger.uncounted_ends());
    Some(())
}

/// The index at which the search for `key` starts.
#[inline(always)]
fn first_place(key: u64) -> usize {
    (key ^ key >> 16 ^ key >> 32) as usize
}

/// Adds `by` to the count of `key` in the shared bank of this CPU. Returns 0 if there is no room.
///
/// A global function: the verifier checks it once, not once for each exit of its loop.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn add_end(key: u64, by: i64) -> u32 {
    let Some(ledger) = ledger::shared() else {
        return 0;
    };
    let first = first_place(key);
    for step in 0..ENDS {
        let (place, count) = ledger.end((first + step) & (ENDS - 1));
        if place.get() == 0 {
            place.set(key);
        }
        if place.get() == key {
            count.add(by as u64);
            return 1;
        }
    }
    if by > 0 {
        ledger.uncounted_ends().add(1);
    }
    0
}

/// Records a reset on the connection with `state`: sent for `reason`, or received. If the ending was already recorded and
/// changes, returns the new evidence.
#[inline(always)]
pub(crate) fn add_reset(state: &mut SockState, sent: bool, reason: u8) -> Option<Evidence> {
    let seen = if sent { RESET_SENT } else { RESET_RECEIVED };
    if state.ended == 0 {
        state.resets |= seen;
        if sent {
            state.reason = reason;
        }
        return None;
    }
    if state.end == 0 || !sent {
        return None;
    }
    let mut evidence = Evidence::from_key(state.end);
    if evidence.flags & RESET_AFTER != 0 {
        return None;
    }
    evidence.flags |= RESET_SENT | RESET_AFTER;
    evidence.reason = reason;
    if !amend(state.end, evidence.key()) {
        inc_shared(SharedBank::missed_resets);
        return None;
    }
    state.end = evidence.key();
    Some(evidence)
}

/// Moves an ending from the key `from` to the key `to`. Returns false if the ledger has no room, or if this interrupts another run that
/// does the same.
#[inline(always)]
fn amend(from: u64, to: u64) -> bool {
    let Some(amending) = AMENDING.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry of this CPU. An interrupting run does not change it.
    let amending = unsafe { &mut *amending };
    if *amending != 0 {
        return false;
    }
    *amending = 1;
    barrier();
    let moved = add_end(from, -1) != 0;
    if moved {
        add_end(to, 1);
    }
    barrier();
    *amending = 0;
    moved
}
