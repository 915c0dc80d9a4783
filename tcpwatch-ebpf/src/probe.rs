//! Programs that load only if the kernel has one feature. They are never attached.

use core::ptr;

use aya_ebpf::helpers::generated::{
    bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_getsockopt, bpf_sk_storage_get, bpf_task_pt_regs,
};
use aya_ebpf::programs::BtfTracePointContext;

use crate::maps::STATES;
use crate::sock_iter::TcpIter;

/// `SOL_SOCKET`.
const SOL_SOCKET: i32 = 1;
/// `SO_RCVBUF`.
const SO_RCVBUF: i32 = 8;

/// Tracing programs have `bpf_sk_storage_get`.
#[inline(always)]
pub(crate) fn sk_storage(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the helper takes the typed socket, and creates nothing if the flags are 0.
    unsafe {
        bpf_sk_storage_get(
            ptr::from_ref(&STATES).cast_mut().cast(),
            sk.cast_mut().cast(),
            ptr::null_mut(),
            0,
        )
    };
}

/// The running task as a typed pointer.
#[inline(always)]
pub(crate) fn task_btf() -> u32 {
    // SAFETY: the helper takes nothing.
    let task = unsafe { bpf_get_current_task_btf() };
    task.is_null() as u32
}

/// The cookie of a socket.
#[inline(always)]
pub(crate) fn cookie(ctx: &BtfTracePointContext) {
    let sk: *const u8 = ctx.arg(0);
    // SAFETY: the helper takes the typed socket.
    unsafe { bpf_get_socket_cookie(sk.cast_mut().cast()) };
}

/// The user registers of a task.
#[inline(always)]
pub(crate) fn pt_regs() -> u32 {
    // SAFETY: the helpers take nothing, and the running task.
    unsafe { (bpf_task_pt_regs(bpf_get_current_task_btf()) == 0) as u32 }
}

/// An iterator may call `bpf_getsockopt` only if it holds the lock of each socket.
#[inline(always)]
pub(crate) fn iter_locks(ctx: *const TcpIter) {
    let Some(sk) = TcpIter::socket(ctx) else { return };
    let mut value = 0u32;
    // SAFETY: the helper takes the typed socket, and writes four bytes.
    unsafe {
        bpf_getsockopt(
            sk.0.cast_mut().cast(),
            SOL_SOCKET,
            SO_RCVBUF,
            (&raw mut value).cast(),
            size_of::<u32>() as i32,
        )
    };
}
