//! The listeners of the host and their owners, by namespace and port. A child may be created long after listen().

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcpwatch_common::Owner;
use tcpwatch_common::owner::{HOW_LISTEN, Name, PortListeners, listener_key};

use crate::counter::Shared;
use crate::hook::Hook;
use crate::maps::{COMMS, LISTENERS};
use crate::needs;
use crate::run::Run;
use crate::step::Step;
use crate::task::Task;
use crate::words;

/// A listener without an owner, for inserts.
static NEW_LISTENER: PortListeners = PortListeners {
    owner: Owner::UNKNOWN,
    sockets: 0,
    shared: 0,
    since: 0,
};

/// An empty name, for inserts.
static NEW_NAME: Name = Name {
    comm: [0; 16],
    since: u64::MAX,
};

/// `BPF_NOEXIST`: insert only if there is no entry yet.
const BPF_NOEXIST: u64 = 1;

/// Whether the program `listen` has work at this step. It runs before the filter, because a child may match a filter that its
/// listener does not match.
#[inline(always)]
pub(crate) fn wants(step: Step) -> bool {
    needs::owners() && (step.is_listen() || step.is_listener_close())
}

/// The program `listen`: adds or removes a listener.
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

/// Adds a listener of `owner`, the running task, on `lport` of `netns`.
#[inline(always)]
fn add(owner: &Owner, netns: u32, lport: u16) {
    let since = if owner.pid == 0 { 0 } else { keep_name(owner) };
    let key = listener_key(netns, lport);
    let Some(listener) = LISTENERS.get_ptr_mut(&key).or_else(|| {
        // Another process may listen on the port at the same moment: the first creates the entry, the others find it.
        let _there_already = LISTENERS.insert(&key, &NEW_LISTENER, BPF_NOEXIST);
        LISTENERS.get_ptr_mut(&key)
    }) else {
        return;
    };
    // SAFETY: the entry is in the map; other CPUs may write it meanwhile, so it is read again below.
    let (first, sockets, pid, theirs) = unsafe {
        let first = (*listener).sockets == 0;
        if first {
            words::copy(&mut (*listener).owner, owner);
            (*listener).shared = 0;
            (*listener).since = since;
        }
        Shared::at(&raw mut (*listener).sockets).add(1);
        (
            first,
            ptr::read_volatile(&raw const (*listener).sockets),
            ptr::read_volatile(&raw const (*listener).owner.pid),
            ptr::read_volatile(&raw const (*listener).since),
        )
    };
    // If two processes both found no listener, the one that counts last sees two.
    if pid != owner.pid || theirs != since || pid == 0 && !first || first && sockets != 1 {
        // SAFETY: as above.
        unsafe { (*listener).shared = 1 };
    }
}

/// Stores the name of `owner`, a listening process. Returns [`Name::since`].
#[inline(always)]
fn keep_name(owner: &Owner) -> u64 {
    // An existing name is up to date.
    if let Some(name) = COMMS.get_ptr(&owner.pid) {
        // SAFETY: the entry is in the map; only this process writes the word, and it is running here.
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

/// Removes a listener on `lport` of `netns`.
#[inline(always)]
fn remove(netns: u32, lport: u16) {
    let Some(listener) = LISTENERS.get_ptr_mut(&listener_key(netns, lport)) else {
        return;
    };
    // SAFETY: the entry is in the map, and other CPUs add to this word too.
    let sockets = unsafe { Shared::at(&raw mut (*listener).sockets) };
    // The entry stays. The next listener on the port reuses it, and an unused entry is evicted first.
    if sockets.get() != 0 {
        sockets.add(u32::MAX);
    }
}

/// Sets the owner of a child that is not accepted yet: the listening process, if there is only one.
#[inline(always)]
pub(crate) fn owner_of_child(owner: &mut Owner, netns: u32, lport: u16) {
    let Some(listener) = LISTENERS.get_ptr(&listener_key(netns, lport)) else {
        return;
    };
    // SAFETY: the entry is in the map; it is rewritten only while it has no sockets, and then there are no children.
    let listener = unsafe { &*listener };
    if listener.sockets == 0 || listener.shared != 0 {
        return;
    }
    if listener.owner.pid == 0 {
        words::copy(owner, &listener.owner);
        owner.how = HOW_LISTEN;
        return;
    }
    // After the process exited, other processes may hold the socket; they are unknown.
    let Some(name) = COMMS.get_ptr(&listener.owner.pid) else {
        return;
    };
    // SAFETY: as above; a name that changes meanwhile still belongs to the same process.
    let name = unsafe { &*name };
    // By now, another process may have this ID.
    if name.since != listener.since {
        return;
    }
    words::copy(owner, &listener.owner);
    owner.how = HOW_LISTEN;
    words::copy(&mut owner.comm, &name.comm);
}

/// Updates the name of the process `pid`.
#[inline(always)]
pub(crate) fn rename(pid: u32, comm: &[u8; 16]) {
    if let Some(name) = COMMS.get_ptr_mut(&pid) {
        // SAFETY: the entry is in the map; only the process itself changes its name.
        words::copy(unsafe { &mut (*name).comm }, comm);
    }
}

/// Removes the process `pid`, which exited: another process may get its ID.
#[inline(always)]
pub(crate) fn forget_process(pid: u32) {
    if COMMS.get_ptr(&pid).is_some() {
        let _gone_already = COMMS.remove(&pid);
    }
}
