//! tracefs: the shape of the classic tracepoint's record, and a way to it that leaves no mount behind.

use std::path::{Path, PathBuf};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::CWD;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tcpwatch_common::params::{ABSENT, CLASSIC_RECORD_MAX};
use tcpwatch_common::{ClassicLayout, ResetLayout};

/// Category of the tracepoint.
pub const CATEGORY: &str = "sock";
/// Its name.
pub const NAME: &str = "inet_sock_set_state";

/// Places where tracefs may be mounted, below the root.
const PLACES: [&str; 2] = ["sys/kernel/tracing", "sys/kernel/debug/tracing"];

/// Layout of the tracepoint's record, from its `format` file below `root`.
///
/// # Errors
/// tracefs is not mounted or may not be read, or the file is not as expected.
pub fn classic_layout(root: &Path) -> Result<ClassicLayout> {
    let (path, text) = format_of(root, CATEGORY, NAME)?;
    parse_format(&text).with_context(|| format!("cannot use {}", path.display()))
}

/// Layouts of the records of the tracepoints about resets, the death of sockets and `accept()`, from their `format` files below
/// `root`. Each but those of resets may be [`ABSENT`], and where the death of sockets is, nobody hears of it.
///
/// # Errors
/// Those of resets are not there, or not as expected: no end can be told without.
pub fn reset_layout(root: &Path) -> Result<ResetLayout> {
    let at = |category: &str, name: &str, wanted: &str, size: u32| {
        let (path, text) = format_of(root, category, name)?;
        match field(&text, wanted) {
            Some((offset, found)) if found == size => Ok(offset),
            _ => bail!("{} has no field {wanted} of {size} bytes", path.display()),
        }
    };
    Ok(ResetLayout {
        send_skaddr: at("tcp", "tcp_send_reset", "skaddr", 8)?,
        send_reason: at("tcp", "tcp_send_reset", "reason", 4).unwrap_or(ABSENT),
        receive_skaddr: at("tcp", "tcp_receive_reset", "skaddr", 8)?,
        destroy_skaddr: at("tcp", "tcp_destroy_sock", "skaddr", 8).unwrap_or(ResetLayout::UNKNOWN.destroy_skaddr),
        retransmit_skaddr: at("tcp", "tcp_retransmit_skb", "skaddr", 8).unwrap_or(ABSENT),
        synack_skaddr: at("tcp", "tcp_retransmit_synack", "skaddr", 8).unwrap_or(ABSENT),
        synack_req: at("tcp", "tcp_retransmit_synack", "req", 8).unwrap_or(ABSENT),
        rename_pid: at("task", "task_rename", "pid", 4).unwrap_or(ABSENT),
        rename_comm: at("task", "task_rename", "newcomm", 16).unwrap_or(ABSENT),
        accept_ret: at("syscalls", "sys_exit_accept4", "ret", 8).unwrap_or(ABSENT),
        typed_reason: 0,
    })
}

/// The `format` file of a tracepoint, and where it is.
fn format_of(root: &Path, category: &str, name: &str) -> Result<(PathBuf, String)> {
    let paths = PLACES.map(|place| root.join(place).join("events").join(category).join(name).join("format"));
    paths
        .into_iter()
        .find_map(|path| fs::read_to_string(&path).ok().map(|text| (path, text)))
        .ok_or_else(|| anyhow!("tracefs is not readable at /{}, or has no {category}:{name}", PLACES[0]))
}

/// Reads a `format` file.
fn parse_format(text: &str) -> Result<ClassicLayout> {
    let at = |name: &str, wanted: u32| {
        let (offset, size) = field(text, name).ok_or_else(|| anyhow!("it has no field {name}"))?;
        if size != wanted || offset as usize + size as usize > CLASSIC_RECORD_MAX {
            bail!("its field {name} has {size} bytes at {offset}, which tcpwatch does not know how to read");
        }
        Ok(offset)
    };
    Ok(ClassicLayout {
        skaddr: at("skaddr", 8)?,
        oldstate: at("oldstate", 4)?,
        newstate: at("newstate", 4)?,
        sport: at("sport", 2)?,
        dport: at("dport", 2)?,
        family: at("family", 2)?,
        protocol: at("protocol", 2)?,
        saddr: at("saddr", 4)?,
        daddr: at("daddr", 4)?,
        saddr_v6: at("saddr_v6", 16)?,
        daddr_v6: at("daddr_v6", 16)?,
    })
}

/// Offset and size of the field `name`, from a line `field:__u8 saddr[4]; offset:32; size:4; signed:0;`.
fn field(text: &str, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';');
        let declared = parts.next()?.split_whitespace().last()?;
        if declared.split('[').next() != Some(name) {
            return None;
        }
        let mut number = |key: &str| parts.next()?.trim().strip_prefix(key)?.parse().ok();
        Some((number("offset:")?, number("size:")?))
    })
}

/// Runs `work` where tracefs can be reached: here, or in a mount namespace of a thread of its own, gone with the thread. `work`
/// is told where that failed: tracefs is not mounted and may not be.
///
/// # Errors
/// Those of `work`.
pub fn with_tracefs<T: Send>(work: impl FnOnce(Result<()>) -> Result<T> + Send) -> Result<T> {
    if classic_layout(Path::new("/")).is_ok() {
        return work(Ok(()));
    }
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let reached = mount_privately()
                .context("tracefs is not mounted and cannot be mounted privately; type: sudo mount -t tracefs tracefs /sys/kernel/tracing");
            work(reached)
        });
        inside
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the thread that reads tracefs died")))
    })
}

/// Gives this thread a mount namespace of its own with tracefs in it.
fn mount_privately() -> Result<()> {
    // SAFETY: only the mount namespace is unshared (and with it the working directory), of a thread that ends soon.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private)?;
    let target = Path::new("/").join(PLACES[0]);
    if rustix::fs::statat(CWD, &target, rustix::fs::AtFlags::empty()).is_err() {
        // A /sys of a kind that has no such folder, as `ip netns exec` makes it: lay a fresh one over it.
        mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)?;
    }
    mount("tracefs", &target, "tracefs", MountFlags::empty(), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: &str = "name: inet_sock_set_state
ID: 1234
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;
\tfield:int newstate;\toffset:20;\tsize:4;\tsigned:1;
\tfield:__u16 sport;\toffset:24;\tsize:2;\tsigned:0;
\tfield:__u16 dport;\toffset:26;\tsize:2;\tsigned:0;
\tfield:__u16 family;\toffset:28;\tsize:2;\tsigned:0;
\tfield:__u16 protocol;\toffset:30;\tsize:2;\tsigned:0;
\tfield:__u8 saddr[4];\toffset:32;\tsize:4;\tsigned:0;
\tfield:__u8 daddr[4];\toffset:36;\tsize:4;\tsigned:0;
\tfield:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;
\tfield:__u8 daddr_v6[16];\toffset:56;\tsize:16;\tsigned:0;
";

    #[test]
    fn the_layout_is_read_from_format() {
        let layout = parse_format(FORMAT).unwrap();
        assert_eq!((layout.skaddr, layout.oldstate, layout.newstate), (8, 16, 20));
        assert_eq!((layout.family, layout.protocol), (28, 30));
        assert_eq!((layout.saddr, layout.saddr_v6, layout.daddr_v6), (32, 40, 56));
    }

    #[test]
    fn a_format_that_would_make_the_kernel_side_read_amiss_is_refused() {
        assert!(parse_format("").is_err());
        assert!(parse_format(&FORMAT.replace("offset:56", "offset:5600")).is_err());
        assert!(
            parse_format(&FORMAT.replace("daddr_v6[16];\toffset:56;\tsize:16", "daddr_v6[4];\toffset:56;\tsize:4"))
                .is_err()
        );
    }

    /// Name, offset and size of a field.
    type Field = (&'static str, u32, u32);

    /// The tracepoints beside, each with the fields that are read.
    const BESIDE: [(&str, &[Field]); 7] = [
        ("tcp/tcp_send_reset", &[("skaddr", 16, 8), ("reason", 28, 4)]),
        ("tcp/tcp_receive_reset", &[("skaddr", 8, 8)]),
        ("tcp/tcp_destroy_sock", &[("skaddr", 8, 8)]),
        ("tcp/tcp_retransmit_skb", &[("skaddr", 16, 8)]),
        ("tcp/tcp_retransmit_synack", &[("skaddr", 8, 8), ("req", 16, 8)]),
        ("task/task_rename", &[("pid", 8, 4), ("newcomm", 28, 16)]),
        ("syscalls/sys_exit_accept4", &[("ret", 16, 8)]),
    ];

    /// Where a field is in a layout.
    type Place = fn(&mut ResetLayout) -> &mut u32;

    /// What is read of them where the field `without` of the tracepoint `of` is missing.
    fn layout_without(of: &str, without: &str) -> Result<ResetLayout> {
        let root = tempfile::tempdir().unwrap();
        for (name, fields) in BESIDE {
            let folder = root.path().join(PLACES[0]).join("events").join(name);
            fs::create_dir_all(&folder).unwrap();
            let fields = fields.iter().filter(|(field, ..)| (name, *field) != (of, without));
            let line = |&(field, offset, size): &Field| {
                format!("\tfield:type {field};\toffset:{offset};\tsize:{size};\tsigned:0;\n")
            };
            let lines: Vec<String> = fields.map(line).collect();
            fs::write(folder.join("format"), lines.concat()).unwrap();
        }
        reset_layout(root.path())
    }

    #[test]
    fn a_field_that_is_missing_makes_nothing_else_unknown() {
        let all = layout_without("", "").unwrap();
        assert_eq!((all.send_skaddr, all.send_reason, all.receive_skaddr), (16, 28, 8));
        assert_eq!((all.synack_req, all.rename_comm, all.accept_ret), (16, 28, 16));
        let others: [(&str, &str, Place, u32); 8] = [
            ("tcp/tcp_send_reset", "reason", |layout| &mut layout.send_reason, ABSENT),
            ("tcp/tcp_destroy_sock", "skaddr", |layout| &mut layout.destroy_skaddr, 0),
            (
                "tcp/tcp_retransmit_skb",
                "skaddr",
                |layout| &mut layout.retransmit_skaddr,
                ABSENT,
            ),
            (
                "tcp/tcp_retransmit_synack",
                "skaddr",
                |layout| &mut layout.synack_skaddr,
                ABSENT,
            ),
            (
                "tcp/tcp_retransmit_synack",
                "req",
                |layout| &mut layout.synack_req,
                ABSENT,
            ),
            ("task/task_rename", "pid", |layout| &mut layout.rename_pid, ABSENT),
            ("task/task_rename", "newcomm", |layout| &mut layout.rename_comm, ABSENT),
            (
                "syscalls/sys_exit_accept4",
                "ret",
                |layout| &mut layout.accept_ret,
                ABSENT,
            ),
        ];
        for (of, without, place, unknown) in others {
            let mut expected = all;
            *place(&mut expected) = unknown;
            assert_eq!(layout_without(of, without).unwrap(), expected, "{of} without {without}");
        }
        for of in ["tcp/tcp_send_reset", "tcp/tcp_receive_reset"] {
            assert!(layout_without(of, "skaddr").is_err(), "{of}");
        }
    }
}
