//! The kernel side of tcpwatch: it counts, stamps and copies, and never decides meaning.
//!
//! Built for `bpfel-unknown-none` by `cargo xtask ebpf`; on the host it is an empty program.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod cell;
#[cfg(target_arch = "bpf")]
mod classic;
#[cfg(target_arch = "bpf")]
mod dump;
#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod ends;
#[cfg(target_arch = "bpf")]
mod filter;
#[cfg(target_arch = "bpf")]
mod hook;
#[cfg(target_arch = "bpf")]
mod lives;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod measure;
#[cfg(target_arch = "bpf")]
mod owners;
#[cfg(target_arch = "bpf")]
mod params;
#[cfg(target_arch = "bpf")]
mod segment;
#[cfg(target_arch = "bpf")]
mod socket;
#[cfg(target_arch = "bpf")]
mod stacks;
#[cfg(target_arch = "bpf")]
mod stories;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod transition;
#[cfg(target_arch = "bpf")]
mod typed;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::macros::{btf_tracepoint, tracepoint};
    use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};

    use crate::classic::ClassicHook;
    use crate::typed::TypedHook;
    use crate::{dump, segment, stacks, transition};

    /// `sock:inet_sock_set_state`, typed.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn set_state_tp_btf(ctx: BtfTracePointContext) -> i32 {
        transition::run(&TypedHook::new(&ctx));
        0
    }

    /// `sock:inet_sock_set_state`, classic.
    #[tracepoint]
    fn set_state_tracepoint(ctx: TracePointContext) -> u32 {
        ClassicHook::with(&ctx, |hook| transition::run(hook));
        0
    }

    /// `tcp:tcp_send_reset`, typed.
    #[btf_tracepoint(function = "tcp_send_reset")]
    fn send_reset_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::sent_typed(&ctx);
        0
    }

    /// `tcp:tcp_send_reset`, classic.
    #[tracepoint]
    fn send_reset_tracepoint(ctx: TracePointContext) -> u32 {
        segment::sent_classic(&ctx);
        0
    }

    /// `tcp:tcp_receive_reset`, typed.
    #[btf_tracepoint(function = "tcp_receive_reset")]
    fn receive_reset_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::received_typed(&ctx);
        0
    }

    /// `tcp:tcp_receive_reset`, classic.
    #[tracepoint]
    fn receive_reset_tracepoint(ctx: TracePointContext) -> u32 {
        segment::received_classic(&ctx);
        0
    }

    /// `tcp:tcp_destroy_sock`, typed.
    #[btf_tracepoint(function = "tcp_destroy_sock")]
    fn destroy_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::destroyed_typed(&ctx);
        0
    }

    /// `tcp:tcp_destroy_sock`, classic.
    #[tracepoint]
    fn destroy_tracepoint(ctx: TracePointContext) -> u32 {
        segment::destroyed_classic(&ctx);
        0
    }

    /// `tcp:tcp_retransmit_skb`, typed.
    #[btf_tracepoint(function = "tcp_retransmit_skb")]
    fn retransmit_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::sent_again_typed(&ctx, false);
        0
    }

    /// `tcp:tcp_retransmit_skb`, classic.
    #[tracepoint]
    fn retransmit_tracepoint(ctx: TracePointContext) -> u32 {
        segment::sent_again_classic(&ctx, false);
        0
    }

    /// `tcp:tcp_retransmit_synack`, typed.
    #[btf_tracepoint(function = "tcp_retransmit_synack")]
    fn synack_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::sent_again_typed(&ctx, true);
        0
    }

    /// `tcp:tcp_retransmit_synack`, classic.
    #[tracepoint]
    fn synack_tracepoint(ctx: TracePointContext) -> u32 {
        segment::sent_again_classic(&ctx, true);
        0
    }

    /// `syscalls:sys_exit_accept` and `sys_exit_accept4`.
    #[tracepoint]
    fn accepted(ctx: TracePointContext) -> u32 {
        segment::accepted(&ctx);
        0
    }

    /// `sched:sched_process_exit`.
    #[tracepoint]
    fn exited(_ctx: TracePointContext) -> u32 {
        segment::exited();
        0
    }

    /// `task:task_rename`, typed.
    #[btf_tracepoint(function = "task_rename")]
    fn rename_tp_btf(ctx: BtfTracePointContext) -> i32 {
        segment::renamed(&ctx);
        0
    }

    /// `task:task_rename`, classic.
    #[tracepoint]
    fn rename_tracepoint(ctx: TracePointContext) -> u32 {
        segment::renamed_classic(&ctx);
        0
    }

    /// `syscalls:sys_exit_accept` and `sys_exit_accept4`, for the stack there.
    #[tracepoint]
    fn stack_accepted(ctx: TracePointContext) -> u32 {
        stacks::accepted(&ctx);
        0
    }

    /// `sock:inet_sock_set_state`, for the stack at connect().
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn stack_opened(ctx: BtfTracePointContext) -> i32 {
        stacks::opened(&ctx);
        0
    }

    /// Marks every socket for the live counts.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/tcp")]
    extern "C" fn iter_mark(ctx: *const dump::TcpIter) -> i32 {
        dump::mark(ctx);
        0
    }

    /// Counts every socket.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/tcp")]
    extern "C" fn iter_count(ctx: *const dump::TcpIter) -> i32 {
        dump::count(ctx);
        0
    }

    /// Does nothing: what the hook itself costs, for `cargo xtask bench`.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn empty_tp_btf(_ctx: BtfTracePointContext) -> i32 {
        0
    }

    /// Loops, so that the verifier refuses a program in which a panic can be reached.
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// Helpers that read kernel memory are for GPL-compatible programs.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
