//! Copies the user stack that opens a connection: the registers and a part of the stack. Userspace unwinds it.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use tcpwatch_common::owner::{HOW_ACCEPT, HOW_CONNECT};
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::stack::{
    MIDDLE_STACK_BYTES, REGISTER_BYTES, SHORT_STACK_BYTES, STACK_BYTES, STACK_CALL_NS, STACK_PAGE,
};
use tcpwatch_common::{Owner, StackCopy, StackHead};

use crate::filter::{self, NO_MATCH, Unknown};
use crate::ledger::{SharedBank, inc_shared};
use crate::maps::{CALLED, STACKS};
use crate::params::param;
use crate::sock::{self, Bare, IPPROTO_TCP, Memory, Typed};
use crate::step::{CLOSE, SYN_SENT};
use crate::task::{self, Task};
use crate::{accept, needs, words};

/// `syscalls:sys_exit_accept` and `sys_exit_accept4`.
#[inline(always)]
pub(crate) fn accepted(ctx: &TracePointContext) {
    if let Some(sk) = accept::accepted_socket(ctx) {
        send(sk, HOW_ACCEPT);
    }
}

/// `CLOSE>SYN_SENT`, which connect() makes in the calling task. So the stack is known while connect() still waits for an
/// answer.
#[inline(always)]
pub(crate) fn opened(ctx: &BtfTracePointContext) {
    if ctx.arg::<u32>(1) != CLOSE || ctx.arg::<u32>(2) != SYN_SENT {
        return;
    }
    let sk = Typed(ctx.arg(0));
    if sock::protocol(sk) != IPPROTO_TCP || !filter::admits(sock::netns(sk), sock::family(sk)) {
        return;
    }
    if needs::endpoints() {
        let lport = sock::bound_port(sk);
        // A port that is not chosen yet may match later.
        let unknown = Unknown {
            lport: lport == 0,
            peer: false,
        };
        if filter::judge(&sock::endpoints(sk, lport), unknown) == NO_MATCH {
            return;
        }
    }
    send(sk, HOW_CONNECT);
}

/// Sends the stack of the running task, which opened `sk`, or counts it as lost.
#[inline(always)]
fn send(sk: impl Memory, how: u8) {
    let mut owner = Owner::UNKNOWN;
    Task::running().write(how, &mut owner);
    if owner.pid == 0 {
        return;
    }
    let registers = registers();
    let sp: u64 = Bare(registers).read(param!(TASK.stack_pointer));
    // A kernel worker that acts for the process has no user stack.
    if sp == 0 {
        return;
    }
    let depth = depth(sp);
    let sent = if depth <= SHORT_STACK_BYTES as u64 {
        copy::<SHORT_STACK_BYTES>(sk, owner, registers, sp, depth)
    } else if depth <= MIDDLE_STACK_BYTES as u64 {
        copy::<MIDDLE_STACK_BYTES>(sk, owner, registers, sp, depth)
    } else {
        copy::<STACK_BYTES>(sk, owner, registers, sp, depth)
    };
    if !sent {
        inc_shared(SharedBank::lost_stacks);
    }
}

/// The address of the user registers of the running task. Before Linux 5.15 there is no helper; the registers are at the end of
/// the kernel stack (`task_pt_regs`).
#[inline(always)]
fn registers() -> *const u8 {
    if param!(TASK.stack) == ABSENT {
        // SAFETY: the helpers take nothing, and the running task.
        return unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    }
    let stack: u64 = task::bare().read(param!(TASK.stack));
    (stack + (param!(TASK.stack_bytes) - param!(TASK.pt_regs_bytes)) as u64) as *const u8
}

/// The maximum distance from `sp` to the start of the running task's stack, bytes.
#[inline(always)]
fn depth(sp: u64) -> u64 {
    let task = task::bare();
    let mut depth = STACK_BYTES as u64;
    if param!(TASK.mm) != ABSENT && param!(TASK.start_stack) != ABSENT {
        let begin: u64 = task.follow(param!(TASK.mm)).read(param!(TASK.start_stack));
        if begin > sp && begin - sp < depth {
            depth = begin - sp;
        }
    }
    if param!(TASK.thread_pointer) != ABSENT {
        let begin: u64 = task.read(param!(TASK.thread_pointer));
        if begin > sp && begin - sp < depth {
            depth = begin - sp;
        }
    }
    depth
}

/// Sends a record with room for `BYTES` stack bytes, of which `depth` are used. Returns whether the ring buffer had room.
#[inline(always)]
fn copy<const BYTES: usize>(sk: impl Memory, owner: Owner, registers: *const u8, sp: u64, depth: u64) -> bool {
    let Some(mut entry) = STACKS.reserve::<StackCopy<BYTES>>(0) else {
        return false;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the helper takes nothing and gives a number.
    let now = unsafe { bpf_ktime_get_ns() };
    let task = task::bare();
    let leader = task.follow(param!(TASK.group_leader));
    let (started, execs) = (
        leader.read(param!(TASK.start_boottime)),
        task.read(param!(TASK.self_exec_id)),
    );
    // SAFETY: the entry has the size of the record, and is invisible until it is submitted. Bytes that are not written stay as
    // they were in the ring, and are not read.
    unsafe {
        let head = &raw mut (*record).head;
        (*head).time_ns = now;
        (*head).cookie = sock::cookie(sk);
        (*head).started = started;
        words::copy(&mut (*head).owner, &owner);
        (*head).inode = sock::inode(sk);
        (*head).execs = execs;
        (*head).reserved = 0;
        read_registers(head, registers);
        (*head).copied = read_stack::<BYTES>((&raw mut (*record).stack).cast(), sp, depth);
    }
    entry.submit(call(now));
    true
}

/// The wakeup flag for a submit: do not wake the reader if it was woken a moment ago and is still polling.
#[inline(always)]
fn call(now: u64) -> u64 {
    let Some(called) = CALLED.get_ptr_mut(0) else {
        return BPF_RB_FORCE_WAKEUP as u64;
    };
    // SAFETY: the entry is aligned. If two CPUs check at once, both may wake the reader, which is harmless.
    unsafe {
        if now.wrapping_sub(core::ptr::read_volatile(called)) < STACK_CALL_NS {
            return BPF_RB_NO_WAKEUP as u64;
        }
        core::ptr::write_volatile(called, now);
    }
    BPF_RB_FORCE_WAKEUP as u64
}

/// Copies the registers, but not more than exist: the kernel stack ends after them.
#[inline(always)]
fn read_registers(head: *mut StackHead, registers: *const u8) {
    let bytes = param!(TASK.registers);
    if bytes as usize <= REGISTER_BYTES {
        // SAFETY: the destination has room for `bytes`; the helper takes any source address.
        unsafe { bpf_probe_read_kernel((&raw mut (*head).registers).cast(), bytes, registers.cast()) };
    }
}

/// Copies `depth` bytes of the stack at `sp` to `to`, which has room for `BYTES`. Returns the number of copied bytes.
#[inline(always)]
fn read_stack<const BYTES: usize>(to: *mut u8, sp: u64, depth: u64) -> u32 {
    if read::<BYTES>(to, depth, sp) {
        return depth as u32;
    }
    // A page is not mapped: copy up to it.
    let first = STACK_PAGE as u64 - (sp & (STACK_PAGE as u64 - 1));
    for pages in (0..(BYTES / STACK_PAGE) as u64).rev() {
        let bytes = first + pages * STACK_PAGE as u64;
        if bytes < depth && read::<BYTES>(to, bytes, sp) {
            return bytes as u32;
        }
    }
    0
}

/// Copies `bytes` of the running task's memory to `to`, which has room for `BYTES`. Returns whether all bytes could be read.
#[inline(always)]
fn read<const BYTES: usize>(to: *mut u8, mut bytes: u64, from: u64) -> bool {
    // SAFETY: no instruction. The compiler forgets the value, and so compares the same register that it passes on. Verifiers of
    // older kernels accept only that.
    unsafe { asm!("/* {bytes} */", bytes = inout(reg) bytes) };
    if bytes > BYTES as u64 {
        return false;
    }
    // SAFETY: the helper takes any source address, and the destination has room for `bytes`.
    unsafe { bpf_probe_read_user(to.cast(), bytes as u32, from as *const c_void) == 0 }
}
