//! Whose a socket is: taken where the running task is known to act for it, and nowhere else.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpwatch_common::histogram::BY_NONE;
use tcpwatch_common::ledger::Ledger;
use tcpwatch_common::owner::{
    HOW_ACCEPT, HOW_CLOSE, HOW_CONNECT, HOW_LISTEN, HOW_UNKNOWN, Listener, Name, listener_key,
};
use tcpwatch_common::{Owner, TcpState};

use crate::cell::{add_word_atomically, bump};
use crate::filter::{self, MATCH, Unknown};
use crate::hook::Hook;
use crate::maps::{ACCEPTED, COMMS, LISTENERS};
use crate::measure;
use crate::params::param;
use crate::socket::{self, Bare, Memory, probe};
use crate::stories::Story;
use crate::task;
use crate::transition::Step;

const LISTEN: u32 = TcpState::Listen as u32;
const ESTABLISHED: u32 = TcpState::Established as u32;
const SYN_RECV: u32 = TcpState::SynRecv as u32;
const FIN_WAIT1: u32 = TcpState::FinWait1 as u32;
const CLOSE_WAIT: u32 = TcpState::CloseWait as u32;
const LAST_ACK: u32 = TcpState::LastAck as u32;

/// A place for a listener.
static NOBODY: Listener = Listener {
    owner: Owner::UNKNOWN,
    sockets: 0,
    shared: 0,
    since: 0,
};

/// A place for a name, for which the stack has no room; of no process until it is filled.
static UNNAMED: Name = Name {
    comm: [0; 16],
    since: u64::MAX,
};

/// The kernel's flag for an entry that must not be there yet (linux/bpf.h).
const BPF_NOEXIST: u64 = 1;

/// Brings `story`'s owner up to the transition `step` of the socket in `netns` with local port `lport`.
#[inline(always)]
pub(crate) fn follow<H: Hook>(hook: &H, story: &mut Story, step: Step, netns: u32, lport: u16) {
    if step.is_opening() {
        story.owner = task::current::<H::Sk>(HOW_CONNECT);
        return;
    }
    if step.is_listening() {
        listens::<H::Sk>(&mut story.owner, netns, lport);
        return;
    }
    if step.is_child() {
        // What is kept under its address is of a socket that is no more.
        forget(hook.address());
        inherit(&mut story.owner, netns, lport);
        return;
    }
    // A listener stays whose it was.
    if !hook.known() || step.from == LISTEN {
        return;
    }
    if !matches!(story.owner.how, HOW_CONNECT | HOW_ACCEPT) {
        let address = hook.sk().address() as u64;
        if let Some(accepted) = ACCEPTED.get_ptr(&address) {
            // SAFETY: the entry is this socket's, and is written once, before it can be found.
            story.owner = unsafe { *accepted };
            let _gone_already = ACCEPTED.remove(&address);
        } else if story.owner.how == HOW_LISTEN && socket::has_socket(hook.sk()) {
            // It was accepted, and by whom was not seen.
            story.owner = Owner::UNKNOWN;
        }
    }
    // These are made by close() and shutdown() alone, in the task that calls them.
    let is_closed = matches!(
        (step.from, step.to),
        (ESTABLISHED | SYN_RECV, FIN_WAIT1) | (CLOSE_WAIT, LAST_ACK)
    );
    if is_closed {
        closes::<H::Sk>(story);
    }
}

/// The running task closes the socket, and so has held it. A function of its own, as `listens` is.
#[inline(never)]
fn closes<M: Memory>(story: &mut Story) {
    let closer = task::current::<M>(HOW_CLOSE);
    if story.owner.how == HOW_UNKNOWN {
        story.owner = closer;
    } else if closer.pid != 0 && closer.pid != story.owner.pid {
        story.closer_pid = closer.pid;
        story.closer_comm = closer.comm;
    }
}

/// The owner of a child that nobody has accepted: whoever listens.
#[inline(always)]
fn inherit(owner: &mut Owner, netns: u32, lport: u16) {
    let key = listener_key(netns, lport);
    let Some(listener) = LISTENERS.get_ptr(&key) else {
        return;
    };
    // SAFETY: the entry is one of the map's; it is written where nobody listens, who then has no children.
    let listener = unsafe { &*listener };
    if listener.sockets == 0 || listener.shared != 0 {
        return;
    }
    if listener.owner.pid == 0 {
        *owner = listener.owner;
        owner.how = HOW_LISTEN;
        return;
    }
    // Of a process that ended others may have the socket, and who they are was not seen.
    let Some(name) = COMMS.get_ptr(&listener.owner.pid) else {
        return;
    };
    // SAFETY: as above; a name torn while it changes is of one process still.
    let name = unsafe { &*name };
    // Its id may be another's by now.
    if name.since != listener.since {
        return;
    }
    *owner = listener.owner;
    owner.how = HOW_LISTEN;
    owner.comm = name.comm;
}

/// Follows a listener that has no story: nobody wants it, or there was no room; its children may be wanted.
#[inline(never)]
pub(crate) fn listens_untold<M: Memory>(netns: u32, lport: u16) {
    let mut owner = Owner::UNKNOWN;
    listens::<M>(&mut owner, netns, lport);
}

/// The running task listens on `lport` of `netns`, and owns the socket. A function of its own: the stack of the one it would be
/// part of has no room for it.
#[inline(never)]
fn listens<M: Memory>(owner: &mut Owner, netns: u32, lport: u16) {
    *owner = task::current::<M>(HOW_LISTEN);
    if lport == 0 {
        return;
    }
    let since = if owner.pid == 0 { 0 } else { named(owner) };
    let key = listener_key(netns, lport);
    let Some(listener) = LISTENERS.get_ptr_mut(&key).or_else(|| {
        // Another process may listen there at the same moment: whoever is first makes the entry, the others find it.
        let _there_already = LISTENERS.insert(&key, &NOBODY, BPF_NOEXIST);
        LISTENERS.get_ptr_mut(&key)
    }) else {
        return;
    };
    // SAFETY: the entry is one of the map's, and other CPUs may write it meanwhile: hence what is done here is looked at again.
    let listener = unsafe { &mut *listener };
    let first = listener.sockets == 0;
    if first {
        listener.owner = *owner;
        listener.shared = 0;
        listener.since = since;
    }
    add_word_atomically(&mut listener.sockets, 1);
    // SAFETY: fields of a reference; volatile, for others write them.
    let (sockets, pid, theirs) = unsafe {
        (
            core::ptr::read_volatile(&raw const listener.sockets),
            core::ptr::read_volatile(&raw const listener.owner.pid),
            core::ptr::read_volatile(&raw const listener.since),
        )
    };
    // Of two that both found nobody there, whoever counts last sees two.
    if pid != owner.pid || theirs != since || pid == 0 && !first || first && sockets != 1 {
        listener.shared = 1;
    }
}

/// Keeps the name of `owner`, which listens; [`Name::since`].
#[inline(always)]
fn named(owner: &Owner) -> u64 {
    // What is there already is kept up to date.
    if let Some(name) = COMMS.get_ptr(&owner.pid) {
        // SAFETY: the entry is one of the map's; this word of it is written by the process itself, which is here.
        return unsafe { (*name).since };
    }
    let _no_room = COMMS.insert(&owner.pid, &UNNAMED, 0);
    let Some(name) = COMMS.get_ptr_mut(&owner.pid) else {
        return UNNAMED.since;
    };
    // SAFETY: as above.
    let name = unsafe { &mut *name };
    name.comm = owner.comm;
    // SAFETY: the helper takes nothing and gives a number.
    name.since = unsafe { bpf_ktime_get_ns() };
    name.since
}

/// One listening socket less on `lport` of `netns`.
#[inline(always)]
pub(crate) fn unlistens(netns: u32, lport: u16) {
    let key = listener_key(netns, lport);
    let Some(listener) = LISTENERS.get_ptr_mut(&key) else {
        return;
    };
    // SAFETY: as in `inherit`.
    let listener = unsafe { &mut *listener };
    // The entry stays: whoever listens there next takes it over, and where nobody does it is the first to go.
    if listener.sockets != 0 {
        add_word_atomically(&mut listener.sockets, u32::MAX);
    }
}

/// The TCP socket behind the descriptor `fd`, which accept() returned to the running task, where the filter wants it.
#[inline(always)]
pub(crate) fn behind(fd: i64) -> Option<Bare> {
    if param!(TASK.known) == 0 || fd < 0 {
        return None;
    }
    let table = Bare::task().follow(param!(TASK.files)).follow(param!(TASK.fdt));
    if fd >= table.read::<u32>(param!(TASK.max_fds)) as i64 {
        return None;
    }
    let files = table.read::<u64>(param!(TASK.fd));
    let file: u64 = probe((files + fd as u64 * 8) as *const u8, 0);
    let socket = Bare(file as *const u8).follow(param!(TASK.private_data));
    // What a socket's file points at points back: so does nothing else that another thread may have put there by now.
    if file == 0 || socket.read::<u64>(param!(TASK.socket_file)) != file {
        return None;
    }
    let sk = socket.follow(param!(TASK.sk));
    if sk.address().is_null() || socket::protocol(sk) != crate::transition::IPPROTO_TCP {
        return None;
    }
    if !filter::admits(socket::netns(sk), socket::family(sk)) {
        return None;
    }
    if filter::looks_at_ends() && filter::judge(&socket::ends(sk, socket::bound_port(sk)), Unknown::NOTHING) != MATCH {
        return None;
    }
    Some(sk)
}

/// accept() returned the descriptor `fd` to the running task: the socket behind it is its.
#[inline(always)]
pub(crate) fn accepted(fd: i64, ledger: &mut Ledger) {
    let Some(sk) = behind(fd) else { return };
    let owner = task::current::<Bare>(HOW_ACCEPT);
    if param!(PARAMS.histograms) != BY_NONE {
        measure::accepted(sk, &owner, ledger);
    }
    if ACCEPTED.insert(&(sk.address() as u64), &owner, 0).is_err() {
        bump(&mut ledger.unkept_owners);
    }
}

/// The process `pid` changed its name.
#[inline(always)]
pub(crate) fn renamed(pid: u32, comm: &[u8; 16]) {
    if let Some(name) = COMMS.get_ptr_mut(&pid) {
        // SAFETY: the entry is one of the map's; only the process itself changes its name.
        unsafe { (*name).comm = *comm };
    }
}

/// The process `pid` is no more: another will have its id, and a name of its own.
#[inline(always)]
pub(crate) fn ended(pid: u32) {
    if COMMS.get_ptr(&pid).is_some() {
        let _gone_already = COMMS.remove(&pid);
    }
}

/// The socket at `address` is no more.
#[inline(always)]
pub(crate) fn forget(address: u64) {
    // Mostly it was taken by then, and to look costs less than to remove.
    if ACCEPTED.get_ptr(&address).is_some() {
        let _gone_already = ACCEPTED.remove(&address);
    }
}
