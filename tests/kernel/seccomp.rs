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
use crate::support::skipped::done_again;
use crate::support::sockets::{Pair, listen, pair, read_eof};
use crate::support::states::{equal, none};
use crate::support::workload::bulk;

/// A command of bpf(2) (`enum bpf_cmd`), `None` for all of them, and its name.
type Refused = (Option<u32>, &'static str);

/// Without these nothing can be watched.
const NEEDED: [Refused; 7] = [
    (None, "all of bpf(2)"),
    (Some(0), "BPF_MAP_CREATE"),
    (Some(2), "BPF_MAP_UPDATE_ELEM"),
    (Some(5), "BPF_PROG_LOAD"),
    (Some(15), "BPF_OBJ_GET_INFO_BY_FD"),
    (Some(18), "BPF_BTF_LOAD"),
    (Some(22), "BPF_MAP_FREEZE"),
];
/// `tp_btf` is attached by this one.
const RAW_TRACEPOINT_OPEN: Refused = (Some(17), "BPF_RAW_TRACEPOINT_OPEN");
/// What needs none of these goes on without.
const OTHERS: [Refused; 5] = [
    (Some(1), "BPF_MAP_LOOKUP_ELEM"),
    (Some(4), "BPF_MAP_GET_NEXT_KEY"),
    RAW_TRACEPOINT_OPEN,
    (Some(28), "BPF_LINK_CREATE"),
    (Some(33), "BPF_ITER_CREATE"),
];
/// The line says this, with what to do.
const NOT_PERMITTED: &str = "bpf(2) is not permitted";

/// Commands that watch, and end soon where nothing happens.
const STAT: &[&str] = &["stat", "0.1", "2"];
const TRACE: &[&str] = &["trace", "-d", "100ms"];
const CHURN: &[&str] = &["churn", "0.1", "-d", "100ms"];
const LATENCY: &[&str] = &["latency", "0.1", "-d", "100ms"];
const LEAKS: &[&str] = &["leaks", "--watch", "100ms", "--stacks", "-d", "100ms"];

/// Connections that are made to see whether a run is right.
const CONNECTIONS: i64 = 20;

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K` (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number of the call, and its first argument.
const CALL: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// From here on bpf(2) answers EPERM to this thread and to all that it starts: to the command `refused` of it, or to all.
fn refuse(refused: Option<u32>) {
    let bpf = u32::try_from(libc::SYS_bpf).expect("a small number");
    let answer = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let step = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = vec![step(LOAD, CALL, 0, 0)];
    match refused {
        None => filter.push(step(JUMP_IF_EQUAL, bpf, 0, 1)),
        Some(number) => filter.extend([
            step(JUMP_IF_EQUAL, bpf, 0, 3),
            step(LOAD, FIRST_ARGUMENT, 0, 0),
            step(JUMP_IF_EQUAL, number, 0, 1),
        ]),
    }
    filter.extend([step(RETURN, answer, 0, 0), step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)]);
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("a short filter"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: prctl(2) reads the filter, which lives until it returns.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(answer, 0, "seccomp: {}", std::io::Error::last_os_error());
}

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
    for (refused, name) in NEEDED {
        for hook in ["auto", "tp_btf", "tracepoint"] {
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
        let latency = Latency::start(hook, &[]);
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
        leaks.until("the forgotten connection and where it was opened", |looks| {
            let look = looks.last().ok_or("no look")?;
            let group = look.group(process::id(), "close_wait");
            let group = group.filter(|group| group["sockets"] == 1 && group["stacks"][0]["sockets"] == 1);
            group.map(drop).ok_or(format!("{:?}", look.groups))
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
