//! A signal ends tcpwatch in good order whenever it comes, also while the kernel verifies its programs.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::Reaped;
use crate::support::clock::{eventually, now, pass, until};
use crate::support::lines::Lines;
use crate::support::netns::in_netns;
use crate::support::program::run::tcpwatch;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(at_any_moment_of_the_start);

/// Moments of a start at which it is interrupted, for each command and each way to interrupt it.
const MOMENTS: u32 = 4;
/// The signal that comes at such a moment, and whether it comes again and again until tcpwatch has ended.
const WAYS: [(Signal, bool); 5] = [
    (Signal::INT, false),
    (Signal::TERM, false),
    (Signal::HUP, false),
    (Signal::QUIT, false),
    (Signal::INT, true),
];

fn at_any_moment_of_the_start(hook: Hook) {
    in_netns(|_| {
        let start = start_of(hook);
        for command in [
            &["trace"][..],
            &["stat"],
            &["churn"],
            &["latency"],
            &["leaks", "--watch", "1s", "--fail-if-leak"],
        ] {
            let mut untold = 0;
            for moment in 0..MOMENTS {
                for way in WAYS {
                    let args = [command, &["--hook", hook.name(), "-o", "json"]].concat();
                    let said = interrupted(&args, way, start * moment / MOMENTS);
                    untold += u32::from(said.is_empty());
                    for line in said.lines() {
                        let json: Value = serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line}"));
                        assert!(json["schema"].is_string(), "{line}");
                    }
                }
            }
            assert!(
                untold > 0,
                "each {command:?} had begun when it was interrupted, so this proves nothing"
            );
        }
    });
}

/// As under nohup(1).
#[test]
fn an_ignored_hangup_ends_nothing() {
    in_netns(|_| {
        let program = tcpwatch(&["stat", "0.1", "-o", "json"]);
        let mut ignoring = Command::new("sh");
        ignoring.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
        ignoring.arg(program.get_program()).args(program.get_args());
        let mut process = spawned(ignoring);
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        until("a first row", || lines.len() > 0);
        process.signal(Signal::HUP);
        let before = lines.len();
        until("rows after the hangup", || lines.len() >= before + 3);
        process.signal(Signal::INT);
        assert_eq!(process.wait().code(), Some(0));
    });
}

/// How long a start takes, from the moment when tcpwatch takes over the signals to its first line.
fn start_of(hook: Hook) -> Duration {
    let mut program = spawned(tcpwatch(&["stat", "--hook", hook.name(), "-o", "json"]));
    until_signals_are_heard(&program);
    let start = now();
    let lines = Lines::of(program.0.stdout.take().expect("piped"));
    until("a line", || lines.len() > 0);
    start.elapsed()
}

/// What `tcpwatch ARGS` prints where a signal reaches it so long after it took the signals over. Where it measured nothing it must say
/// so and end with code 1, else with code 0 and in silence.
fn interrupted(args: &[&str], (signal, again): (Signal, bool), after: Duration) -> String {
    let mut process = spawned(tcpwatch(args));
    until_signals_are_heard(&process);
    pass(after);
    process.signal(signal);
    let status = eventually("tcpwatch to end", || {
        let ended = process.0.try_wait().expect("waiting for a child");
        if ended.is_none() && again {
            process.signal(signal);
        }
        ended.ok_or("it runs on")
    });
    let (_, said, complained) = process.output();
    let expected = if said.is_empty() {
        (Some(1), "tcpwatch: stopped before anything was measured\n")
    } else {
        (Some(0), "")
    };
    assert_eq!(
        (status.code(), complained.as_str()),
        expected,
        "{args:?}, {signal:?} after {after:?}: {status}"
    );
    said
}

fn spawned(mut command: Command) -> Reaped {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Reaped::spawn(&mut command)
}

/// A process that has not taken over a signal yet is killed by it, as any is.
fn until_signals_are_heard(process: &Reaped) {
    let all = WAYS
        .iter()
        .fold(0, |mask, (signal, _)| mask | 1 << (signal.as_raw() - 1));
    let path = format!("/proc/{}/status", process.pid());
    until("tcpwatch to take over the signals", || {
        let status = fs::read_to_string(&path).expect("its status");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|caught| caught & all == all)
    });
}
