//! What can't be done is said in one line, with the right exit code. What needs no root for that is in tests/cli.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, mount};
use rustix::process::Signal;

use crate::support::child::Reaped;
use crate::support::clock::eventually;
use crate::support::netns::{in_netns, in_netns_without_tracefs};
use crate::support::output::Text;
use crate::support::program::run::{binary, finish, finish_into, setpriv, tcpwatch};
use crate::support::program::stat::{Stat, check, total};
use crate::support::program::trace::{Probe, Trace, connect_and_close};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::listen;
use crate::support::{LOOPBACK, workload};

on_both_hooks!(
    a_closed_pipe_is_no_failure,
    a_full_disk_is_told_of,
    sigterm_prints_the_last_interval,
    sigterm_ends_a_trace_with_its_sums,
    the_time_given_ends_it,
);

/// As root, but with no capability other than those named.
fn with_capabilities(capabilities: &str, args: &[&str]) -> Command {
    let bounding = format!("--bounding-set=-all{capabilities}");
    let inheritable = format!("--inh-caps=-all{capabilities}");
    setpriv(&[&bounding, &inheritable], &binary(), args)
}

#[test]
fn without_any_capability() {
    in_netns(|_| {
        for command in ["stat", "trace"] {
            finish(&with_capabilities("", &[command])).refuses(1, "CAP_");
        }
    });
}

#[test]
fn cap_bpf_without_cap_perfmon() {
    in_netns(|_| {
        for hook in Hook::BOTH {
            for command in ["stat", "trace"] {
                let args = [command, "--hook", hook.name()];
                finish(&with_capabilities(",+bpf", &args)).refuses(1, "CAP_PERFMON");
            }
        }
    });
}

/// Where nobody has mounted tracefs and we may not, the classic hook's layout can't be read.
#[test]
fn no_tracefs() {
    in_netns_without_tracefs(|_| {
        for place in ["/sys/kernel/tracing", "/sys/kernel/debug"] {
            if Path::new(place).exists() {
                mount("none", place, "tmpfs", MountFlags::empty(), None).expect("hiding what is mounted there");
            }
        }
        for command in ["stat", "trace"] {
            let args = [command, "--hook", "tracepoint"];
            finish(&with_capabilities(",+bpf,+perfmon", &args)).refuses(1, "tracefs");
        }
    });
}

/// Without BTF there is no typed hook; the classic one does without.
#[test]
fn no_btf() {
    in_netns(|_| {
        mount("none", "/sys/kernel/btf", "tmpfs", MountFlags::empty(), None).expect("hiding the kernel's BTF");
        for command in ["stat", "trace"] {
            finish(&tcpwatch(&[command, "--hook", "tp_btf"])).refuses(1, "BTF");
        }
        let finished = finish(&tcpwatch(&["stat", "0.1", "2", "-o", "json", "--hook", "tracepoint"]));
        assert_eq!(
            (finished.code, finished.stdout.lines().count()),
            (Some(0), 2),
            "{finished:?}"
        );
    });
}

#[test]
fn netns_of_a_dead_pid() {
    in_netns(|_| {
        let mut dead = Reaped::spawn(&mut Command::new("true"));
        dead.wait();
        let pid = dead.pid().to_string();
        for command in ["stat", "trace", "snapshot"] {
            finish(&tcpwatch(&[command, "--netns", &pid])).refuses(1, &pid);
        }
    });
}

/// `tcpwatch trace | head -1`
fn a_closed_pipe_is_no_failure(hook: Hook) {
    in_netns(|_| {
        let mut command = tcpwatch(&["trace", "--hook", hook.name()]);
        let mut trace = Reaped::spawn(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        let pipe = trace.0.stdout.take().expect("piped");
        // The Command must not outlive this line: it would hold the pipe's end open.
        let mut head = Reaped::spawn(Command::new("head").arg("-1").stdin(pipe).stdout(Stdio::null()));
        assert_eq!(end_under_traffic(&mut head), (Some(0), String::new()));
        assert_eq!(end_under_traffic(&mut trace), (Some(0), String::new()));
    });
}

/// Waits for the end of a program that only learns by writing that it should end. Its exit code and its stderr.
fn end_under_traffic(of: &mut Reaped) -> (Option<i32>, String) {
    let status = eventually("it to end", || {
        connect_and_close(Probe::ANY);
        of.0.try_wait().expect("waiting for a child").ok_or("it runs on")
    });
    let said = of.0.stderr.take().map(|stderr| Text::of(stderr).all());
    (status.code(), said.unwrap_or_default())
}

fn a_full_disk_is_told_of(hook: Hook) {
    in_netns(|_| {
        let full = || File::options().write(true).open("/dev/full").expect("/dev/full");
        for form in ["text", "json", "csv"] {
            for command in [vec!["stat", "0.1", "3", "--hook", hook.name()], vec!["snapshot"]] {
                let finished = finish_into(&tcpwatch(&[&command[..], &["-o", form]].concat()), full());
                finished.refuses(1, "space");
            }
            let mut command = tcpwatch(&["trace", "-o", form, "--hook", hook.name()]);
            let mut trace = Reaped::spawn(command.stdin(Stdio::null()).stdout(full()).stderr(Stdio::piped()));
            let (code, said) = end_under_traffic(&mut trace);
            assert_eq!((code, said.lines().count()), (Some(1), 1), "{said:?}");
            assert!(said.contains("space"), "{said:?}");
        }
    });
}

fn sigterm_prints_the_last_interval(hook: Hook) {
    in_netns(|_| {
        // An interval that does not end by itself within this test.
        let stat = Stat::every("600", hook, &[]);
        let promised = workload::bulk::connections(50);
        let ended = stat.finish_by(Signal::TERM);
        check(&ended, 0);
        assert_eq!(
            ended.lines.len(),
            2,
            "the first row, and the interval that was cut short"
        );
        assert_eq!(total(ended.lines.iter().map(|line| &line.json)), promised);
        let seconds = ended.lines[1].json["interval_s"].as_f64().expect("a number");
        assert!(
            seconds > 0.0 && seconds < 600.0,
            "what is printed is the time that passed: {seconds}"
        );
    });
}

fn sigterm_ends_a_trace_with_its_sums(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        drop(listen(SocketAddr::new(LOOPBACK, 0), 8));
        let traced = trace.finish_by(Signal::TERM);
        assert_eq!(
            traced.events.len(),
            2,
            "what happened just before is printed: {:#?}",
            traced.events
        );
    });
}

/// `-d` ends all that runs on, and COUNT a `stat`, with code 0.
fn the_time_given_ends_it(hook: Hook) {
    in_netns(|_| {
        let finished = finish(&tcpwatch(&["trace", "-d", "0.3", "-o", "json", "--hook", hook.name()]));
        assert_eq!(
            (finished.code, finished.stdout.lines().count()),
            (Some(0), 1),
            "the end alone: {finished:?}"
        );
        let finished = finish(&tcpwatch(&[
            "stat",
            "600",
            "-d",
            "0.3",
            "-o",
            "json",
            "--hook",
            hook.name(),
        ]));
        assert_eq!(
            (finished.code, finished.stdout.lines().count()),
            (Some(0), 2),
            "{finished:?}"
        );
        let finished = finish(&tcpwatch(&["stat", "0.1", "3", "-o", "json", "--hook", hook.name()]));
        assert_eq!(
            (finished.code, finished.stdout.lines().count()),
            (Some(0), 3),
            "{finished:?}"
        );
    });
}

/// Writing waits for a reader that takes nothing, and the signal must be heard all the same.
#[test]
fn sigterm_ends_a_trace_that_nobody_reads() {
    in_netns(|_| {
        let mut child = Reaped::spawn(
            tcpwatch(&["trace", "-o", "json"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped()),
        );
        eventually("the pipe to be full, and a thread to wait for its reader", || {
            workload::bulk::connections(200);
            let threads = std::fs::read_dir(format!("/proc/{}/task", child.pid())).expect("its threads");
            let waits = threads.flatten().map(|thread| {
                let path = thread.path().join("wchan");
                std::fs::read_to_string(path).unwrap_or_default()
            });
            let waits: Vec<String> = waits.collect();
            if waits.iter().any(|waits| waits.contains("pipe_write")) {
                Ok(())
            } else {
                Err(waits.join(", "))
            }
        });
        child.signal(Signal::TERM);
        let stderr = Text::of(child.0.stderr.take().expect("a pipe"));
        let (status, said) = (child.wait(), stderr.all());
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("nobody reads the output"), "{said}");
    });
}

#[test]
fn a_locked_down_kernel() {
    in_netns(|_| {
        mount("tmpfs", "/sys/kernel/security", "tmpfs", MountFlags::empty(), None).expect("a tmpfs over securityfs");
        std::fs::write("/sys/kernel/security/lockdown", "none integrity [confidentiality]\n").expect("a file");
        finish(&tcpwatch(&["stat"])).refuses(1, "locked down");
    });
}
