//! A filter on owners that no process matches: a PID is refused, a name or a cgroup is waited for.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use rustix::thread::gettid;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::agent::Agent;
use crate::support::child::Reaped;
use crate::support::clock::{eventually, until};
use crate::support::netns::in_netns;
use crate::support::pidns::{PidNamespace, Proc};
use crate::support::program::run::{binary, finish, tcpwatch};
use crate::support::program::trace::{Probe, connect_and_close};
use crate::support::program::{Hook, Running, on_both_hooks};

on_both_hooks!(
    a_pid_is_refused,
    a_name_and_a_cgroup_that_never_come,
    a_process_that_comes_later,
    a_process_that_was_there_and_did_nothing,
);

/// PIDs are below 4194304 (`PID_MAX_LIMIT`, include/linux/threads.h).
const NOBODY: &str = "4194305";

/// The commands that watch, for half a second.
const WATCHES: [&[&str]; 5] = [
    &["trace", "-d", "0.5"],
    &["life", "-d", "0.5"],
    &["churn", "-d", "0.5"],
    &["latency", "-d", "0.5"],
    &["leaks", "-d", "0.5"],
];

/// `tcpwatch WATCH --hook HOOK ARGS`, not started yet.
fn watching(watch: &[&str], hook: Hook, args: &[&str]) -> Command {
    tcpwatch(&[watch, &["--hook", hook.name()], args].concat())
}

fn a_pid_is_refused(hook: Hook) {
    in_netns(|_| {
        for watch in WATCHES {
            for form in ["text", "json", "csv"] {
                let finished = finish(&watching(watch, hook, &["-o", form, "-p", NOBODY]));
                finished.refuses(1, &format!("no process has PID {NOBODY};"));
            }
            // As in snapshot, a thread is no process.
            let refused = || {
                let thread = gettid().as_raw_nonzero().to_string();
                let finished = finish(&watching(watch, hook, &["-p", &thread]));
                finished.refuses(1, &format!("no process has PID {thread};"));
                finish(&tcpwatch(&["snapshot", "-p", &thread])).refuses(1, &format!("no process has PID {thread};"));
            };
            thread::scope(|scope| scope.spawn(refused).join()).expect("another thread");
            let ours = std::process::id().to_string();
            let other_name = watching(watch, hook, &["-p", &ours, "--comm", "no such name"]);
            finish(&other_name).refuses(1, "no process matches");
            let one_of_two = finish(&watching(watch, hook, &["-p", &format!("{NOBODY},{ours}")]));
            assert_eq!(
                (one_of_two.code, one_of_two.stderr.as_str()),
                (Some(0), ""),
                "{one_of_two:?}"
            );
        }
    });
}

fn a_name_and_a_cgroup_that_never_come(hook: Hook) {
    in_netns(|_| {
        for watch in WATCHES {
            for [option, value, shown] in [
                ["--comm", "no such name", "'no such name'"],
                ["--cgroup", "/no/such/cgroup", "/no/such/cgroup"],
            ] {
                let mut command = watching(watch, hook, &["-o", "json", option, value]);
                let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
                let mut child = Reaped::spawn(command.stderr(Stdio::piped()));
                until("it to end, with connections of others", || {
                    connect_and_close(Probe::ANY);
                    child.0.try_wait().expect("waiting for a child").is_some()
                });
                let [stdout, stderr] = printed(&mut child);
                assert_eq!(child.wait().code(), Some(1), "{stderr}");
                let last = stdout.lines().last().expect("an end");
                let end: Value = serde_json::from_str(last).expect("JSON");
                let others = match watch[0] {
                    "leaks" | "churn" | "latency" => String::new(),
                    command => {
                        let unmatched = end["unmatched"].as_u64().expect("a number");
                        assert!(unmatched > 1 && end["printed"] == 0, "{end}");
                        let kind = if command == "life" {
                            "connections"
                        } else {
                            "transitions"
                        };
                        format!(": other or unknown owners had {unmatched} {kind}")
                    }
                };
                let expected = [
                    format!("tcpwatch: no process matches {option} {shown} yet; waiting for one"),
                    format!("tcpwatch: nothing matched {option} {shown}{others}; try tcpwatch snapshot --by process"),
                ];
                // A number may have commas between its thousands.
                let lines: Vec<String> = stderr.lines().map(|line| line.replace(',', "")).collect();
                assert_eq!(lines, expected, "{end}");
            }
        }
    });
}

/// What `child` has printed on standard output and standard error; it has ended.
fn printed(child: &mut Reaped) -> [String; 2] {
    let stdout = child.0.stdout.take().expect("a pipe");
    let stderr = child.0.stderr.take().expect("a pipe");
    [
        std::io::read_to_string(stdout).expect("its output"),
        std::io::read_to_string(stderr).expect("its errors"),
    ]
}

/// A name that no process of another test has, by `kind`.
fn unique(kind: &str) -> String {
    format!("{}{}", &kind[..2], std::process::id())
}

fn a_process_that_comes_later(hook: Hook) {
    in_netns(|_| {
        let name = unique(hook.name());
        let waits = format!("tcpwatch: no process matches --comm {name} yet; waiting for one\n");
        for watch in [&["trace"][..], &["life"], &["leaks", "--watch", "0.2"]] {
            let errors = NamedTempFile::new().expect("a temporary file");
            let mut command = Command::new("sh");
            command.args(["-c", r#"exec "$@" 2> "$0""#]).arg(errors.path());
            let program = watching(watch, hook, &["-o", "json", "--comm", &name]);
            command.arg(program.get_program()).args(program.get_args());
            let running = Running::spawn(&mut command);
            let stderr = || fs::read_to_string(errors.path()).expect("its errors");
            until("it to wait for a process", || stderr() == waits);
            let mut late = Agent::named(&name);
            // One end stays in CLOSE_WAIT and the other in FIN_WAIT2, for leaks.
            late.run("l = socket.create_server(('127.0.0.1', 8080))");
            late.run("c = socket.create_connection(('127.0.0.1', 8080)); s = l.accept()[0]");
            late.run("c.shutdown(socket.SHUT_WR)");
            let row = eventually("a row of that process", || {
                late.probe();
                let found = running.lines().with(|lines| {
                    let mut rows = lines.iter().map(|line| &line.json);
                    rows.rfind(|row| row["owner"].is_object()).cloned()
                });
                found.ok_or("it is not there")
            });
            assert_eq!(row["owner"]["pid"].as_u64(), Some(late.pid()), "{row}");
            running.finish();
            assert_eq!(stderr(), waits);
        }
    });
}

fn a_process_that_was_there_and_did_nothing(hook: Hook) {
    in_netns(|_| {
        let idle = Agent::named("idle");
        for watch in WATCHES {
            for args in [["--comm", "idle"], ["-p", &idle.pid().to_string()]] {
                let finished = finish(&watching(watch, hook, &args));
                assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
            }
        }
    });
}

/// A process that started meanwhile matches, though it had no connection.
#[test]
fn a_process_that_came_and_did_nothing() {
    in_netns(|_| {
        let name = unique("meanwhile");
        for watch in ["trace", "leaks"] {
            let [out, errors] = [(); 2].map(|()| NamedTempFile::new().expect("a temporary file"));
            let text = |file: &NamedTempFile| fs::read_to_string(file.path()).expect("what was printed");
            let mut command = tcpwatch(&[watch, "-d", "600", "--comm", &name]);
            command
                .stdin(Stdio::null())
                .stdout(out.reopen().expect("the temporary file"))
                .stderr(errors.reopen().expect("the temporary file"));
            let mut child = Reaped::spawn(&mut command);
            until("it to watch", || !text(&out).is_empty());
            let late = Agent::named(&name);
            child.signal(Signal::INT);
            assert_eq!(child.wait().code(), Some(0), "{}", text(&errors));
            let waits = format!("tcpwatch: no process matches --comm {name} yet; waiting for one\n");
            assert_eq!(text(&errors), waits);
            drop(late);
        }
    });
}

/// All processes inside have a PID there; those outside have names too, which are not known.
#[test]
fn in_another_pid_namespace() {
    in_netns(|_| {
        let inner = PidNamespace::new();
        let trace = |args: &[&str]| {
            let mut command = inner.enter(Proc::Own, binary());
            command.args(["trace", "-d", "0.3", "-o", "json"]).args(args);
            finish(&command)
        };
        trace(&["-p", NOBODY]).refuses(1, &format!("no process has PID {NOBODY};"));
        let by_name = trace(&["--comm", "no such name"]);
        assert_eq!((by_name.code, by_name.stderr.as_str()), (Some(0), ""), "{by_name:?}");
    });
}
