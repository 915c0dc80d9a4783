//! Names of programs, maps and globals in the object. The loader uses them, and a test checks that the object has them.

/// Suffix of the programs on `tp_btf/inet_sock_set_state`.
pub const TYPED: &str = "typed";
/// Suffix of the second copy of these programs, which handles events for which the kernel skips the first.
pub const TYPED_COPY: &str = "typed2";
/// Suffix of the programs on the classic tracepoint `sock:inet_sock_set_state`.
pub const CLASSIC: &str = "classic";

/// Prefix of the entry program, which is attached: `entry_typed`, `entry_typed2`, `entry_classic`.
pub const ENTRY: &str = "entry";

/// Prefixes of the programs that follow [`ENTRY`] by tail calls, in the order of the jump tables: `state_typed`, …
pub const STAGES: [&str; 9] = [
    "listen", "filter", "state", "close", "info", "latency", "held", "record", "conn",
];

/// Index in [`STAGES`]: follows `listen()` and the close of a listener.
pub const STAGE_LISTENER: u32 = 0;
/// Index in [`STAGES`]: applies the filter by ports and addresses.
pub const STAGE_FILTER: u32 = 1;
/// Index in [`STAGES`]: counts the transition and updates the state of the socket.
pub const STAGE_STATE: u32 = 2;
/// Index in [`STAGES`]: counts how a connection ended.
pub const STAGE_CLOSE: u32 = 3;
/// Index in [`STAGES`]: follows the owner and the time in each state.
pub const STAGE_INFO: u32 = 4;
/// Index in [`STAGES`]: adds to the latency histograms.
pub const STAGE_LATENCY: u32 = 5;
/// Index in [`STAGES`]: records an opening that was held back until the filter could be decided.
pub const STAGE_HELD: u32 = 6;
/// Index in [`STAGES`]: records the transition.
pub const STAGE_RECORD: u32 = 7;
/// Index in [`STAGES`]: records a finished connection.
pub const STAGE_CONNECTION: u32 = 8;

/// Index in the jump table of the second copy: the entry program of the first.
pub const FIRST_ENTRY: u32 = STAGE_CONNECTION + 1;

const _: () = assert!(FIRST_ENTRY as usize == STAGES.len());

/// Jump table of the programs with suffix [`TYPED`].
pub const MAP_STAGES_TYPED: &str = "STAGES_TYPED";
/// Jump table of the programs with suffix [`TYPED_COPY`].
pub const MAP_STAGES_TYPED_COPY: &str = "STAGES_TYPED2";
/// Jump table of the programs with suffix [`CLASSIC`].
pub const MAP_STAGES_CLASSIC: &str = "STAGES_CLASSIC";

/// The `tp_btf` program on `tcp:tcp_send_reset`.
pub const PROG_SEND_RESET_TP_BTF: &str = "send_reset_tp_btf";
/// The same program on the classic tracepoint.
pub const PROG_SEND_RESET_TRACEPOINT: &str = "send_reset_tracepoint";
/// The `tp_btf` program on `tcp:tcp_receive_reset`.
pub const PROG_RECEIVE_RESET_TP_BTF: &str = "receive_reset_tp_btf";
/// The same program on the classic tracepoint.
pub const PROG_RECEIVE_RESET_TRACEPOINT: &str = "receive_reset_tracepoint";
/// The `tp_btf` program on `tcp:tcp_destroy_sock`.
pub const PROG_DESTROY_TP_BTF: &str = "destroy_tp_btf";
/// The same program on the classic tracepoint.
pub const PROG_DESTROY_TRACEPOINT: &str = "destroy_tracepoint";
/// The `tp_btf` program on `tcp:tcp_retransmit_skb`.
pub const PROG_RETRANSMIT_TP_BTF: &str = "retransmit_tp_btf";
/// The same program on the classic tracepoint.
pub const PROG_RETRANSMIT_TRACEPOINT: &str = "retransmit_tracepoint";
/// The `tp_btf` program on `tcp:tcp_retransmit_synack`.
pub const PROG_SYNACK_TP_BTF: &str = "synack_tp_btf";
/// The same program on the classic tracepoint.
pub const PROG_SYNACK_TRACEPOINT: &str = "synack_tracepoint";
/// The program on `syscalls:sys_exit_accept` and `sys_exit_accept4`.
pub const PROG_ACCEPTED: &str = "accepted";
/// The `tp_btf` program on `task:task_rename`.
pub const PROG_RENAME_TP_BTF: &str = "rename_tp_btf";
/// The same program on the classic tracepoint.
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
/// The `iter/tcp` program that loads only where the iterator holds the lock of each socket (Linux 5.15).
pub const PROG_ITER_LOCKS: &str = "iter_locks";
/// The `tp_btf` program that loads only where tracing programs have `bpf_sk_storage_get` (Linux 5.11).
pub const PROG_HAS_SK_STORAGE: &str = "has_sk_storage";
/// The `tp_btf` program that loads only where `bpf_get_current_task_btf` exists (Linux 5.11).
pub const PROG_HAS_TASK_BTF: &str = "has_task_btf";
/// The `tp_btf` program that loads only where tracing programs have `bpf_get_socket_cookie` (Linux 5.12).
pub const PROG_HAS_COOKIE: &str = "has_cookie";
/// The `tp_btf` program that loads only where `bpf_task_pt_regs` exists (Linux 5.15).
pub const PROG_HAS_PT_REGS: &str = "has_pt_regs";
/// The program that does nothing, as a baseline for `cargo xtask bench`.
pub const PROG_EMPTY: &str = "empty_tp_btf";

/// Ring buffer of [`crate::Transition`].
pub const MAP_EVENTS: &str = "EVENTS";
/// [`crate::Ledger`], [`crate::ledger::BANKS`] entries for each CPU.
pub const MAP_LEDGER: &str = "LEDGER";
/// [`crate::ledger::Pass`], one entry for each bank and one for plain counts.
pub const MAP_PASSES: &str = "PASSES";
/// [`crate::ledger::Count`], one u32.
pub const MAP_COUNT: &str = "COUNT";
/// The three port sets.
pub const MAP_PORTS: &str = "PORTS";
/// The last event of each socket, if tracepoints are preemptible.
pub const MAP_LAST_EVENTS: &str = "LAST_EVENTS";
/// The state of each socket by its address, if sockets have no storage.
pub const MAP_STATES_BY_ADDRESS: &str = "STATES_BY_ADDR";
/// The state and info of each socket by its address, likewise.
pub const MAP_INFOS_BY_ADDRESS: &str = "INFOS_BY_ADDR";
/// [`crate::Owner`] by the address of a socket that was accepted since its last transition.
pub const MAP_ACCEPTED: &str = "ACCEPTED";
/// [`crate::owner::PortListeners`] by [`crate::owner::listener_key`].
pub const MAP_LISTENERS: &str = "LISTENERS";
/// Counts of times, by [`crate::histogram::total`].
pub const MAP_TOTALS: &str = "TOTALS";
/// Counts of times, by [`crate::histogram::BucketKey`].
pub const MAP_BUCKETS: &str = "BUCKETS";
/// The bank of [`MAP_BUCKETS`] that the BPF programs write now, one u32.
pub const MAP_BANK: &str = "BANK";
/// When a socket in an accept queue was established, by its address.
pub const MAP_WAITING: &str = "WAITING";
/// Names of listening processes, by PID.
pub const MAP_COMMS: &str = "COMMS";
/// Transitions by the inode number of their network namespace, u64 by u32.
pub const MAP_NAMESPACES: &str = "NAMESPACES";
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
