//! What ends a recording, and the options of `replay`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tcpwatch::clock::monotonic_ns;
use tcpwatch::input::Input;
use tcpwatch::record::Recording;

use crate::support::child::Reaped;
use crate::support::clock::{pass, until};
use crate::support::leaking_server::Leaking;
use crate::support::netns::in_netns;
use crate::support::output::output;
use crate::support::program::run::{Finished, finish, tcpwatch};
use crate::support::workload::bulk;

/// A `record` under way, with these arguments after its directory.
fn recording(dir: &Path, args: &[&str]) -> Reaped {
    let path = dir.to_str().expect("UTF-8");
    let mut command = tcpwatch(&[&["record", "-w", path], args].concat());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Reaped::spawn(&mut command)
}

/// What the recording `dir` has, which must be whole.
fn inputs(dir: &Path) -> Vec<Input> {
    let mut recording = Recording::open(dir).expect("a recording");
    let mut inputs = Vec::new();
    while let Some(input) = recording.next(&|_| true).expect("a whole recording") {
        inputs.push(input);
    }
    inputs
}

/// What `tcpwatch replay` shows of the recording `dir`.
fn replay(dir: &Path, args: &[&str]) -> Finished {
    let path = dir.to_str().expect("UTF-8");
    finish(&tcpwatch(&[&["replay", path], args].concat()))
}

#[test]
fn a_signal_keeps_the_recording_whole() {
    in_netns(|_| {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
            let place = tempfile::tempdir().expect("a temporary directory");
            let dir = place.path().join("recording");
            let run = recording(&dir, &[]);
            let index = dir.join("index");
            until("the second piece of the recording", || {
                bulk::connections(2);
                pass(Duration::from_millis(20));
                fs::read_to_string(&index).is_ok_and(|index| index.lines().count() > 2)
            });
            run.signal(signal);
            let (status, _, stderr) = run.output();
            assert!(
                status.success() && stderr.contains("tcpwatch: recorded to"),
                "{signal:?}: {stderr}"
            );
            let inputs = inputs(&dir);
            assert!(
                matches!(inputs.last(), Some(Input::End(_))),
                "{signal:?}: {:?}",
                inputs.last()
            );
        }
    });
}

/// One that is stopped before it has anything to record leaves its directory to the next one.
#[test]
fn stopped_at_its_start_it_leaves_no_files() {
    in_netns(|_| {
        for args in [&[][..], &["--max-time", "1h", "--rotate"]] {
            let stopped = (0..5).find_map(|_| {
                let place = tempfile::tempdir().expect("a temporary directory");
                let dir = place.path().join("recording");
                let run = recording(&dir, args);
                until("its directory", || dir.exists());
                run.signal(Signal::TERM);
                let (status, ..) = run.output();
                // One that was recording by then is whole.
                (!status.success()).then_some((place, dir))
            });
            let (_place, dir) = stopped.expect("a run that is stopped at its start");
            assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 0, "{args:?}");
            let (status, _, stderr) = recording(&dir, &[args, &["-d", "0.5"]].concat()).output();
            assert!(status.success(), "{args:?}: {stderr}");
            assert!(matches!(inputs(&dir).last(), Some(Input::End(_))), "{args:?}");
        }
    });
}

#[test]
fn a_recording_ends_with_its_program() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        for (name, script, said) in [
            ("good", "sleep 1.5", ""),
            ("bad", "exit 3", "tcpwatch: sh ended with exit status: 3"),
        ] {
            let dir = place.path().join(name);
            let (status, _, stderr) = recording(&dir, &["0.2", "--", "sh", "-c", script]).output();
            assert!(status.success() && stderr.contains(said), "{script}: {stderr}");
            assert!(matches!(inputs(&dir).last(), Some(Input::End(_))), "{script}");
            let index = fs::read_to_string(dir.join("index")).expect("an index");
            assert!(
                !index.contains(script),
                "the arguments of a program are not recorded: {index}"
            );
        }
        let dir = place.path().join("none");
        let (status, _, stderr) = recording(&dir, &["--", "/no/such/program"]).output();
        assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains("cannot run /no/such/program"), "{stderr}");
    });
}

#[test]
fn a_recording_ends_at_its_size() {
    const SIZE: u64 = 1 << 20;
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let mut run = recording(&dir, &["0.2", "--max-size", "1M"]);
        until("the recording to end", || {
            bulk::connections(200);
            run.0.try_wait().expect("waiting for a child").is_some()
        });
        let (status, _, stderr) = run.output();
        assert!(status.success(), "{stderr}");
        let files = fs::read_dir(&dir).expect("a recording");
        let size: u64 = files
            .map(|file| file.expect("a file").metadata().expect("a file").len())
            .sum();
        // A second of a flood more: its rows are written together.
        assert!((SIZE..32 * SIZE).contains(&size), "{size} bytes");
        assert!(matches!(inputs(&dir).last(), Some(Input::End(_))));
    });
}

#[test]
fn a_recording_ends_at_its_length() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let (status, _, stderr) = recording(&dir, &["0.2", "--max-time", "1"]).output();
        assert!(status.success(), "{stderr}");
        assert!(matches!(inputs(&dir).last(), Some(Input::End(_))));
    });
}

/// Numbers of the parts that are there, in order.
fn parts(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir).into_iter().flatten();
    let numbers = names.map(|name| name.expect("a part").file_name().into_string().expect("UTF-8"));
    let mut numbers: Vec<u64> = numbers.map(|name| name.parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

/// Of a run that goes on the last is kept. It is shown as a run that began then.
#[test]
fn the_last_of_a_run_is_kept() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let run = recording(&dir, &["0.2", "--max-time", "2", "--rotate"]);
        until("parts to be removed", || {
            bulk::connections(20);
            parts(&dir).first().is_some_and(|&first| first > 2)
        });
        run.signal(Signal::INT);
        let (status, _, stderr) = run.output();
        assert!(status.success() && stderr.contains(" KiB kept, 0 lost"), "{stderr}");
        let inputs = inputs(&dir);
        let ticks = inputs.iter().filter_map(|input| match input {
            Input::Tick { monotonic_ns, .. } => Some(*monotonic_ns),
            _ => None,
        });
        let ticks: Vec<u64> = ticks.collect();
        let kept_ns = ticks[ticks.len() - 1] - ticks[0];
        assert!(kept_ns >= 2_000_000_000, "{kept_ns} ns are kept of the last 2 s");
        for (command, kind) in [("trace", "tcpwatch.trace"), ("life", "tcpwatch.life")] {
            let shown = replay(&dir, &[command, "-o", "json"]);
            assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{command}");
            let lines: Vec<Value> = shown
                .stdout
                .lines()
                .map(|line| serde_json::from_str(line).expect("JSON"))
                .collect();
            let (end, rows) = lines.split_last().expect("an end");
            assert_eq!(end["schema"], format!("{kind}.end/1"));
            assert_eq!(
                end["seen"],
                rows.len(),
                "{command}: each that is there is printed: {end}"
            );
            assert_eq!(end["printed"], rows.len(), "{command}: {end}");
            let recorded = inputs.iter().filter(|input| match input {
                Input::Transition(_) => command == "trace",
                Input::Connection(_) => command == "life",
                _ => false,
            });
            assert_eq!(recorded.count(), rows.len(), "{command}");
        }
        let one = dir.join(parts(&dir)[1].to_string());
        let one = replay(&one, &["stat"]);
        assert_eq!((one.code, one.stderr.as_str()), (Some(0), ""));
    });
}

/// `--speed` and `--redact` may stand before the command and after it.
#[test]
fn a_recording_is_shown_at_a_speed_and_by_pseudonyms() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let server = Leaking::start("error_path.c", 9000, &[]);
        let mut run = recording(&dir, &["-d", "2"]);
        while run.0.try_wait().expect("waiting for a child").is_none() {
            server.visit("");
            pass(Duration::from_millis(50));
        }
        let trace = ["trace", "-o", "json"];
        let whole = replay(&dir, &trace);
        assert_eq!((whole.code, whole.stderr.as_str()), (Some(0), ""));
        let comm = format!("\"comm\":\"{}\"", server.comm());
        assert!(whole.stdout.contains(&comm), "{}", whole.stdout);
        for args in [
            [&["--speed", "2"], &trace[..]].concat(),
            [&trace[..], &["--speed", "2"]].concat(),
            [&trace[..], &["--speed=2"]].concat(),
        ] {
            let start_ns = monotonic_ns();
            let slow = replay(&dir, &args);
            assert_eq!(slow.stdout, whole.stdout, "{args:?}");
            let took_ns = monotonic_ns() - start_ns;
            assert!(took_ns > 800_000_000, "{args:?}: {took_ns} ns");
        }
        let before = replay(&dir, &[&["--redact"], &trace[..]].concat());
        let after = replay(&dir, &[&trace[..], &["--redact"]].concat());
        assert_eq!(before.stdout, after.stdout);
        assert_eq!(before.stdout.lines().count(), whole.stdout.lines().count());
        assert!(
            !before.stdout.contains(&comm) && before.stdout.contains("\"comm\":\"name-"),
            "{}",
            before.stdout
        );
        for (args, why) in [
            (&["--speed", "0", "trace"][..], "'0' is not a speed"),
            (&["trace", "--speed"], "--speed needs a value"),
            (&["latency", "--by", "process"], "has no latency by process"),
        ] {
            let refused = replay(&dir, args);
            assert!(
                refused.code != Some(0) && refused.stdout.is_empty(),
                "{args:?}: {refused:?}"
            );
            assert_eq!(refused.stderr.lines().count(), 1, "{args:?}: {}", refused.stderr);
            assert!(refused.stderr.contains(why), "{args:?}: {}", refused.stderr);
        }
    });
}

/// A name in the filter of a recording is not shown, and what it selected is.
#[test]
fn a_filter_by_name_is_redacted() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let server = Leaking::start("error_path.c", 9000, &[]);
        let comm = server.comm();
        let path = dir.to_str().expect("UTF-8");
        let mut run = tcpwatch(&["trace", "-d", "1.5", "-o", "json", "--comm", &comm, "--record", path]);
        let mut run = Reaped::spawn(run.stdin(Stdio::null()).stdout(Stdio::null()));
        while run.0.try_wait().expect("waiting for a child").is_none() {
            server.visit("");
            pass(Duration::from_millis(50));
        }
        let (whole, redacted) = (replay(&dir, &[]), replay(&dir, &["--redact"]));
        assert_eq!((redacted.code, redacted.stderr.as_str()), (Some(0), ""));
        assert!(whole.stdout.contains(&comm), "{}", whole.stdout);
        assert!(!redacted.stdout.contains(&format!("\"{comm}\"")), "{}", redacted.stdout);
        assert_eq!(redacted.stdout.lines().count(), whole.stdout.lines().count());
        let refused = replay(&dir, &["--redact", "trace", "--remote", "127.0.0.1"]);
        assert_eq!(
            (refused.code, refused.stderr.lines().count()),
            (Some(1), 1),
            "{refused:?}"
        );
    });
}

/// The rows of a CSV file as Python's reader finds them, as JSON.
const CSV_ROWS: &str = "import csv, json, sys
print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline='')))))";

/// An exported table has the rows of the recording, in their order.
#[test]
fn an_export_has_what_was_recorded() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let mut run = recording(&dir, &["-d", "1.5"]);
        while run.0.try_wait().expect("waiting for a child").is_none() {
            bulk::connections(4);
            pass(Duration::from_millis(50));
        }
        let inputs = inputs(&dir);
        let out = place.path().join("out");
        let to = out.to_str().expect("UTF-8");
        let exported = replay(&dir, &["export", "-w", to, "--format", "csv"]);
        assert_eq!((exported.code, exported.stderr.as_str()), (Some(0), ""));
        let names: BTreeSet<&str> = exported
            .stdout
            .lines()
            .filter_map(|line| line.split('.').next())
            .collect();
        assert!(names.contains("transitions") && names.contains("ledger"), "{names:?}");
        let file = out.join("transitions.csv");
        let rows = output(Command::new("python3").args(["-c", CSV_ROWS]).arg(file));
        let rows: Vec<Value> = serde_json::from_str(&rows).expect("JSON");
        let numbered = (1..).zip(&inputs);
        let expected: Vec<[String; 7]> = numbered
            .filter_map(|(seq, input): (u64, _)| {
                let Input::Transition(event) = input else { return None };
                let port = |port: Option<std::num::NonZeroU16>| port.map_or_else(String::new, |port| port.to_string());
                let pid = event.owner.and_then(|owner| owner.pid);
                Some([
                    seq.to_string(),
                    event.local.ip.to_string(),
                    port(event.lport),
                    port(event.rport),
                    event.from.key().to_owned(),
                    event.to.key().to_owned(),
                    pid.map_or_else(String::new, |pid| pid.to_string()),
                ])
            })
            .collect();
        let columns = ["seq", "local", "lport", "rport", "from", "to", "owner_pid"];
        let found: Vec<[String; 7]> = rows
            .iter()
            .map(|row| columns.map(|column| row[column].as_str().unwrap_or("no such column").to_owned()))
            .collect();
        assert!(expected.len() > 20, "{}", expected.len());
        assert_eq!(found, expected);
    });
}
