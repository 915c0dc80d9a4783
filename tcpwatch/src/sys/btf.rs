//! Where the running kernel keeps the fields of a socket, from its own type information (BTF).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use btf_rs::{Backend, Btf, BtfType, Struct, Type};
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::stack::REGISTER_BYTES;
use tcpwatch_common::{SockLayout, TaskLayout};

/// Where a task keeps the thread pointer.
const THREAD_POINTER: &[&str] = if cfg!(target_arch = "aarch64") {
    &["thread", "uw", "tp_value"]
} else {
    &["thread", "fsbase"]
};

/// Where the kernel below `root` keeps its BTF.
#[must_use]
pub fn path(root: &Path) -> PathBuf {
    root.join("sys/kernel/btf/vmlinux")
}

/// What the kernel side must know of the kernel's types.
#[derive(Clone, Debug)]
pub struct Layouts {
    /// A socket's fields.
    pub sock: SockLayout,
    /// The way from a task to its sockets.
    pub task: TaskLayout,
    /// Whether `tcp:tcp_send_reset` tells why (Linux 6.10 and later).
    pub typed_reason: bool,
    /// The numbers it tells, and the kernel's names for them (`enum sk_rst_reason`); none before that.
    pub reasons: Vec<(u8, String)>,
    /// Whether the kernel counts the runs of classic programs that it skips (Linux 6.7): the series that added the counter also gave
    /// `struct bpf_link_info` a field `perf_event.kprobe.missed`.
    pub counts_classic_skips: bool,
}

impl Layouts {
    /// Nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            sock: SockLayout::UNKNOWN,
            task: TaskLayout::UNKNOWN,
            typed_reason: false,
            reasons: Vec::new(),
            counts_classic_skips: false,
        }
    }
}

/// Reads them from the BTF of the kernel below `root`.
///
/// # Errors
/// There is no BTF, it cannot be read, or a field of a socket is not in it.
pub fn layouts(root: &Path) -> Result<Layouts> {
    let path = path(root);
    let btf = Btf::from_file_with_backend(&path, Backend::Cache)
        .with_context(|| format!("cannot read the kernel's BTF at {}", path.display()))?;
    Ok(Layouts {
        sock: sock_layout(&btf)?,
        task: task_layout(&btf).unwrap_or_else(|why| {
            log::warn!("owners of connections are unknown: {why:#}");
            TaskLayout::UNKNOWN
        }),
        typed_reason: tells_reason(&btf),
        reasons: reasons(&btf),
        counts_classic_skips: structure(&btf, "bpf_link_info")
            .and_then(|info| offset(&btf, &info, &["perf_event", "kprobe", "missed"]))
            .is_ok(),
    })
}

/// Whether this kernel tells the offsets of a socket's fields, so that the classic hook can tell namespaces apart.
#[must_use]
pub fn knows_sockets(root: &Path) -> bool {
    Btf::from_file_with_backend(path(root), Backend::Cache).is_ok_and(|btf| sock_layout(&btf).is_ok())
}

fn sock_layout(btf: &Btf) -> Result<SockLayout> {
    let inet = structure(btf, "inet_sock")?;
    let net = structure(btf, "net")?;
    let timewait = structure(btf, "inet_timewait_sock")?;
    let tcp = structure(btf, "tcp_sock")?;
    let alloc = structure(btf, "socket_alloc")?;
    // `struct inet_sock` starts with `struct sock`, which starts with `struct sock_common`.
    let common = |field: &str| offset(btf, &inet, &["sk", "__sk_common", field]);
    let sk = |field: &str| offset(btf, &inet, &["sk", field]);
    let tcp = |field: &str| offset(btf, &tcp, &[field]);
    Ok(SockLayout {
        known: 1,
        family: common("skc_family")?,
        state: common("skc_state")?,
        num: common("skc_num")?,
        dport: common("skc_dport")?,
        saddr: common("skc_rcv_saddr")?,
        daddr: common("skc_daddr")?,
        // A kernel without IPv6 has none.
        saddr_v6: common("skc_v6_rcv_saddr").unwrap_or(ABSENT),
        daddr_v6: common("skc_v6_daddr").unwrap_or(ABSENT),
        ifindex: common("skc_bound_dev_if")?,
        net: common("skc_net")?,
        cookie: common("skc_cookie")?,
        net_inum: offset(btf, &net, &["ns", "inum"])?,
        protocol: sk("sk_protocol")?,
        sport: offset(btf, &inet, &["inet_sport"])?,
        tw_substate: offset(btf, &timewait, &["tw_substate"])?,
        err: sk("sk_err")?,
        flags: common("skc_flags")?,
        shutdown: sk("sk_shutdown")?,
        socket: sk("sk_socket")?,
        socket_inode: offset(btf, &alloc, &["vfs_inode", "i_ino"])? - offset(btf, &alloc, &["socket"])?,
        snd_una: tcp("snd_una")?,
        write_seq: tcp("write_seq")?,
        snd_nxt: tcp("snd_nxt")?,
        bytes_acked: tcp("bytes_acked")?,
        bytes_sent: tcp("bytes_sent")?,
        bytes_retrans: tcp("bytes_retrans")?,
        bytes_received: tcp("bytes_received")?,
        srtt_us: tcp("srtt_us")?,
        total_retrans: tcp("total_retrans")?,
    })
}

fn task_layout(btf: &Btf) -> Result<TaskLayout> {
    let at = |name: &str, path: &[&str]| offset(btf, &structure(btf, name)?, path);
    let task = |field: &str| at("task_struct", &[field]);
    Ok(TaskLayout {
        known: 1,
        flags: task("flags")?,
        tgid: task("tgid")?,
        pid: task("pid")?,
        group_leader: task("group_leader")?,
        comm: task("comm")?,
        signal: task("signal")?,
        live: at("signal_struct", &["live"])?,
        // Without the first four of these there are no stacks, and without the last three more is copied of them than there is.
        start_boottime: task("start_boottime").unwrap_or(ABSENT),
        self_exec_id: task("self_exec_id").unwrap_or(ABSENT),
        registers: u32::try_from(structure(btf, "pt_regs")?.size().min(REGISTER_BYTES))?,
        stack_pointer: at("pt_regs", &["sp"]).unwrap_or(ABSENT),
        mm: task("mm").unwrap_or(ABSENT),
        start_stack: at("mm_struct", &["start_stack"]).unwrap_or(ABSENT),
        thread_pointer: at("task_struct", THREAD_POINTER).unwrap_or(ABSENT),
        stack: task("stack").unwrap_or(ABSENT),
        stack_bytes: 16_384,
        pt_regs_bytes: u32::try_from(structure(btf, "pt_regs")?.size())?,
        thread_pid: task("thread_pid")?,
        files: task("files")?,
        fdt: at("files_struct", &["fdt"])?,
        max_fds: at("fdtable", &["max_fds"])?,
        fd: at("fdtable", &["fd"])?,
        private_data: at("file", &["private_data"])?,
        sk: at("socket", &["sk"])?,
        socket_file: at("socket", &["file"])?,
        level: at("pid", &["level"])?,
        numbers: at("pid", &["numbers"])?,
        upid_size: u32::try_from(structure(btf, "upid")?.size())?,
        upid_ns: at("upid", &["ns"])?,
        ns_inum: at("pid_namespace", &["ns", "inum"])?,
        pidns: 0,
    })
}

/// Whether the tracepoint's type has a third parameter beside the context: socket, segment, reason.
fn tells_reason(btf: &Btf) -> bool {
    let found = btf
        .resolve_types_by_name("btf_trace_tcp_send_reset")
        .unwrap_or_default();
    found.into_iter().any(|found| {
        let Type::Typedef(typedef) = found else { return false };
        let Ok(Type::Ptr(pointer)) = btf.resolve_chained_type(&typedef) else {
            return false;
        };
        matches!(btf.resolve_chained_type(&pointer), Ok(Type::FuncProto(function)) if function.parameters.len() == 4)
    })
}

/// `enum sk_rst_reason` (include/net/rstreason.h): its numbers have moved, and may again.
fn reasons(btf: &Btf) -> Vec<(u8, String)> {
    let found = btf.resolve_types_by_name("sk_rst_reason").unwrap_or_default();
    let members = found.into_iter().flat_map(|found| match found {
        Type::Enum(found) => found.members,
        _ => Vec::new(),
    });
    members
        .filter_map(|member| Some((u8::try_from(member.val()).ok()?, btf.resolve_name(&member).ok()?)))
        .collect()
}

/// The structure called `name`.
fn structure(btf: &Btf, name: &str) -> Result<Struct> {
    let types = btf
        .resolve_types_by_name(name)
        .with_context(|| format!("the kernel's BTF has no struct {name}"))?;
    types
        .into_iter()
        .find_map(|found| match found {
            Type::Struct(found) => Some(found),
            _ => None,
        })
        .ok_or_else(|| anyhow!("the kernel's BTF has no struct {name}"))
}

/// Bytes from the start of `outer` to the field at the end of `path`.
fn offset(btf: &Btf, outer: &Struct, path: &[&str]) -> Result<u32> {
    let Some((name, rest)) = path.split_first() else {
        return Ok(0);
    };
    let Some((bits, member)) = member(btf, outer, name)? else {
        bail!("the kernel's BTF has no field {name} where one is expected");
    };
    if bits % 8 != 0 {
        bail!("the kernel keeps the field {name} in bits, not bytes");
    }
    match (rest, member) {
        ([], _) => Ok(bits / 8),
        (rest, Type::Struct(inner) | Type::Union(inner)) => Ok(bits / 8 + offset(btf, &inner, rest)?),
        _ => bail!("the kernel's BTF has no structure at field {name}"),
    }
}

/// The field `name` of `outer`, in unnamed structures and unions too: bits from the start of `outer`, and its type.
fn member(btf: &Btf, outer: &Struct, name: &str) -> Result<Option<(u32, Type)>> {
    for member in &outer.members {
        let found = btf.resolve_name(member).unwrap_or_default();
        if found == name {
            return Ok(Some((member.bit_offset(), resolve(btf, member)?)));
        }
        if found.is_empty()
            && let Type::Struct(inner) | Type::Union(inner) = resolve(btf, member)?
            && let Some((bits, found)) = self::member(btf, &inner, name)?
        {
            return Ok(Some((member.bit_offset() + bits, found)));
        }
    }
    Ok(None)
}

/// The type of `of`, seen through typedefs and qualifiers.
fn resolve(btf: &Btf, of: &dyn BtfType) -> Result<Type> {
    let mut found = btf.resolve_chained_type(of)?;
    while let Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) = &found {
        let Some(next) = found.as_btf_type() else { break };
        found = btf.resolve_chained_type(next)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_btf_is_an_error_that_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let error = format!("{:#}", layouts(root.path()).unwrap_err());
        assert!(error.contains("sys/kernel/btf/vmlinux"), "{error}");
    }

    #[test]
    fn garbage_for_btf_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("sys/kernel/btf")).unwrap();
        std::fs::write(path(root.path()), [0x9f; 4096]).unwrap();
        assert!(layouts(root.path()).is_err());
        assert!(!knows_sockets(root.path()));
    }
}
