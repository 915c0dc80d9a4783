//! The listeners of the host and their owners, by namespace and port: a child is born long after listen() was called.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpwatch_common::Owner;
use tcpwatch_common::owner::{HOW_LISTEN, Listener, Name, listener_key};

use crate::counter::add_word_atomically;
use crate::hook::Hook;
use crate::maps::{COMMS, LISTENERS};
use crate::needs;
use crate::run::Run;
use crate::step::Step;
use crate::task::Task;
use crate::words;

/// A listener of no process, for inserts.
static NEW_LISTENER: Listener = Listener {
    owner: Owner::UNKNOWN,
    sockets: 0,
    shared: 0,
    since: 0,
};

/// A name of no process, for inserts.
static NEW_NAME: Name = Name {
    comm: [0; 16],
    since: u64::MAX,
};

/// `BPF_NOEXIST`: insert only where there is no entry yet.
const BPF_NOEXIST: u64 = 1;

/// Whether the program `listen` has work at this step. It comes before the filter: a child may pass it where its listener does
/// not.
#[inline(always)]
pub(crate) fn wants(step: Step) -> bool {
    needs::owners() && (step.is_listen() || step.is_listener_close())
}

/// The program `listen`: adds a listening socket, or takes one away.
#[inline(always)]
pub(crate) fn follow<H: Hook>(hook: &H, run: &mut Run) -> Option<()> {
    let lport = match hook.bound_port() {
        0 => u16::from_be(hook.source_port()),
        bound => bound,
    };
    if run.step().is_listen() {
        Task::running().write(HOW_LISTEN, &mut run.owner);
        if hook.bound_port() != 0 {
            add(&run.owner, run.netns, lport);
        }
    } else {
        remove(run.netns, lport);
    }
    Some(())
}

/// `owner`, which is the running task, listens on `lport` of `netns`.
#[inline(always)]
fn add(owner: &Owner, netns: u32, lport: u16) {
    let since = if owner.pid == 0 { 0 } else { keep_name(owner) };
    let key = listener_key(netns, lport);
    let Some(listener) = LISTENERS.get_ptr_mut(&key).or_else(|| {
        // Another process may listen there at the same moment: the first makes the entry, the others find it.
        let _there_already = LISTENERS.insert(&key, &NEW_LISTENER, BPF_NOEXIST);
        LISTENERS.get_ptr_mut(&key)
    }) else {
        return;
    };
    // SAFETY: the entry is one of the map's; other CPUs may write it meanwhile, so it is read again below.
    let listener = unsafe { &mut *listener };
    let first = listener.sockets == 0;
    if first {
        words::copy(&mut listener.owner, owner);
        listener.shared = 0;
        listener.since = since;
    }
    add_word_atomically(&mut listener.sockets, 1);
    // SAFETY: fields of a reference; volatile, since others write them.
    let (sockets, pid, theirs) = unsafe {
        (
            core::ptr::read_volatile(&raw const listener.sockets),
            core::ptr::read_volatile(&raw const listener.owner.pid),
            core::ptr::read_volatile(&raw const listener.since),
        )
    };
    // Of two processes that both found no listener, the one that counts last sees two.
    if pid != owner.pid || theirs != since || pid == 0 && !first || first && sockets != 1 {
        listener.shared = 1;
    }
}

/// Keeps the name of `owner`, which listens; returns [`Name::since`].
#[inline(always)]
fn keep_name(owner: &Owner) -> u64 {
    // A name that is there is kept up to date.
    if let Some(name) = COMMS.get_ptr(&owner.pid) {
        // SAFETY: the entry is one of the map's; the process itself writes this word, and it is here.
        return unsafe { (*name).since };
    }
    let _no_room = COMMS.insert(&owner.pid, &NEW_NAME, 0);
    let Some(name) = COMMS.get_ptr_mut(&owner.pid) else {
        return NEW_NAME.since;
    };
    // SAFETY: as above.
    let name = unsafe { &mut *name };
    words::copy(&mut name.comm, &owner.comm);
    // SAFETY: the helper takes nothing and returns a number.
    name.since = unsafe { bpf_ktime_get_ns() };
    name.since
}

/// One listening socket less on `lport` of `netns`.
#[inline(always)]
fn remove(netns: u32, lport: u16) {
    let Some(listener) = LISTENERS.get_ptr_mut(&listener_key(netns, lport)) else {
        return;
    };
    // SAFETY: the entry is one of the map's.
    let listener = unsafe { &mut *listener };
    // The entry stays: the next listener there takes it over, and an unused one is the first to be evicted.
    if listener.sockets != 0 {
        add_word_atomically(&mut listener.sockets, u32::MAX);
    }
}

/// The owner of a child that is not accepted yet: the listening process, where there is one alone.
#[inline(always)]
pub(crate) fn owner_of_child(owner: &mut Owner, netns: u32, lport: u16) {
    let Some(listener) = LISTENERS.get_ptr(&listener_key(netns, lport)) else {
        return;
    };
    // SAFETY: the entry is one of the map's; it is rewritten only while it has no sockets, and then there are no children.
    let listener = unsafe { &*listener };
    if listener.sockets == 0 || listener.shared != 0 {
        return;
    }
    if listener.owner.pid == 0 {
        words::copy(owner, &listener.owner);
        owner.how = HOW_LISTEN;
        return;
    }
    // After the process has ended, others may hold the socket; they were not seen.
    let Some(name) = COMMS.get_ptr(&listener.owner.pid) else {
        return;
    };
    // SAFETY: as above; a name that changes meanwhile is still of the same process.
    let name = unsafe { &*name };
    // Another process may have the id by now.
    if name.since != listener.since {
        return;
    }
    words::copy(owner, &listener.owner);
    owner.how = HOW_LISTEN;
    words::copy(&mut owner.comm, &name.comm);
}

/// The process `pid` changed its name.
#[inline(always)]
pub(crate) fn rename(pid: u32, comm: &[u8; 16]) {
    if let Some(name) = COMMS.get_ptr_mut(&pid) {
        // SAFETY: the entry is one of the map's; only the process itself changes its name.
        words::copy(unsafe { &mut (*name).comm }, comm);
    }
}

/// The process `pid` ended: another may get its id.
#[inline(always)]
pub(crate) fn forget_process(pid: u32) {
    if COMMS.get_ptr(&pid).is_some() {
        let _gone_already = COMMS.remove(&pid);
    }
}
