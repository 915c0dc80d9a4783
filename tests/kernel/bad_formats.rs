//! Tracepoints that are described wrongly, missing, or hidden: the classic hook says which of these it is.

use std::fs;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use crate::support::netns::{TRACEFS, in_netns};
use crate::support::program::Hook;
use crate::support::program::run::{Unprivileged, finish, setpriv, tcpwatch};
use crate::support::program::stat::Stat;
use crate::support::workload::bulk;

/// The tracepoints that tcpwatch reads.
const TRACEPOINTS: [&str; 10] = [
    "sock/inet_sock_set_state",
    "tcp/tcp_send_reset",
    "tcp/tcp_receive_reset",
    "tcp/tcp_destroy_sock",
    "tcp/tcp_retransmit_skb",
    "tcp/tcp_retransmit_synack",
    "task/task_rename",
    "syscalls/sys_exit_accept",
    "syscalls/sys_exit_accept4",
    "sched/sched_process_exit",
];

/// Lays a directory over tracefs in which each `format` file is the kernel's own as `change` leaves it; `None` leaves the tracepoint
/// out.
fn lay_over(change: impl Fn(&str, String) -> Option<String>) {
    let read = |name: &str, file: &str| fs::read_to_string(format!("{TRACEFS}/events/{name}/{file}")).ok();
    let files = |name: &&'static str| {
        let format = change(name, read(name, "format")?)?;
        // By this number a program is attached to it.
        Some((*name, format, read(name, "id")?))
    };
    let found: Vec<_> = TRACEPOINTS.iter().filter_map(files).collect();
    mount("none", TRACEFS, "tmpfs", MountFlags::empty(), None).expect("hiding tracefs");
    fs::create_dir(Path::new(TRACEFS).join("events")).expect("a directory");
    for (name, format, id) in found {
        let folder = Path::new(TRACEFS).join("events").join(name);
        fs::create_dir_all(&folder).expect("a directory");
        for (file, text) in [("format", format), ("id", id)] {
            fs::write(folder.join(file), text).expect("a file");
        }
    }
}

/// `stat` and `trace` on the classic hook.
fn refuse(why: &str) {
    for command in ["stat", "trace"] {
        finish(&tcpwatch(&[command, "--hook", "tracepoint"])).refuses(1, why);
    }
}

/// A case: what becomes of the format of `sock:inet_sock_set_state`, and why it is refused.
type Case = (fn(String) -> Option<String>, &'static str);

#[test]
fn a_format_that_cannot_be_right_is_refused() {
    let cases: [Case; 4] = [
        (
            |format| {
                Some(
                    format
                        .replace("sport;", "x;")
                        .replace("dport;", "sport;")
                        .replace("x;", "dport;"),
                )
            },
            "its field sport is at 26, but by the kernel's BTF at 24",
        ),
        (
            |format| Some(format.replace("newstate;\toffset:20", "newstate;\toffset:16")),
            "its field oldstate overlaps newstate",
        ),
        (
            |format| Some(format.replace("offset:16", "offset:sixteen")),
            "its field oldstate is malformed",
        ),
        (|_| None, "this kernel has no tracepoint sock:inet_sock_set_state"),
    ];
    for (change, why) in cases {
        in_netns(|_| {
            lay_over(|name, format| match name {
                "sock/inet_sock_set_state" => change(format),
                _ => Some(format),
            });
            refuse(why);
        });
    }
}

/// What is spoilt of a tracepoint beside the hook, a command that needs it, and what it says.
const BESIDE: [(&str, [&str; 2], &str, &str); 6] = [
    (
        "tcp/tcp_send_reset",
        ["skaddr;\toffset:16", "skaddr;\toffset:8"],
        "stat",
        "some endings stay unknown: cannot watch tcp:tcp_send_reset (its field skaddr overlaps",
    ),
    (
        "tcp/tcp_receive_reset",
        ["skaddr;\toffset:8", "skaddr;\toffset:16"],
        "trace",
        "some endings stay unknown: cannot watch tcp:tcp_receive_reset (its field skaddr overlaps",
    ),
    (
        "tcp/tcp_destroy_sock",
        ["skaddr;", "sk;"],
        "trace",
        "some endings stay unknown: cannot watch tcp:tcp_destroy_sock (it has no field skaddr)",
    ),
    (
        "tcp/tcp_retransmit_skb",
        ["skaddr;", "sk;"],
        "latency",
        "some retransmits stay unknown: cannot watch tcp:tcp_retransmit_skb (it has no field skaddr)",
    ),
    (
        "tcp/tcp_retransmit_synack",
        ["req;\toffset:16", "req;\toffset:x"],
        "latency",
        "some retransmits stay unknown: cannot watch tcp:tcp_retransmit_synack (its field req is malformed)",
    ),
    (
        "syscalls/sys_exit_accept4",
        ["ret;\toffset:16", "ret;\toffset:17"],
        "trace",
        "cannot watch syscalls:sys_exit_accept, syscalls:sys_exit_accept4 (its field ret is not aligned: it is at 17)",
    ),
];

/// The other tracepoints explain; without one, transitions are counted all the same, and one line says what is unknown.
#[test]
fn a_format_beside_the_hook_that_cannot_be_right_is_named() {
    for (spoilt, [what, becomes], command, why) in BESIDE {
        in_netns(|_| {
            lay_over(|name, format| {
                let is_spoilt = name == spoilt;
                assert!(!is_spoilt || format.contains(what), "{name}: {format}");
                Some(if is_spoilt {
                    format.replace(what, becomes)
                } else {
                    format
                })
            });
            let finished = finish(&tcpwatch(&[command, "-d", "300ms", "--hook", "tracepoint"]));
            let lines: Vec<&str> = finished.stderr.lines().collect();
            assert!(matches!(*lines, [line] if line.contains(why)), "{finished:?}");
            assert_eq!(finished.code, Some(0), "{finished:?}");
            let mut stat = Stat::start(Hook::Tracepoint, &[]);
            let before = stat.cells();
            let promised = bulk::connections(20);
            assert_eq!(stat.reaches(&before, &promised), Ok(()));
            stat.finish();
        });
    }
}

/// A user with the capabilities for BPF, but who must not read tracefs.
#[test]
fn a_tracefs_that_cannot_be_read_is_not_called_unmounted() {
    let nobody = Unprivileged::new();
    in_netns(|_| {
        let privileges = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all,+bpf,+perfmon",
            "--ambient-caps=-all,+bpf,+perfmon",
        ];
        for command in ["stat", "trace"] {
            let args = [command, "--hook", "tracepoint"];
            let why = "cannot read tracefs at /sys/kernel/tracing: Permission denied; try sudo";
            finish(&setpriv(&privileges, &nobody.binary(), &args)).refuses(1, why);
        }
    });
}
