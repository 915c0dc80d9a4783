//! The BPF programs of tcpwatch. They count, timestamp and copy TCP state transitions, and do not interpret them.
//!
//! Built for `bpfel-unknown-none` by `cargo xtask ebpf`. On the host it is an empty program.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod accept;
#[cfg(target_arch = "bpf")]
mod close_info;
#[cfg(target_arch = "bpf")]
mod conn_info;
#[cfg(target_arch = "bpf")]
mod counter;
#[cfg(target_arch = "bpf")]
mod entry;
#[cfg(target_arch = "bpf")]
mod exec;
#[cfg(target_arch = "bpf")]
mod filter;
#[cfg(target_arch = "bpf")]
mod first_copy;
#[cfg(target_arch = "bpf")]
mod hook;
#[cfg(target_arch = "bpf")]
mod latency;
#[cfg(target_arch = "bpf")]
mod ledger;
#[cfg(target_arch = "bpf")]
mod listener;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod namespaces;
#[cfg(target_arch = "bpf")]
mod needs;
#[cfg(target_arch = "bpf")]
mod owner;
#[cfg(target_arch = "bpf")]
mod params;
#[cfg(target_arch = "bpf")]
mod probe;
#[cfg(target_arch = "bpf")]
mod record;
#[cfg(target_arch = "bpf")]
mod reset;
#[cfg(target_arch = "bpf")]
mod retransmit;
#[cfg(target_arch = "bpf")]
mod run;
#[cfg(target_arch = "bpf")]
mod sock;
#[cfg(target_arch = "bpf")]
mod sock_iter;
#[cfg(target_arch = "bpf")]
mod sock_state;
#[cfg(target_arch = "bpf")]
mod stacks;
#[cfg(target_arch = "bpf")]
mod state;
#[cfg(target_arch = "bpf")]
mod step;
#[cfg(target_arch = "bpf")]
mod task;
#[cfg(target_arch = "bpf")]
mod words;

/// The entry program of a hook, and the programs it calls in turn.
#[cfg(target_arch = "bpf")]
macro_rules! chain {
    (
        $attribute:meta, $context:ty, $hook:ty, $result:ty,
        $entry:ident, $listener:ident, $filter:ident, $state:ident, $close:ident, $info:ident, $latency:ident, $held:ident,
        $record:ident, $conn:ident
    ) => {
        /// Checks whether to handle the event, and starts its run. Also counts it, if no other program runs before `state`.
        #[$attribute]
        fn $entry(ctx: $context) -> $result {
            entry::enter::<$hook>(&ctx);
            0
        }
        /// Tracks listen() and the close of a listener.
        #[$attribute]
        fn $listener(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_LISTENER, |hook, run, _| {
                listener::follow(hook, run)
            });
            0
        }
        /// Applies the filter by ports and addresses.
        #[$attribute]
        fn $filter(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_FILTER, |hook, run, storage| {
                filter::apply(hook, run, storage)
            });
            0
        }
        /// Counts the transition and updates the state of the socket.
        #[$attribute]
        fn $state(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_STATE, |hook, run, storage| {
                state::count(hook, run, storage)
            });
            0
        }
        /// Counts how the connection ended.
        #[$attribute]
        fn $close(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_CLOSE, |_, run, _| close_info::count(run));
            0
        }
        /// Updates the owner and the time in each state.
        #[$attribute]
        fn $info(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_INFO, |hook, run, storage| {
                conn_info::follow(hook, run, storage)
            });
            0
        }
        /// Adds to the latency histograms.
        #[$attribute]
        fn $latency(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_LATENCY, |hook, run, _| {
                latency::measure(hook, run)
            });
            0
        }
        /// Records the opening that was held back.
        #[$attribute]
        fn $held(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_HELD, |hook, run, _| {
                record::send_held(hook, run)
            });
            0
        }
        /// Records the transition.
        #[$attribute]
        fn $record(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_RECORD, |hook, run, _| {
                record::send_transition(hook, run)
            });
            0
        }
        /// Records the finished connection.
        #[$attribute]
        fn $conn(ctx: $context) -> $result {
            run::resume::<$hook>(&ctx, names::STAGE_CONNECTION, |hook, run, storage| {
                record::send_connection(hook, run, storage)
            });
            0
        }
    };
}

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::macros::{btf_tracepoint, tracepoint};
    use aya_ebpf::programs::{BtfTracePointContext, TracePointContext};
    use tcpwatch_common::names;

    use crate::hook::classic::ClassicHook;
    use crate::hook::typed::TypedHook;
    use crate::hook::{FIRST, SECOND};
    use crate::sock_iter::{self, TcpIter};
    use crate::{
        accept, close_info, conn_info, entry, exec, filter, latency, listener, probe, record, reset, retransmit, run,
        stacks, state,
    };

    chain!(
        btf_tracepoint(function = "inet_sock_set_state"),
        BtfTracePointContext,
        TypedHook<'_, FIRST>,
        i32,
        entry_typed,
        listen_typed,
        filter_typed,
        state_typed,
        close_typed,
        info_typed,
        latency_typed,
        held_typed,
        record_typed,
        conn_typed
    );
    chain!(
        btf_tracepoint(function = "inet_sock_set_state"),
        BtfTracePointContext,
        TypedHook<'_, SECOND>,
        i32,
        entry_typed2,
        listen_typed2,
        filter_typed2,
        state_typed2,
        close_typed2,
        info_typed2,
        latency_typed2,
        held_typed2,
        record_typed2,
        conn_typed2
    );
    chain!(
        tracepoint,
        TracePointContext,
        ClassicHook<'_>,
        u32,
        entry_classic,
        listen_classic,
        filter_classic,
        state_classic,
        close_classic,
        info_classic,
        latency_classic,
        held_classic,
        record_classic,
        conn_classic
    );

    /// `tcp:tcp_send_reset`, typed.
    #[btf_tracepoint(function = "tcp_send_reset")]
    fn send_reset_tp_btf(ctx: BtfTracePointContext) -> i32 {
        reset::sent_typed(&ctx);
        0
    }

    /// `tcp:tcp_send_reset`, classic.
    #[tracepoint]
    fn send_reset_tracepoint(ctx: TracePointContext) -> u32 {
        reset::sent_classic(&ctx);
        0
    }

    /// `tcp:tcp_receive_reset`, typed.
    #[btf_tracepoint(function = "tcp_receive_reset")]
    fn receive_reset_tp_btf(ctx: BtfTracePointContext) -> i32 {
        reset::received_typed(&ctx);
        0
    }

    /// `tcp:tcp_receive_reset`, classic.
    #[tracepoint]
    fn receive_reset_tracepoint(ctx: TracePointContext) -> u32 {
        reset::received_classic(&ctx);
        0
    }

    /// `tcp:tcp_destroy_sock`, typed.
    #[btf_tracepoint(function = "tcp_destroy_sock")]
    fn destroy_tp_btf(ctx: BtfTracePointContext) -> i32 {
        reset::destroyed_typed(&ctx);
        0
    }

    /// `tcp:tcp_destroy_sock`, classic.
    #[tracepoint]
    fn destroy_tracepoint(ctx: TracePointContext) -> u32 {
        reset::destroyed_classic(&ctx);
        0
    }

    /// `tcp:tcp_retransmit_skb`, typed.
    #[btf_tracepoint(function = "tcp_retransmit_skb")]
    fn retransmit_tp_btf(ctx: BtfTracePointContext) -> i32 {
        retransmit::segment_typed(&ctx);
        0
    }

    /// `tcp:tcp_retransmit_skb`, classic.
    #[tracepoint]
    fn retransmit_tracepoint(ctx: TracePointContext) -> u32 {
        retransmit::segment_classic(&ctx);
        0
    }

    /// `tcp:tcp_retransmit_synack`, typed.
    #[btf_tracepoint(function = "tcp_retransmit_synack")]
    fn synack_tp_btf(ctx: BtfTracePointContext) -> i32 {
        retransmit::synack_typed(&ctx);
        0
    }

    /// `tcp:tcp_retransmit_synack`, classic.
    #[tracepoint]
    fn synack_tracepoint(ctx: TracePointContext) -> u32 {
        retransmit::synack_classic(&ctx);
        0
    }

    /// `syscalls:sys_exit_accept` and `sys_exit_accept4`.
    #[tracepoint]
    fn accepted(ctx: TracePointContext) -> u32 {
        accept::returned(&ctx);
        0
    }

    /// `sched:sched_process_exit`.
    #[tracepoint]
    fn exited(_ctx: TracePointContext) -> u32 {
        exec::exited();
        0
    }

    /// `task:task_rename`, typed.
    #[btf_tracepoint(function = "task_rename")]
    fn rename_tp_btf(ctx: BtfTracePointContext) -> i32 {
        exec::renamed_typed(&ctx);
        0
    }

    /// `task:task_rename`, classic.
    #[tracepoint]
    fn rename_tracepoint(ctx: TracePointContext) -> u32 {
        exec::renamed_classic(&ctx);
        0
    }

    /// `syscalls:sys_exit_accept` and `sys_exit_accept4`: copies the user stack.
    #[tracepoint]
    fn stack_accepted(ctx: TracePointContext) -> u32 {
        stacks::accepted(&ctx);
        0
    }

    /// `sock:inet_sock_set_state`: copies the user stack at connect().
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn stack_opened(ctx: BtfTracePointContext) -> i32 {
        stacks::opened(&ctx);
        0
    }

    /// Marks every socket for the live counts.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/tcp")]
    extern "C" fn iter_mark(ctx: *const TcpIter) -> i32 {
        sock_iter::mark(ctx);
        0
    }

    /// Counts every socket.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/tcp")]
    extern "C" fn iter_count(ctx: *const TcpIter) -> i32 {
        sock_iter::count(ctx);
        0
    }

    /// Loads only if the iterator holds the lock of each socket.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "iter/tcp")]
    extern "C" fn iter_locks(ctx: *const TcpIter) -> i32 {
        probe::iter_locks(ctx);
        0
    }

    /// Loads only if tracing programs have `bpf_sk_storage_get`.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn has_sk_storage(ctx: BtfTracePointContext) -> i32 {
        probe::sk_storage(&ctx);
        0
    }

    /// Loads only if tracing programs have `bpf_get_socket_cookie`.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn has_cookie(ctx: BtfTracePointContext) -> i32 {
        probe::cookie(&ctx);
        0
    }

    /// Loads only if `bpf_get_current_task_btf` exists.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn has_task_btf(_ctx: BtfTracePointContext) -> i32 {
        probe::task_btf() as i32
    }

    /// Loads only if `bpf_task_pt_regs` exists.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn has_pt_regs(_ctx: BtfTracePointContext) -> i32 {
        probe::pt_regs() as i32
    }

    /// Does nothing. `cargo xtask bench` measures the cost of the hook with it.
    #[btf_tracepoint(function = "inet_sock_set_state")]
    fn empty_tp_btf(_ctx: BtfTracePointContext) -> i32 {
        0
    }

    /// Loops, so that the verifier refuses a program that can reach a panic.
    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    /// Helpers that read kernel memory require a GPL-compatible license.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
