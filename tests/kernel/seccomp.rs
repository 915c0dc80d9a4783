//! bpf(2) is refused, whole or by command, as seccomp profiles of containers do: one line says so, or what runs is right.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;

use crate::nothing_left::traces;
use crate::support::LOOPBACK;
use crate::support::clock::eventually;
use crate::support::netns::{in_netns, in_netns_without_tracefs};
use crate::support::proc_tcp;
use crate::support::program::churn::{Churn, Sums, of_process};
use crate::support::program::latency::Latency;
use crate::support::program::leaks::Leaks;
use crate::support::program::right::{stat_is_right, trace_is_right};
use crate::support::program::run::{Finished, finish, tcpwatch};
use crate::support::program::snapshot::states;
use crate::support::program::{Hook, Running, snapshot};
use crate::support::seccomp::{NEEDED, NOT_PERMITTED, Refused, refuse};
use crate::support::sockets::{Pair, listen, pair, read_eof};
use crate::support::spoiled::done_again;
use crate::support::states::{equal, none};
use crate::support::workload::bulk;

/// `tp_btf` is attached by this one.
const RAW_TRACEPOINT_OPEN: Refused = (Some(17), "BPF_RAW_TRACEPOINT_OPEN");
/// What needs none of these goes on without.
const OTHERS: [Refused; 7] = [
    (Some(1), "BPF_MAP_LOOKUP_ELEM"),
    (Some(4), "BPF_MAP_GET_NEXT_KEY"),
    RAW_TRACEPOINT_OPEN,
    (Some(24), "BPF_MAP_LOOKUP_BATCH"),
    (Some(27), "BPF_MAP_DELETE_BATCH"),
    (Some(28), "BPF_LINK_CREATE"),
    (Some(33), "BPF_ITER_CREATE"),
];
/// Commands that watch, and end soon where nothing happens.
const STAT: &[&str] = &["stat", "0.1", "2"];
const TRACE: &[&str] = &["trace", "-d", "100ms"];
const CHURN: &[&str] = &["churn", "0.1", "-d", "100ms"];
const LATENCY: &[&str] = &["latency", "0.1", "--by", "lport", "-d", "100ms"];
const LEAKS: &[&str] = &["leaks", "--watch", "100ms", "--stacks", "-d", "100ms"];

/// Connections that are made to see whether a run is right.
const CONNECTIONS: i64 = 20;

/// Runs `tcpwatch ARGS` to its end where nothing happens; it leaves nothing behind.
fn run(args: &[&str], refused: Option<u32>) -> Finished {
    in_netns_without_tracefs(|_| {
        let before = traces();
        refuse(refused);
        let finished = finish(&tcpwatch(args));
        assert_eq!(traces(), before);
        finished
    })
}

/// Whether `is_right` does not panic; else its message.
fn runs_right(refused: Option<u32>, is_right: impl Fn() + Sync) -> Result<(), String> {
    let run = || {
        in_netns(|_| {
            refuse(refused);
            is_right();
        });
    };
    let message = |panic: Box<dyn Any + Send>| panic.downcast_ref::<String>().cloned().unwrap_or_default();
    catch_unwind(AssertUnwindSafe(|| done_again(run)))
        .map_err(|panic| format!("it runs, but is not right: {}", message(panic)))
}

/// Whether `tcpwatch ARGS` ends in one line wherever it cannot be right, and `is_right` elsewhere.
fn check(args: &[&str], is_right: fn(Hook)) {
    let mut wrong = Vec::new();
    // All commands are refused in one place, which one of them shows on each hook.
    let hooks: &[&str] = if args == STAT {
        &["auto", "tp_btf", "tracepoint"]
    } else {
        &["auto"]
    };
    for (refused, name) in NEEDED {
        for hook in hooks {
            let finished = run(&[args, &["--hook", hook]].concat(), refused);
            let how = finished.refused(1, NOT_PERMITTED).err();
            wrong.extend(how.map(|how| format!("{name}, {hook}: {how}")));
        }
    }
    for (refused, name) in OTHERS {
        for hook in Hook::BOTH {
            let finished = run(&[args, &["--hook", hook.name()]].concat(), refused);
            let outcome = match finished.code {
                Some(0) => runs_right(refused, || is_right(hook)),
                _ => finished.refused(1, NOT_PERMITTED),
            };
            wrong.extend(outcome.err().map(|how| format!("{name}, {}: {how}", hook.name())));
        }
    }
    assert!(wrong.is_empty(), "{args:?}:\n{}", wrong.join("\n"));
}

#[test]
fn stat_is_right_or_one_line_says_why_not() {
    check(STAT, |hook| {
        stat_is_right(Running::start(&["stat", "0.2", "--hook", hook.name()]));
    });
}

#[test]
fn trace_is_right_or_one_line_says_why_not() {
    check(TRACE, |hook| {
        trace_is_right(Running::start(&["trace", "--hook", hook.name()]));
    });
}

#[test]
fn churn_is_right_or_one_line_says_why_not() {
    check(CHURN, |hook| {
        let mut churn = Churn::start(hook, "0.2");
        bulk::connections(CONNECTIONS);
        churn.fresh();
        let (rows, _) = churn.finish_with_findings();
        let ours = Sums {
            opened: CONNECTIONS,
            failed: 0,
            time_wait: CONNECTIONS,
        };
        assert_eq!(Sums::of(of_process(&rows, process::id())), ours, "{rows:?}");
    });
}

#[test]
fn latency_is_right_or_one_line_says_why_not() {
    check(LATENCY, |hook| {
        let latency = Latency::start(hook, &["--by", "lport"]);
        let made = bulk::connections(CONNECTIONS);
        let mut ended = none();
        ended.insert("time_wait", CONNECTIONS);
        eventually("the connections to end", || equal(&proc_tcp::counts(), &ended));
        assert_eq!(latency.finish().equals(&made), Ok(()));
    });
}

#[test]
fn leaks_is_right_or_one_line_says_why_not() {
    check(LEAKS, |hook| {
        let leaks = Leaks::start(hook, "0.5", "0.5", &["--stacks"]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let Pair { client, server } = pair(&listener);
        drop(client);
        read_eof(&server);
        leaks.until("the forgotten connection and where it was opened", |scans| {
            let scan = scans.last().ok_or("no scan")?;
            let group = scan.group(process::id(), "close_wait");
            let group = group.filter(|group| group["sockets"] == 1 && group["stacks"][0]["sockets"] == 1);
            group.map(drop).ok_or(format!("{:?}", scan.groups))
        });
        drop(server);
        leaks.finish(0);
    });
}

#[test]
fn snapshot_is_right_however_little_is_permitted() {
    let mut wrong = Vec::new();
    for (refused, name) in NEEDED.into_iter().chain(OTHERS) {
        let counts = |source: &str| {
            runs_right(refused, || {
                let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
                let pairs = [(); 3].map(|()| pair(&listener));
                let args = ["snapshot", "-o", "json", "--source", source];
                let counted = snapshot::parse(&tcpwatch(&args));
                assert_eq!(equal(&states(&counted), &proc_tcp::counts()), Ok(()));
                drop(pairs);
            })
        };
        let finished = run(&["snapshot", "--source", "iter"], refused);
        let iter = match finished.code {
            Some(0) => counts("iter"),
            _ => finished.refused(1, NOT_PERMITTED),
        };
        let outcomes = [("auto", counts("auto")), ("iter", iter)];
        wrong.extend(outcomes.into_iter().filter_map(|(source, outcome)| {
            let how = outcome.err()?;
            Some(format!("{name}, {source}: {how}"))
        }));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn where_tp_btf_alone_is_refused_the_classic_hook_serves() {
    for args in [STAT, TRACE, CHURN, LATENCY] {
        let (refused, _) = RAW_TRACEPOINT_OPEN;
        let finished = run(&[args, &["--hook", "auto"]].concat(), refused);
        let lines: Vec<&str> = finished.stderr.lines().collect();
        assert_eq!((finished.code, lines.len()), (Some(0), 1), "{args:?}: {finished:?}");
        assert!(lines[0].contains("using the classic tracepoint"), "{args:?}: {lines:?}");
    }
}
