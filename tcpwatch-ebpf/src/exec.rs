//! `task:task_rename` and `sched:sched_process_exit`: track the names of listening processes.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

use crate::params::param;
use crate::sock::{Memory, Typed, word};
use crate::{listener, task};

/// `sched:sched_process_exit`: the running thread exits. If it is the last one, the process exits too.
#[inline(always)]
pub(crate) fn exited() {
    if param!(TASK.known) == 0 {
        return;
    }
    let task = task::bare();
    if task.follow(param!(TASK.signal)).read::<u32>(param!(TASK.live)) == 0 {
        listener::forget_process(task::pid_of(task.follow(param!(TASK.group_leader))));
    }
}

/// `task:task_rename`, classic. The map has only the IDs of thread group leaders, so other threads never match.
#[inline(always)]
pub(crate) fn renamed_classic(ctx: &TracePointContext) {
    if param!(TASK.pidns) == 0 {
        let pid = word::<u32>(ctx, param!(RESET.rename_pid));
        let comm = [
            word::<u64>(ctx, param!(RESET.rename_comm)),
            word::<u64>(ctx, param!(RESET.rename_comm) + 8),
        ];
        // SAFETY: both types are sixteen bytes, and any bytes are valid.
        listener::rename(pid, &unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(comm) });
    }
}

/// `task:task_rename`, typed: a process changes its name, by prctl() or by exec. The task still has the old name.
#[inline(always)]
pub(crate) fn renamed_typed(ctx: &BtfTracePointContext) {
    let task = Typed(ctx.arg(0));
    if task.read::<u32>(param!(TASK.pid)) != task.read::<u32>(param!(TASK.tgid)) {
        return;
    }
    let name: *const u8 = ctx.arg(1);
    let mut comm = [0u8; 16];
    // SAFETY: the helper takes any address, and writes at most the given number of bytes.
    let read = unsafe { bpf_probe_read_kernel_str(comm.as_mut_ptr().cast(), 16, name.cast()) };
    if read >= 0 {
        listener::rename(task::pid_of(task), &comm);
    }
}
