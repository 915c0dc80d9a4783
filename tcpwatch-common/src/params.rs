//! Parameters that the loader writes into `.rodata`: offsets of the running kernel's fields, and switches.

use bytemuck::{Pod, Zeroable};

/// The offset of a field that the running kernel does not have or does not show.
pub const ABSENT: u32 = u32::MAX;

/// Byte offsets of fields, from the kernel's BTF. The fields are in `struct sock`, in structures that contain it, or in structures
/// that it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct SockLayout {
    /// 1 if the offsets below are known.
    pub known: u32,
    /// `sk.__sk_common.skc_family`, u16.
    pub family: u32,
    /// `sk.__sk_common.skc_state`, u8.
    pub state: u32,
    /// `sk.__sk_common.skc_num`, u16, host order.
    pub num: u32,
    /// `sk.__sk_common.skc_dport`, u16, network order.
    pub dport: u32,
    /// `sk.__sk_common.skc_rcv_saddr`, u32.
    pub saddr: u32,
    /// `sk.__sk_common.skc_daddr`, u32.
    pub daddr: u32,
    /// `sk.__sk_common.skc_v6_rcv_saddr`, 16 bytes.
    pub saddr_v6: u32,
    /// `sk.__sk_common.skc_v6_daddr`, 16 bytes.
    pub daddr_v6: u32,
    /// `sk.__sk_common.skc_bound_dev_if`, i32.
    pub ifindex: u32,
    /// `sk.__sk_common.skc_net.net`, pointer.
    pub net: u32,
    /// `sk.__sk_common.skc_cookie`, u64.
    pub cookie: u32,
    /// `net.ns.inum`, u32, from the start of `struct net`.
    pub net_inum: u32,
    /// `sk.sk_protocol`, u16 or the low half of it.
    pub protocol: u32,
    /// `inet_sock.inet_sport`, u16, network order.
    pub sport: u32,
    /// `inet_timewait_sock.tw_substate`, u8.
    pub tw_substate: u32,
    /// `sk.sk_err`, i32.
    pub err: u32,
    /// `sk.__sk_common.skc_flags` (`sk_flags`), unsigned long.
    pub flags: u32,
    /// `sk.sk_shutdown`, u8.
    pub shutdown: u32,
    /// `sk.sk_socket`, pointer.
    pub socket: u32,
    /// `sk.sk_bpf_storage`, pointer; [`ABSENT`] if sockets have no storage for programs.
    pub storage: u32,
    /// From a `struct socket` to the number of its inode (`socket_alloc.vfs_inode.i_ino`), unsigned long.
    pub socket_inode: u32,
    /// `tcp_sock.snd_una`, u32. This and the next offsets start at `struct tcp_sock`, which starts with the socket.
    pub snd_una: u32,
    /// `tcp_sock.write_seq`, u32.
    pub write_seq: u32,
    /// `tcp_sock.snd_nxt`, u32.
    pub snd_nxt: u32,
    /// `tcp_sock.bytes_acked`, u64.
    pub bytes_acked: u32,
    /// `tcp_sock.bytes_sent`, u64.
    pub bytes_sent: u32,
    /// `tcp_sock.bytes_retrans`, u64.
    pub bytes_retrans: u32,
    /// `tcp_sock.bytes_received`, u64.
    pub bytes_received: u32,
    /// `tcp_sock.srtt_us`, u32, eighths of us.
    pub srtt_us: u32,
    /// `tcp_sock.total_retrans`, u32.
    pub total_retrans: u32,
}

impl SockLayout {
    /// No offset is known: no field may be read.
    pub const UNKNOWN: Self = Self {
        known: 0,
        family: 0,
        state: 0,
        num: 0,
        dport: 0,
        saddr: 0,
        daddr: 0,
        saddr_v6: 0,
        daddr_v6: 0,
        ifindex: 0,
        net: 0,
        cookie: 0,
        net_inum: 0,
        protocol: 0,
        sport: 0,
        tw_substate: ABSENT,
        err: 0,
        flags: 0,
        shutdown: 0,
        socket: 0,
        storage: ABSENT,
        socket_inode: 0,
        snd_una: 0,
        write_seq: 0,
        snd_nxt: 0,
        bytes_acked: 0,
        bytes_sent: 0,
        bytes_retrans: 0,
        bytes_received: 0,
        srtt_us: 0,
        total_retrans: 0,
    };
}

/// Byte offsets for the path from a task to its sockets, from the kernel's BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct TaskLayout {
    /// 1 if the offsets below are known.
    pub known: u32,
    /// `task_struct.flags`, u32 (`PF_*`).
    pub flags: u32,
    /// `task_struct.tgid`, i32.
    pub tgid: u32,
    /// `task_struct.pid`, i32.
    pub pid: u32,
    /// `task_struct.group_leader`, pointer.
    pub group_leader: u32,
    /// `task_struct.comm`, 16 bytes.
    pub comm: u32,
    /// `task_struct.signal`, pointer to the data that all threads of a process share.
    pub signal: u32,
    /// `signal_struct.live`, i32: number of live threads.
    pub live: u32,
    /// `task_struct.start_boottime`, u64, ns.
    pub start_boottime: u32,
    /// `task_struct.self_exec_id`, its low u32.
    pub self_exec_id: u32,
    /// Size of `struct pt_regs`, at most [`crate::stack::REGISTER_BYTES`], bytes.
    pub registers: u32,
    /// `pt_regs.sp`, u64.
    pub stack_pointer: u32,
    /// `task_struct.mm`, pointer; [`ABSENT`] if unknown.
    pub mm: u32,
    /// `mm_struct.start_stack`, u64: the start of the first thread's stack.
    pub start_stack: u32,
    /// The thread pointer of a task (`task_struct.thread.fsbase` on x86-64, `thread.uw.tp_value` on aarch64), u64. C libraries
    /// place its target at the start of the stack of all threads except the first. [`ABSENT`] if unknown.
    pub thread_pointer: u32,
    /// `task_struct.stack`, pointer to the kernel stack; [`ABSENT`] if `bpf_task_pt_regs` finds the user registers (Linux
    /// 5.15).
    pub stack: u32,
    /// Size of a kernel stack (`THREAD_SIZE`), bytes.
    pub stack_bytes: u32,
    /// Size of `struct pt_regs`, which is at the end of the kernel stack, bytes.
    pub pt_regs_bytes: u32,
    /// `task_struct.thread_pid`, pointer.
    pub thread_pid: u32,
    /// `task_struct.files`, pointer.
    pub files: u32,
    /// `files_struct.fdt`, pointer.
    pub fdt: u32,
    /// `fdtable.max_fds`, u32.
    pub max_fds: u32,
    /// `fdtable.fd`, pointer to an array of pointers.
    pub fd: u32,
    /// `file.private_data`, pointer; to a `struct socket` if the file is a socket.
    pub private_data: u32,
    /// `socket.sk`, pointer.
    pub sk: u32,
    /// `socket.file`, pointer, back to the file.
    pub socket_file: u32,
    /// `pid.level`, u32.
    pub level: u32,
    /// `pid.numbers`, an array of `struct upid`.
    pub numbers: u32,
    /// Size of `struct upid`, bytes.
    pub upid_size: u32,
    /// `upid.ns`, pointer; `upid.nr` is at 0.
    pub upid_ns: u32,
    /// `pid_namespace.ns.inum`, u32.
    pub ns_inum: u32,
    /// Inode number of the PID namespace of the reader; 0 for the initial namespace, in which all processes have a PID.
    pub pidns: u32,
}

impl TaskLayout {
    /// No offset is known: no field may be read.
    pub const UNKNOWN: Self = Self {
        known: 0,
        flags: 0,
        tgid: 0,
        pid: 0,
        group_leader: 0,
        comm: 0,
        signal: 0,
        live: 0,
        start_boottime: ABSENT,
        self_exec_id: ABSENT,
        registers: 0,
        stack_pointer: ABSENT,
        mm: ABSENT,
        start_stack: ABSENT,
        thread_pointer: ABSENT,
        stack: ABSENT,
        stack_bytes: 0,
        pt_regs_bytes: 0,
        thread_pid: 0,
        files: 0,
        fdt: 0,
        max_fds: 0,
        fd: 0,
        private_data: 0,
        sk: 0,
        socket_file: 0,
        level: 0,
        numbers: 0,
        upid_size: 0,
        upid_ns: 0,
        ns_inum: 0,
        pidns: 0,
    };
}

/// Byte offsets in the records of the other classic tracepoints, from tracefs `format`; [`ABSENT`] if the kernel has no such
/// field, or describes it in an implausible way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ResetLayout {
    /// `skaddr` of `tcp:tcp_send_reset`, pointer.
    pub send_skaddr: u32,
    /// `reason` of `tcp:tcp_send_reset`, i32; not before Linux 6.10.
    pub send_reason: u32,
    /// `skaddr` of `tcp:tcp_receive_reset`, pointer.
    pub receive_skaddr: u32,
    /// `skaddr` of `tcp:tcp_destroy_sock`, pointer.
    pub destroy_skaddr: u32,
    /// `skaddr` of `tcp:tcp_retransmit_skb`, pointer.
    pub retransmit_skaddr: u32,
    /// `skaddr` of `tcp:tcp_retransmit_synack`, pointer.
    pub synack_skaddr: u32,
    /// `req` of `tcp:tcp_retransmit_synack`, pointer.
    pub synack_req: u32,
    /// `pid` of `task:task_rename`, i32; Linux 6.17 has none.
    pub rename_pid: u32,
    /// `newcomm` of `task:task_rename`, 16 bytes.
    pub rename_comm: u32,
    /// `ret` of `syscalls:sys_exit_accept` and `sys_exit_accept4`, i64.
    pub accept_ret: u32,
    /// 1 if `tp_btf/tcp_send_reset` has a reason.
    pub typed_reason: u32,
}

impl ResetLayout {
    /// No offset is known.
    pub const UNKNOWN: Self = Self {
        send_skaddr: ABSENT,
        send_reason: ABSENT,
        receive_skaddr: ABSENT,
        destroy_skaddr: ABSENT,
        retransmit_skaddr: ABSENT,
        synack_skaddr: ABSENT,
        synack_req: ABSENT,
        rename_pid: ABSENT,
        rename_comm: ABSENT,
        accept_ret: ABSENT,
        typed_reason: 0,
    };
}

/// Byte offsets in the record of the classic tracepoint, from tracefs `format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct ClassicLayout {
    /// `skaddr`, pointer.
    pub skaddr: u32,
    /// `oldstate`, i32.
    pub oldstate: u32,
    /// `newstate`, i32.
    pub newstate: u32,
    /// `sport`, u16, host order.
    pub sport: u32,
    /// `dport`, u16, host order.
    pub dport: u32,
    /// `family`, u16.
    pub family: u32,
    /// `protocol`, u16 since 5.6, which is older than the ring buffer.
    pub protocol: u32,
    /// `saddr`, 4 bytes.
    pub saddr: u32,
    /// `daddr`, 4 bytes.
    pub daddr: u32,
    /// `saddr_v6`, 16 bytes.
    pub saddr_v6: u32,
    /// `daddr_v6`, 16 bytes.
    pub daddr_v6: u32,
}

impl ClassicLayout {
    /// No offset is known: the classic hook must not run.
    pub const UNKNOWN: Self = Self {
        skaddr: 0,
        oldstate: 0,
        newstate: 0,
        sport: 0,
        dport: 0,
        family: 0,
        protocol: 0,
        saddr: 0,
        daddr: 0,
        saddr_v6: 0,
        daddr_v6: 0,
    };
}

/// The longest record of the classic tracepoint that the BPF programs can read, bytes.
pub const CLASSIC_RECORD_MAX: usize = 96;

/// [`Params::needs`]: a record for every transition.
pub const NEED_TRANSITIONS: u32 = 1 << 0;
/// [`Params::needs`]: a record for every finished connection.
pub const NEED_CONNECTIONS: u32 = 1 << 1;
/// [`Params::needs`]: a record for every transition to `ESTABLISHED`.
pub const NEED_OPENINGS: u32 = 1 << 2;
/// [`Params::needs`]: the owner of each connection.
pub const NEED_OWNERS: u32 = 1 << 3;
/// [`Params::needs`]: latency histograms.
pub const NEED_LATENCY: u32 = 1 << 4;
/// [`Params::needs`]: ports or addresses, for the filter.
pub const NEED_ENDPOINTS: u32 = 1 << 5;
/// [`Params::needs`]: the number of transitions of each network namespace.
pub const NEED_NAMESPACES: u32 = 1 << 6;
/// Needs with a program of the chain before `state`.
pub const BEFORE_STATE: u32 = NEED_OWNERS | NEED_ENDPOINTS;

/// Entries of the table of last events, if tracepoints are preemptible, as a power of two.
pub const LAST_EVENTS_BITS: u32 = 16;

/// The needs of the command, and the features of the running kernel. The verifier removes branches that a switch turns off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Params {
    /// The needs beyond counts, a set of `NEED_*`.
    pub needs: u32,
    /// How to group the latency histograms, if any.
    pub latency_by: u32,
    /// 1 to group the latency histograms by owner, too.
    pub latency_owners: u32,
    /// The number of possible CPUs. It lets each ledger number connections without a shared counter.
    pub cpus: u32,
    /// Unread bytes at which the reader is woken.
    pub wake_bytes: u32,
    /// A CPU checks whether to wake the reader when its number of sent records has none of these bits.
    pub wake_mask: u32,
    /// 1 to keep the state of a socket in its storage (`bpf_sk_storage_get`, for tracing programs since Linux 5.11); 0 for a
    /// table by socket address.
    pub sk_storage: u32,
    /// 1 if `iter/tcp` marks the sockets that were open before the start, so that the counts are exact from the first row.
    pub marks: u32,
    /// Offset of `bpf_prog.active`, a pointer to four bytes of each CPU, which are zero if the program is not running there.
    /// The second copy of the programs reads them.
    pub prog_active: u32,
    /// Offset of `bpf_array.value`: the values of an array map, or pointers to them.
    pub array_values: u32,
    /// 1 if another thread may run between the two copies of the programs, because tracepoints are preemptible (Linux 7.0).
    pub preemptible: u32,
    /// 1 if `bpf_get_current_task_btf` exists (Linux 5.11).
    pub task_btf: u32,
    /// 1 if a tracing program may call `bpf_get_socket_cookie` (Linux 5.12).
    pub socket_cookie: u32,
    /// 1 if no program sees the destruction of a socket: the table by address then drops it at `*>CLOSE`.
    pub forget_at_close: u32,
}

impl Params {
    /// Only counts, on a kernel without optional features.
    pub const COUNTS: Self = Self {
        needs: 0,
        latency_by: 0,
        latency_owners: 0,
        cpus: 1,
        wake_bytes: 0,
        wake_mask: 0,
        sk_storage: 0,
        marks: 0,
        prog_active: ABSENT,
        array_values: ABSENT,
        preemptible: 0,
        task_btf: 0,
        socket_cookie: 0,
        forget_at_close: 0,
    };
}
