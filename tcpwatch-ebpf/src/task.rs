//! The running task as an owner. Use it only where the task acts for the socket.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_get_current_task, bpf_get_current_task_btf};
use tcpwatch_common::Owner;

use crate::params::param;
use crate::sock::{Bare, Memory, Typed, probe};
use crate::words;

/// `PF_KTHREAD`: a kernel thread, which acts for other processes.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Maximum depth of PID namespaces (`MAX_PID_NS_LEVEL`).
const LEVELS: u32 = 32;

/// The running task by its address.
#[inline(always)]
pub(crate) fn bare() -> Bare {
    // SAFETY: the helper takes nothing.
    Bare(unsafe { bpf_get_current_task() } as *const u8)
}

/// The running task, and the leader of its process.
///
/// Call this before the paths of a program branch: see [`crate::close_info::has_socket`].
#[derive(Clone, Copy)]
pub(crate) enum Task {
    /// Typed pointers, if [`tcpwatch_common::Params::task_btf`].
    Typed(Typed, Typed),
    /// Untyped addresses.
    Bare(Bare, Bare),
    /// The kernel's types are unknown, or no owner is needed.
    Unknown,
}

impl Task {
    /// The running task.
    #[inline(always)]
    pub(crate) fn running() -> Self {
        if param!(TASK.known) == 0 {
            return Self::Unknown;
        }
        if param!(PARAMS.task_btf) == 0 {
            let task = bare();
            return Self::Bare(task, task.follow(param!(TASK.group_leader)));
        }
        // SAFETY: the helper takes nothing.
        let task = Typed(unsafe { bpf_get_current_task_btf() }.cast_const().cast());
        Self::Typed(task, task.follow(param!(TASK.group_leader)))
    }

    /// Writes its process to `owner`; unknown if it is a kernel thread.
    #[inline(always)]
    pub(crate) fn write(self, how: u8, owner: &mut Owner) {
        // SAFETY: zeros are a valid owner.
        unsafe { words::clear(owner) };
        match self {
            Self::Typed(task, leader) => write(task, leader, how, owner),
            Self::Bare(task, leader) => write(task, leader, how, owner),
            Self::Unknown => {}
        }
    }
}

/// Writes the process of `leader` to `owner`; unknown if `task`, the running task, is a kernel thread.
#[inline(always)]
fn write(task: impl Memory, leader: impl Memory, how: u8, owner: &mut Owner) {
    if task.read::<u32>(param!(TASK.flags)) & PF_KTHREAD != 0 {
        return;
    }
    // SAFETY: the helper takes nothing.
    owner.cgroup = unsafe { bpf_get_current_cgroup_id() };
    owner.pid = if param!(TASK.pidns) == 0 {
        (bpf_get_current_pid_tgid() >> 32) as u32
    } else {
        pid_of(leader)
    };
    owner.how = how;
    words::copy(&mut owner.comm, &comm_of(leader));
}

/// The ID of the process of `leader` in the PID namespace of the reader; 0 if it has none there.
#[inline(always)]
pub(crate) fn pid_of(leader: impl Memory) -> u32 {
    let ours = param!(TASK.pidns);
    if ours == 0 {
        return leader.read(param!(TASK.tgid));
    }
    let pid = leader.read::<u64>(param!(TASK.thread_pid)) as *const u8;
    let level: u32 = probe(pid, param!(TASK.level));
    for at in 0..LEVELS {
        if at > level {
            break;
        }
        let upid = param!(TASK.numbers) + at * param!(TASK.upid_size);
        let namespace: u64 = probe(pid, upid + param!(TASK.upid_ns));
        if probe::<u32>(namespace as *const u8, param!(TASK.ns_inum)) == ours {
            return probe(pid, upid);
        }
    }
    0
}

/// The name of `task`.
#[inline(always)]
pub(crate) fn comm_of(task: impl Memory) -> [u8; 16] {
    let words: [u64; 2] = task.read(param!(TASK.comm));
    // SAFETY: both types are sixteen bytes, and any bytes are valid.
    unsafe { core::mem::transmute(words) }
}
