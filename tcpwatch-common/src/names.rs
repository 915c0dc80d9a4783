//! Names of programs, maps and globals in the object: written once, used by the loader, proven by a test.

/// The `tp_btf` program.
pub const PROG_TP_BTF: &str = "set_state_tp_btf";
/// The classic tracepoint program.
pub const PROG_TRACEPOINT: &str = "set_state_tracepoint";
/// The `tp_btf` program on `tcp:tcp_send_reset`.
pub const PROG_SEND_RESET_TP_BTF: &str = "send_reset_tp_btf";
/// The classic one.
pub const PROG_SEND_RESET_TRACEPOINT: &str = "send_reset_tracepoint";
/// The `tp_btf` program on `tcp:tcp_receive_reset`.
pub const PROG_RECEIVE_RESET_TP_BTF: &str = "receive_reset_tp_btf";
/// The classic one.
pub const PROG_RECEIVE_RESET_TRACEPOINT: &str = "receive_reset_tracepoint";
/// The `tp_btf` program on `tcp:tcp_destroy_sock`.
pub const PROG_DESTROY_TP_BTF: &str = "destroy_tp_btf";
/// The classic one.
pub const PROG_DESTROY_TRACEPOINT: &str = "destroy_tracepoint";
/// The `tp_btf` program on `tcp:tcp_retransmit_skb`.
pub const PROG_RETRANSMIT_TP_BTF: &str = "retransmit_tp_btf";
/// The classic one.
pub const PROG_RETRANSMIT_TRACEPOINT: &str = "retransmit_tracepoint";
/// The `tp_btf` program on `tcp:tcp_retransmit_synack`.
pub const PROG_SYNACK_TP_BTF: &str = "synack_tp_btf";
/// The classic one.
pub const PROG_SYNACK_TRACEPOINT: &str = "synack_tracepoint";
/// The program on `syscalls:sys_exit_accept` and `sys_exit_accept4`.
pub const PROG_ACCEPTED: &str = "accepted";
/// The `tp_btf` program on `task:task_rename`.
pub const PROG_RENAME_TP_BTF: &str = "rename_tp_btf";
/// The classic one.
pub const PROG_RENAME_TRACEPOINT: &str = "rename_tracepoint";
/// The program on `sched:sched_process_exit`.
pub const PROG_EXITED: &str = "exited";
/// The program on `syscalls:sys_exit_accept` and `sys_exit_accept4` that copies user stacks.
pub const PROG_STACK_ACCEPTED: &str = "stack_accepted";
/// The `tp_btf` program that copies user stacks at `connect()`.
pub const PROG_STACK_OPENED: &str = "stack_opened";
/// The `iter/tcp` program that marks sockets for the live counts.
pub const PROG_ITER_MARK: &str = "iter_mark";
/// The `iter/tcp` program that counts sockets.
pub const PROG_ITER_COUNT: &str = "iter_count";
/// The program that does nothing, for `cargo xtask bench` to compare with.
pub const PROG_EMPTY: &str = "empty_tp_btf";

/// Ring buffer of [`crate::Transition`].
pub const MAP_EVENTS: &str = "EVENTS";
/// [`crate::Ledger`], one entry a CPU.
pub const MAP_LEDGER: &str = "LEDGER";
/// [`crate::ledger::Pass`], one entry a bank and one for counting.
pub const MAP_PASSES: &str = "PASSES";
/// [`crate::ledger::Count`], one u32.
pub const MAP_COUNT: &str = "COUNT";
/// The three port sets.
pub const MAP_PORTS: &str = "PORTS";
/// Lives by socket address, of the classic hook.
pub const MAP_LIVES_BY_ADDRESS: &str = "LIVES_BY_ADDRESS";
/// What is told of a connection at its end, by socket address, of the classic hook.
pub const MAP_STORIES_BY_ADDRESS: &str = "STORIES_BY_ADDRESS";
/// [`crate::Owner`] by the address of a socket accepted since its last transition.
pub const MAP_ACCEPTED: &str = "ACCEPTED";
/// [`crate::owner::Listener`] by [`crate::owner::listener_key`].
pub const MAP_LISTENERS: &str = "LISTENERS";
/// [`crate::histogram::Lengths`] a CPU, by [`crate::histogram::HistogramKey`].
pub const MAP_HISTOGRAMS: &str = "HISTOGRAMS";
/// When a socket that waits to be accepted was established, by its address.
pub const MAP_WAITING: &str = "WAITING";
/// Names of the processes that listen, by pid.
pub const MAP_COMMS: &str = "COMMS";
/// Ring buffer of [`crate::StackCopy`].
pub const MAP_STACKS: &str = "STACKS";

/// [`crate::Filter`].
pub const GLOBAL_FILTER: &str = "FILTER";
/// [`crate::SockLayout`].
pub const GLOBAL_SOCK: &str = "SOCK";
/// [`crate::ClassicLayout`].
pub const GLOBAL_CLASSIC: &str = "CLASSIC";
/// [`crate::ResetLayout`].
pub const GLOBAL_RESET: &str = "RESET";
/// [`crate::TaskLayout`].
pub const GLOBAL_TASK: &str = "TASK";
/// [`crate::Params`].
pub const GLOBAL_PARAMS: &str = "PARAMS";
/// [`crate::ABI_VERSION`] of the object.
pub const GLOBAL_ABI: &str = "TCPWATCH_ABI";
