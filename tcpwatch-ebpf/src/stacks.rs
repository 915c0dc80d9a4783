//! The user stack where a connection is opened: the registers and a bounded copy, to be unwound in userspace.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user, bpf_task_pt_regs,
};
use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
use tcpwatch_common::owner::{HOW_ACCEPT, HOW_CONNECT};
use tcpwatch_common::stack::{REGISTER_BYTES, STACK_BYTES, STACK_PAGE};
use tcpwatch_common::{StackCopy, StackHead, TcpState};

use crate::cell::bump;
use crate::filter::{self, NO_MATCH, Unknown};
use crate::maps::STACKS;
use crate::params::param;
use crate::segment::{ledger, word};
use crate::socket::{self, Bare, Memory, probe};
use crate::transition::IPPROTO_TCP;
use crate::{owners, task};

const CLOSE: u32 = TcpState::Close as u32;
const SYN_SENT: u32 = TcpState::SynSent as u32;

/// `syscalls:sys_exit_accept` and `sys_exit_accept4`.
#[inline(always)]
pub(crate) fn accepted(ctx: &TracePointContext) {
    if let Some(sk) = owners::behind(word(ctx, param!(RESET.accept_ret))) {
        send(sk, HOW_ACCEPT);
    }
}

/// `CLOSE>SYN_SENT`, which connect() makes, in the task that calls it: one that waits for its answer is known while it waits.
#[inline(always)]
pub(crate) fn opened(ctx: &BtfTracePointContext) {
    if ctx.arg::<u32>(1) != CLOSE || ctx.arg::<u32>(2) != SYN_SENT {
        return;
    }
    let sk = Bare(ctx.arg(0));
    if socket::protocol(sk) != IPPROTO_TCP || !filter::admits(socket::netns(sk), socket::family(sk)) {
        return;
    }
    if filter::looks_at_ends() {
        let lport = socket::bound_port(sk);
        let unknown = Unknown {
            lport: lport == 0,
            peer: false,
        };
        if filter::judge(&socket::ends(sk, lport), unknown) == NO_MATCH {
            return;
        }
    }
    send(sk, HOW_CONNECT);
}

/// Sends the running task's stack, as that which opened `sk`, or counts it as lost.
#[inline(always)]
fn send(sk: Bare, how: u8) {
    let owner = task::current::<Bare>(how);
    if owner.pid == 0 {
        return;
    }
    // SAFETY: the helpers take the running task, and give where its user registers are.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const u8;
    let sp: u64 = probe(registers, param!(TASK.stack_pointer));
    // A worker of the kernel's that acts for the process has no stack of its own.
    if sp == 0 {
        return;
    }
    let Some(mut entry) = STACKS.reserve::<StackCopy>(0) else {
        if let Some(ledger) = ledger() {
            bump(&mut ledger.lost_stacks);
        }
        return;
    };
    let copy = entry.as_mut_ptr();
    let task = Bare::task();
    let leader = task.follow(param!(TASK.group_leader));
    let (started, execs) = (
        leader.read(param!(TASK.start_boottime)),
        task.read(param!(TASK.self_exec_id)),
    );
    // SAFETY: the entry is as large as the record, and nobody sees it before it is submitted. What of it is not written was the
    // ring's, and is not read.
    unsafe {
        let head = &raw mut (*copy).head;
        (*head).time_ns = bpf_ktime_get_ns();
        (*head).cookie = socket::cookie(sk);
        (*head).started = started;
        (*head).owner = owner;
        (*head).inode = socket::inode(sk);
        (*head).execs = execs;
        (*head).reserved = 0;
        read_registers(head, registers);
        (*head).copied = read_stack((&raw mut (*copy).stack).cast(), sp);
    }
    entry.submit(0);
}

/// Copies the registers. As many as there are: they end where the kernel's own stack does.
#[inline(always)]
fn read_registers(head: *mut StackHead, registers: *const u8) {
    let bytes = param!(TASK.registers);
    if bytes as usize <= REGISTER_BYTES {
        // SAFETY: there is room for so many; the helper takes any address to read from.
        unsafe { bpf_probe_read_kernel((&raw mut (*head).registers).cast(), bytes, registers.cast()) };
    }
}

/// Copies the stack at `sp` to `to`, which has room for [`STACK_BYTES`]; how much of it there was.
#[inline(always)]
fn read_stack(to: *mut u8, sp: u64) -> u32 {
    let mut copied = STACK_PAGE as u64 - (sp & (STACK_PAGE as u64 - 1));
    if !read(to, copied as u32, sp) {
        return 0;
    }
    for _ in 0..STACK_BYTES / STACK_PAGE - 1 {
        // SAFETY: with the first piece, of a page at most, there is room for as many pages as the loop reads.
        if !read(unsafe { to.add(copied as usize) }, STACK_PAGE as u32, sp + copied) {
            break;
        }
        copied += STACK_PAGE as u64;
    }
    copied as u32
}

/// Copies `bytes` of the running task's memory.
#[inline(always)]
fn read(to: *mut u8, bytes: u32, from: u64) -> bool {
    // SAFETY: the helper takes any address to read from; that there is room is the caller's to know, and the verifier's to prove.
    unsafe { bpf_probe_read_user(to.cast(), bytes, from as *const c_void) == 0 }
}
