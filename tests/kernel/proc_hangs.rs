//! A process that hangs in /proc: whoever reads its name waits for ever. Rows come all the same, and owners are unknown with a reason.

use std::cell::RefCell;
use std::net::{Shutdown, SocketAddr};
use std::process::Command;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::Value;
use tcpwatch_common::TcpState;

use crate::support::LOOPBACK;
use crate::support::agent::Agent;
use crate::support::clock::eventually;
use crate::support::netns::in_netns;
use crate::support::program::run::tcpwatch;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::sockets::{address, listen, pair, socket, start_connect};

on_both_hooks!(of_trace, of_trace_by_name, of_churn);

/// `tcpwatch ARGS -o json`, for which reading the name of this process, who has all the sockets, takes for ever: a pipe that nobody
/// writes into is mounted over it, where tcpwatch alone sees it.
fn hanging(hook: Hook, args: &[&str]) -> (tempfile::TempDir, Running) {
    let place = tempfile::tempdir().expect("a temporary directory");
    let pipe = place.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("a pipe");
    let program = tcpwatch(args);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]);
    command.arg(&pipe).arg(format!("/proc/{}/comm", std::process::id()));
    command.arg(program.get_program()).args(program.get_args());
    command.args(["--hook", hook.name(), "-o", "json"]);
    (place, Running::spawn(&mut command))
}

/// The first line for which `find` finds something.
fn line<T>(running: &Running, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
    eventually(what, || {
        let found = running
            .lines()
            .with(|lines| lines.iter().find_map(|line| find(&line.json)));
        found.ok_or_else(|| "it is not there".to_owned())
    })
}

/// The owner of a connection from before must be looked for in /proc.
fn of_trace(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let before = pair(&listener);
        let (place, trace) = hanging(hook, &["trace", "--state", "close_wait"]);
        // It reads /proc once it is attached.
        eventually("the thread that reads /proc", || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", trace.pid())).map_err(|why| why.to_string())?;
            let mut names = threads
                .flatten()
                .map(|thread| std::fs::read(thread.path().join("comm")));
            if names.any(|name| name.is_ok_and(|name| name == b"proc\n")) {
                Ok(())
            } else {
                Err("it is not there".to_owned())
            }
        });
        let port = address(&before.client).port();
        before.client.shutdown(Shutdown::Write).expect("shutdown()");
        let row = line(&trace, "the row of the connection from before", |line| {
            (line["rport"] == port && line["to"] == TcpState::CloseWait.key()).then(|| line.clone())
        });
        assert_eq!(
            (&row["owner"], &row["owner_unknown"]),
            (&Value::Null, &"not_scanned_yet".into()),
            "{row}"
        );
        let ended = trace.finish();
        assert!(
            ended.stderr.contains("reading /proc takes more than 10 s"),
            "{}",
            ended.stderr
        );
        drop(place);
    });
}

/// Whether there is a process of that name cannot be read in time, so it is not refused, nor said to be missing.
fn of_trace_by_name(hook: Hook) {
    in_netns(|_| {
        let (place, trace) = hanging(hook, &["trace", "--comm", "asked"]);
        let asked = RefCell::new(Agent::named("asked"));
        let traced = Trace::probing(trace, || asked.borrow_mut().probe()).finish();
        assert!(!traced.said.contains("match"), "{}", traced.said);
        drop(place);
    });
}

/// The owner of a listener that drops something must be looked for in /proc.
fn of_churn(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 0);
        let (place, mut churn) = hanging(hook, &["churn", "0.5"]);
        churn.until_lines(1);
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let client = socket(address(&listener));
                start_connect(&client, address(&listener));
                client
            })
            .collect();
        let overflows = |line: &Value| line["accept_queues"]["overflows"].as_u64().filter(|&count| count > 0);
        line(&churn, "the interval in which it overflows", overflows);
        let rows = churn.lines().len();
        churn.until_lines(rows + 3);
        let ended = churn.finish();
        let lost = ended.lines.iter().map(|line| line.json["lost"].as_u64().unwrap_or(0));
        assert_eq!(lost.max(), Some(0), "the ring is read");
        drop((place, clients));
    });
}
