//! Finds the fields of sockets and tasks in the running kernel, from its type information (BTF).

#[cfg(test)]
pub(crate) mod builder;
mod fields;
#[cfg(test)]
mod tests;
mod types;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use aya::{Btf, Endianness};
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::stack::REGISTER_BYTES;
use tcpwatch_common::{SockLayout, TaskLayout};

use self::fields::{Structure, Value};
use self::types::{Kind, Types};
use super::host_root::{HostRoot, why};

/// Path of the BTF, below the root.
const PATH: &str = "sys/kernel/btf/vmlinux";

/// The maximum number of bytes to read. Kernels of distributions have 3 to 6 MB of BTF.
const MAX_BYTES: u64 = 64 << 20;

/// Size of a task's kernel stack on x86-64, and on aarch64 with 4 KiB pages (`THREAD_SIZE`), bytes. Needed only before Linux
/// 5.15.
const THREAD_SIZE: u32 = 16_384;

/// Name prefixes of the types by which aya finds hooks: typedefs of tracepoints, and the function of an iterator.
const HOOKS: &[&[u8]] = &[
    b"btf_trace_inet_sock_",
    b"btf_trace_tcp_",
    b"btf_trace_task_",
    b"bpf_iter_tcp",
];

/// The field of the thread pointer in a task.
const THREAD_POINTER: &[&str] = if cfg!(target_arch = "aarch64") {
    &["thread", "uw", "tp_value"]
} else {
    &["thread", "fsbase"]
};

/// The path of the kernel's BTF below `root`.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join(PATH)
}

/// The kernel's types, as far as the BPF programs need them.
#[derive(Clone, Debug)]
pub struct Layouts {
    /// The fields of a socket.
    pub sock: SockLayout,
    /// The path from a task to its sockets.
    pub task: TaskLayout,
    /// Why `task` is unknown.
    pub task_unknown: Option<String>,
    /// Whether `tcp:tcp_send_reset` has a reason (Linux 6.10 and later).
    pub typed_reason: bool,
    /// The numbers and names of reset reasons (`enum sk_rst_reason`); empty before Linux 6.10.
    pub reasons: Vec<(u8, String)>,
    /// Whether the kernel counts skipped runs of classic programs (Linux 6.7). The patch series with this counter also added
    /// the field `perf_event.kprobe.missed` to `struct bpf_link_info`.
    pub counts_classic_skips: bool,
    /// Where the kernel counts the active runs of a program; `None` if it does not.
    pub runs: Option<RunsLayout>,
}

/// Offsets to find the number of active runs of a program on a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunsLayout {
    /// `bpf_prog.active`, pointer to four bytes of each CPU.
    pub prog_active: u32,
    /// `bpf_array.value`.
    pub array_values: u32,
    /// Whether another thread may run between two programs of one tracepoint. No type shows this directly. `active` is `u8 *`
    /// since Linux 7.0, and tracepoints are preemptible since the same release.
    pub preemptible: bool,
}

impl Layouts {
    /// No layout is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            sock: SockLayout::UNKNOWN,
            task: TaskLayout::UNKNOWN,
            task_unknown: None,
            typed_reason: false,
            reasons: Vec::new(),
            counts_classic_skips: false,
            runs: None,
        }
    }
}

/// The kernel's BTF, read and checked once.
#[derive(Debug)]
pub struct KernelBtf(Types);

impl KernelBtf {
    /// Reads the BTF of the kernel below `root`. It is not mapped, because the kernel supports mmap(2) of BTF only since Linux
    /// 6.16.
    ///
    /// # Errors
    /// One line: there is no BTF, it cannot be read, or it is corrupt.
    pub fn read(root: &Path) -> Result<Self> {
        let shown = path(root);
        let bytes = read(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow!(
                "this kernel has no BTF: {} does not exist; try a kernel with CONFIG_DEBUG_INFO_BTF",
                shown.display()
            ),
            _ => anyhow!("cannot read the kernel's BTF at {}: {}", shown.display(), why(&error)),
        })?;
        Self::parse(&bytes).with_context(|| format!("cannot use the kernel's BTF at {}", shown.display()))
    }

    /// Checks `bytes`. No later use of the returned value panics or runs for long.
    ///
    /// # Errors
    /// They are not BTF, or they are corrupt.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        Types::check(bytes).map(Self)
    }

    /// The types by which aya finds the hooks, and no others: aya would need more time to read all types than this check does.
    ///
    /// # Errors
    /// aya cannot read them.
    pub fn aya(&self) -> Result<Btf> {
        let bytes = self.0.names_only(HOOKS);
        Btf::parse(&bytes, Endianness::default()).context("cannot use the kernel's BTF")
    }

    /// The layouts for the BPF programs.
    ///
    /// # Errors
    /// A field of a socket is missing or not plausible.
    pub fn layouts(&self) -> Result<Layouts> {
        let task = self.task();
        Ok(Layouts {
            sock: self.sock().context("cannot use the kernel's BTF")?,
            task_unknown: task.as_ref().err().map(|why| format!("{why:#}")),
            task: task.unwrap_or(TaskLayout::UNKNOWN),
            typed_reason: self.has_typed_reason(),
            reasons: self.reasons(),
            counts_classic_skips: self.counts_classic_skips(),
            runs: self.runs().unwrap_or(None),
        })
    }

    /// Offset and size of `field` in the first of `structures` that the kernel has; `None` if it has none of them. The kernel
    /// describes the record of each tracepoint by such a structure.
    ///
    /// # Errors
    /// The structure has no such field, or the field is not plausible.
    pub fn record_field(&self, structures: &[&str], field: &str) -> Result<Option<(u32, u64)>> {
        let Some(found) = structures.iter().find_map(|name| Structure::find(&self.0, name).ok()) else {
            return Ok(None);
        };
        let found = found.field(&[field])?;
        let found = found.with_context(|| format!("there is no field {field}"))?;
        Ok(Some((found.offset, found.bytes)))
    }

    fn sock(&self) -> Result<SockLayout> {
        let mut layout = SockLayout {
            known: 1,
            ..SockLayout::UNKNOWN
        };
        // One pointer serves all four structures, because each starts with the one before.
        let common = Structure::find(&self.0, "sock_common")?;
        layout.family = common.offset(&["skc_family"], Value::U16)?;
        layout.state = common.offset(&["skc_state"], Value::U8)?;
        layout.num = common.offset(&["skc_num"], Value::U16)?;
        layout.dport = common.offset(&["skc_dport"], Value::U16)?;
        layout.saddr = common.offset(&["skc_rcv_saddr"], Value::U32)?;
        layout.daddr = common.offset(&["skc_daddr"], Value::U32)?;
        // A kernel without IPv6 does not have these fields.
        let v6 = |field: &str| common.offset_if_any(&[field], Value::IPV6_ADDRESS);
        layout.saddr_v6 = v6("skc_v6_rcv_saddr")?.unwrap_or(ABSENT);
        layout.daddr_v6 = v6("skc_v6_daddr")?.unwrap_or(ABSENT);
        layout.ifindex = common.offset(&["skc_bound_dev_if"], Value::U32)?;
        layout.net = common.offset(&["skc_net", "net"], Value::POINTER)?;
        layout.cookie = common.offset(&["skc_cookie"], Value::U64)?;
        layout.flags = common.offset(&["skc_flags"], Value::U64)?;
        let sock = common.wider("sock")?;
        layout.protocol = sock.offset(&["sk_protocol"], Value::U16)?;
        layout.err = sock.offset(&["sk_err"], Value::U32)?;
        layout.shutdown = sock.offset(&["sk_shutdown"], Value::U8)?;
        layout.socket = sock.offset(&["sk_socket"], Value::POINTER)?;
        let storage = sock.offset_if_any(&["sk_bpf_storage"], Value::POINTER)?;
        layout.storage = storage.unwrap_or(ABSENT);
        let inet = sock.wider("inet_sock")?;
        layout.sport = inet.offset(&["inet_sport"], Value::U16)?;
        let tcp = inet.wider("tcp_sock")?;
        layout.snd_una = tcp.offset(&["snd_una"], Value::U32)?;
        layout.write_seq = tcp.offset(&["write_seq"], Value::U32)?;
        layout.snd_nxt = tcp.offset(&["snd_nxt"], Value::U32)?;
        layout.bytes_acked = tcp.offset(&["bytes_acked"], Value::U64)?;
        layout.bytes_sent = tcp.offset(&["bytes_sent"], Value::U64)?;
        layout.bytes_retrans = tcp.offset(&["bytes_retrans"], Value::U64)?;
        layout.bytes_received = tcp.offset(&["bytes_received"], Value::U64)?;
        layout.srtt_us = tcp.offset(&["srtt_us"], Value::U32)?;
        layout.total_retrans = tcp.offset(&["total_retrans"], Value::U32)?;

        // A pointer to a socket may point to a timewait socket.
        let timewait = common.wider("inet_timewait_sock")?;
        layout.tw_substate = timewait.offset(&["tw_substate"], Value::U8)?;
        layout.net_inum = Structure::find(&self.0, "net")?.offset(&["ns", "inum"], Value::U32)?;
        layout.socket_inode = self.socket_inode()?;
        Ok(layout)
    }

    /// Offset from a `struct socket` to the number of its inode.
    fn socket_inode(&self) -> Result<u32> {
        let alloc = Structure::find(&self.0, "socket_alloc")?;
        let socket = alloc
            .field(&["socket"])?
            .context("there is no field socket_alloc.socket")?;
        let number = alloc.offset(&["vfs_inode", "i_ino"], Value::U64)?;
        let after = u64::from(socket.offset) + socket.bytes;
        ensure!(
            u64::from(number) >= after,
            "socket_alloc.vfs_inode does not follow socket_alloc.socket"
        );
        Ok(number - socket.offset)
    }

    fn task(&self) -> Result<TaskLayout> {
        let find = |name: &'static str| Structure::find(&self.0, name);
        let mut layout = TaskLayout {
            known: 1,
            ..TaskLayout::UNKNOWN
        };
        let task = find("task_struct")?;
        layout.flags = task.offset(&["flags"], Value::U32)?;
        layout.tgid = task.offset(&["tgid"], Value::U32)?;
        layout.pid = task.offset(&["pid"], Value::U32)?;
        layout.group_leader = task.offset(&["group_leader"], Value::POINTER)?;
        layout.comm = task.offset(&["comm"], Value::COMM)?;
        layout.signal = task.offset(&["signal"], Value::POINTER)?;
        layout.live = find("signal_struct")?.offset(&["live"], Value::U32)?;
        layout.thread_pid = task.offset(&["thread_pid"], Value::POINTER)?;
        layout.files = task.offset(&["files"], Value::POINTER)?;
        layout.fdt = find("files_struct")?.offset(&["fdt"], Value::POINTER)?;
        let table = find("fdtable")?;
        layout.max_fds = table.offset(&["max_fds"], Value::U32)?;
        layout.fd = table.offset(&["fd"], Value::POINTER)?;
        layout.private_data = find("file")?.offset(&["private_data"], Value::POINTER)?;
        let socket = find("socket")?;
        layout.sk = socket.offset(&["sk"], Value::POINTER)?;
        layout.socket_file = socket.offset(&["file"], Value::POINTER)?;
        self.pid(&mut layout)?;
        self.stack(&task, &mut layout)?;
        Ok(layout)
    }

    /// Fills in the path from a task to its PID in each PID namespace.
    fn pid(&self, layout: &mut TaskLayout) -> Result<()> {
        let (pid, upid) = (Structure::find(&self.0, "pid")?, Structure::find(&self.0, "upid")?);
        layout.level = pid.offset(&["level"], Value::U32)?;
        let numbers = pid.field(&["numbers"])?.context("there is no field pid.numbers")?;
        let array = self.0.unaliased(numbers.id).and_then(|(_, found)| found.array());
        ensure!(
            array.is_some_and(|(_, element)| self.0.unaliased(element).is_some_and(|(id, _)| id == upid.id())),
            "pid.numbers is not an array of struct upid"
        );
        layout.numbers = numbers.offset;
        layout.upid_size = u32::try_from(upid.bytes)?;
        ensure!(
            upid.offset(&["nr"], Value::U32)? == 0,
            "struct upid does not begin with nr"
        );
        layout.upid_ns = upid.offset(&["ns"], Value::POINTER)?;
        layout.ns_inum = Structure::find(&self.0, "pid_namespace")?.offset(&["ns", "inum"], Value::U32)?;
        Ok(())
    }

    /// Fills in the fields for copies of user stacks. Without the first four there are no stacks. Without the others the copies
    /// are larger than necessary.
    fn stack(&self, task: &Structure<'_>, layout: &mut TaskLayout) -> Result<()> {
        let absent = |field: Option<u32>| field.unwrap_or(ABSENT);
        let registers = Structure::find(&self.0, "pt_regs")?;
        layout.start_boottime = absent(task.offset_if_any(&["start_boottime"], Value::U64)?);
        layout.self_exec_id = absent(task.offset_if_any(&["self_exec_id"], Value::U64)?);
        layout.registers = u32::try_from(registers.bytes.min(REGISTER_BYTES as u64))?;
        layout.stack = absent(task.offset_if_any(&["stack"], Value::POINTER)?);
        layout.stack_bytes = THREAD_SIZE;
        layout.pt_regs_bytes = u32::try_from(registers.bytes)?;
        layout.stack_pointer = absent(registers.offset_if_any(&["sp"], Value::U64)?);
        layout.mm = absent(task.offset_if_any(&["mm"], Value::POINTER)?);
        let memory = Structure::find(&self.0, "mm_struct")?;
        layout.start_stack = absent(memory.offset_if_any(&["start_stack"], Value::U64)?);
        layout.thread_pointer = absent(task.offset_if_any(THREAD_POINTER, Value::U64)?);
        Ok(())
    }

    /// [`Layouts::counts_classic_skips`].
    fn counts_classic_skips(&self) -> bool {
        Structure::find(&self.0, "bpf_link_info")
            .and_then(|info| info.offset_if_any(&["perf_event", "kprobe", "missed"], Value::U64))
            .is_ok_and(|offset| offset.is_some())
    }

    /// [`Layouts::runs`].
    fn runs(&self) -> Result<Option<RunsLayout>> {
        let prog = Structure::find(&self.0, "bpf_prog")?;
        let Some(prog_active) = prog.offset_if_any(&["active"], Value::POINTER)? else {
            return Ok(None);
        };
        // An i32 or, since Linux 7.0, four bytes, which arm64 uses by context, from task to NMI. All are zero if no run is
        // active (`bpf_prog_get_recursion_context`).
        let pointer = prog.field(&["active"])?.and_then(|field| self.0.unaliased(field.id));
        let bytes = pointer.and_then(|(_, pointer)| self.0.size(pointer.target()?));
        let values = Structure::find(&self.0, "bpf_array")?.field(&["value"])?;
        Ok(values
            .filter(|_| matches!(bytes, Some(1 | 4)))
            .map(|values| RunsLayout {
                prog_active,
                array_values: values.offset,
                preemptible: bytes == Some(1),
            }))
    }

    /// Whether the tracepoint's type has a third parameter beside the context: socket, segment, reason.
    fn has_typed_reason(&self) -> bool {
        let pointer = self
            .0
            .named(Kind::Typedef, "btf_trace_tcp_send_reset")
            .and_then(|id| self.0.unaliased(id));
        let function = pointer
            .filter(|(_, found)| found.kind == Kind::Ptr)
            .and_then(|(_, found)| self.0.unaliased(found.target()?));
        function.is_some_and(|(_, found)| found.kind == Kind::FuncProto && found.vlen() == 4)
    }

    /// `enum sk_rst_reason` (include/net/rstreason.h): its numbers have moved, and may again.
    fn reasons(&self) -> Vec<(u8, String)> {
        let reasons = self.0.enumerators("sk_rst_reason").into_iter();
        let is_name = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let named = reasons.filter(|(name, _)| is_name(name));
        named
            .filter_map(|(name, number)| Some((u8::try_from(number).ok()?, String::from_utf8(name.to_vec()).ok()?)))
            .collect()
    }
}

/// The bytes of the BTF below `root`.
fn read(root: &Path) -> io::Result<Vec<u8>> {
    let tree = HostRoot::open(root).map_err(io::Error::other)?;
    let file = tree.file(PATH)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len().min(MAX_BYTES)).unwrap_or(0) + 1);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is longer than 64 MiB"));
    }
    Ok(bytes)
}
