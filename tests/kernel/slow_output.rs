//! A reader that is slower than tcpwatch, or reads nothing: the run ends in time all the same, in whole lines, and what was dropped
//! is counted.

use std::io::{PipeReader, Read, pipe};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::child::Reaped;
use crate::support::clock::{pass, until};
use crate::support::heavy;
use crate::support::netns::in_netns;
use crate::support::output::Text;
use crate::support::peers::snmp;
use crate::support::program::run::tcpwatch;
use crate::support::program::trace::{PROBED, Probe, Written, connect_and_close};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::python::Python;
use crate::support::spoiled;
use crate::support::workload::bulk;

on_both_hooks!(
    ends_by_a_signal,
    ends_after_the_time_given,
    is_given_up_where_nobody_reads,
    a_reader_that_keeps_up_gets_everything,
    a_file_gets_everything,
);

/// Transitions of a connection of [`bulk::connections`], and of the two listeners that it has.
const EACH: i64 = 10;
const LISTENERS: i64 = 4;
/// Those of a probing connection and its listener.
const PROBING: i64 = 12;

/// How a reader reads.
#[derive(Clone, Copy)]
enum Pace {
    /// 1 KiB every 100 ms, as long as tcpwatch runs.
    Slow,
    /// So many bytes, and no more as long as tcpwatch runs.
    Stops(usize),
    Fast,
}

/// A tcpwatch that writes to a pipe of one page, and the thread that reads it.
struct Watch {
    process: Reaped,
    /// The reader is slow as long as this is there.
    runs: Sender<()>,
    reader: JoinHandle<Vec<u8>>,
    /// `Tcp:ActiveOpens` when it was started.
    opens: i64,
    probes: i64,
}

/// What is left of it.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    /// Transitions there were, by the kernel's own counter of connections.
    transitions: i64,
}

impl Watch {
    /// Starts `trace ARGS`, and connects until that shows.
    fn trace(hook: Hook, args: &[&str], pace: Pace) -> Self {
        let (reader, writer) = pipe().expect("a pipe");
        fcntl_setpipe_size(&writer, 4096).expect("a pipe of one page");
        let mut command = tcpwatch(&[&["trace", "--hook", hook.name()], args].concat());
        command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let process = Reaped::spawn(&mut command);
        // It holds the pipe's end.
        drop(command);
        let (runs, ended) = channel();
        let begun = Arc::new(AtomicBool::new(false));
        let has_begun = Arc::clone(&begun);
        let reader = thread::spawn(move || read(reader, pace, &ended, &begun));
        let opens = snmp::read().get("Tcp:ActiveOpens");
        let mut probes = 0;
        until("the trace to show a probing connection", || {
            connect_and_close(Probe::ANY);
            probes += 1;
            has_begun.load(Ordering::Relaxed)
        });
        Self {
            process,
            runs,
            reader,
            opens,
            probes,
        }
    }

    fn signalled(self, signal: Signal) -> Ended {
        spoiled::note(self.process.pid());
        self.process.signal(signal);
        self.ended()
    }

    /// Waits for its end, and reads the rest.
    fn ended(mut self) -> Ended {
        // By now it has seen all connections.
        spoiled::note(self.process.pid());
        let status = self.process.wait();
        drop(self.runs);
        let stderr = Text::of(self.process.0.stderr.take().expect("piped")).all();
        let stdout = String::from_utf8(self.reader.join().expect("the reader")).expect("UTF-8");
        let opened = snmp::read().get("Tcp:ActiveOpens") - self.opens - self.probes;
        Ended {
            code: status.code(),
            stdout,
            stderr,
            transitions: opened * EACH + LISTENERS,
        }
    }
}

/// Reads `pipe` to its end; `begun` once a probing connection shows.
fn read(mut pipe: PipeReader, pace: Pace, ended: &Receiver<()>, begun: &AtomicBool) -> Vec<u8> {
    let probed = PROBED.to_string();
    let mut all = Vec::new();
    loop {
        let most = if matches!(pace, Pace::Fast) { 65536 } else { 1024 };
        let mut part = vec![0; most];
        match pipe.read(&mut part).expect("a pipe") {
            0 => return all,
            count => all.extend_from_slice(&part[..count]),
        }
        if !begun.load(Ordering::Relaxed) {
            let shows = String::from_utf8_lossy(&all).contains(&probed);
            begun.store(shows, Ordering::Relaxed);
            continue;
        }
        match pace {
            Pace::Slow => drop(ended.recv_timeout(Duration::from_millis(100))),
            Pace::Stops(after) if all.len() >= after => drop(ended.recv()),
            Pace::Stops(_) | Pace::Fast => {}
        }
    }
}

impl Ended {
    /// The rows that arrived, without those of probing connections, and the numbers of the end: dropped and lost.
    fn rows(&self, form: &str) -> (i64, i64, i64) {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        assert!(self.stdout.ends_with('\n'), "the last line is not whole");
        let lines: Vec<&str> = self.stdout.lines().collect();
        let (rows, end) = match form {
            "json" => {
                let (end, rows) = lines.split_last().expect("an end");
                let end: Value = serde_json::from_str(end).expect("JSON");
                assert_eq!(end["schema"], "tcpwatch.trace.end/1", "the last line is the end");
                let number = |key: &str| end[key].as_i64().expect("a number");
                for row in rows {
                    let row: Value = serde_json::from_str(row).unwrap_or_else(|why| panic!("{why}: {row}"));
                    assert_eq!(row["schema"], "tcpwatch.trace/1");
                }
                let printed = i64::try_from(rows.len()).expect("few");
                assert_eq!(number("printed"), printed, "{end}");
                let sum = printed + number("dropped") + number("lost") + number("unmatched");
                assert_eq!(number("seen"), sum, "{end}");
                (rows, (number("dropped"), number("lost")))
            }
            "text" => {
                let (end, rows) = lines[1..].split_last().expect("an end");
                let number = |what: &str| -> i64 {
                    let parts = end.split([',', ';']).map(str::trim);
                    let found = parts.filter_map(|part| part.strip_suffix(what)?.trim().parse::<i64>().ok());
                    found.sum()
                };
                assert_eq!(number("shown"), i64::try_from(rows.len()).expect("few"), "{end}");
                assert!(end.contains(" transitions seen, "), "{end}");
                (rows, (number("dropped"), number("lost")))
            }
            _ => {
                let columns = lines[0].split(',').count();
                for line in &lines {
                    assert_eq!(line.split(',').count(), columns, "{line}");
                }
                (&lines[1..], (self.dropped_by_stderr(), 0))
            }
        };
        assert_eq!(end.0, self.dropped_by_stderr(), "{}", self.stderr);
        let probed = PROBED.to_string();
        let rows = rows.iter().filter(|row| !row.contains(&probed)).count();
        (i64::try_from(rows).expect("few"), end.0, end.1)
    }

    /// How many lines were dropped, by the line on stderr.
    fn dropped_by_stderr(&self) -> i64 {
        let mut lines = self.stderr.lines();
        let number = lines.find_map(|line| line.strip_prefix("tcpwatch: ")?.strip_suffix(DROPPED));
        number.map_or(0, |number| number.parse().expect("a number"))
    }

    /// What arrived, was dropped and was lost is what the kernel counted.
    fn adds_up(&self, form: &str, probes: i64) -> i64 {
        let (rows, dropped, lost) = self.rows(form);
        let missing = self.transitions - rows;
        // Of the probing connections some were before the trace, and the rows of some are among those dropped.
        assert!(
            (missing..=missing + probes * PROBING).contains(&(dropped + lost)),
            "{missing} of {} rows are missing, {dropped} were dropped and {lost} lost: {}",
            self.transitions,
            self.stderr
        );
        dropped
    }
}

/// How the line on stderr ends.
const DROPPED: &str = " rows of the output were dropped: its reader was too slow";

fn ends_by_a_signal(hook: Hook) {
    for (form, signal) in [("json", Signal::INT), ("text", Signal::TERM), ("csv", Signal::INT)] {
        in_netns(|_| {
            let watch = Watch::trace(hook, &["-o", form], Pace::Slow);
            let probes = watch.probes;
            bulk::connections(400);
            let dropped = watch.signalled(signal).adds_up(form, probes);
            assert!(dropped > 0, "the reader was not slow");
        });
    }
}

fn ends_after_the_time_given(hook: Hook) {
    for form in ["json", "text", "csv"] {
        in_netns(|_| {
            let watch = Watch::trace(hook, &["-o", form, "-d", "3"], Pace::Slow);
            let probes = watch.probes;
            bulk::connections(400);
            let dropped = watch.ended().adds_up(form, probes);
            assert!(dropped > 0, "the reader was not slow");
        });
    }
}

fn is_given_up_where_nobody_reads(hook: Hook) {
    for (form, args, signal) in [("text", &["-d", "3"][..], None), ("csv", &[], Some(Signal::INT))] {
        in_netns(|_| {
            let watch = Watch::trace(hook, &[&["-o", form], args].concat(), Pace::Stops(1));
            bulk::connections(200);
            let ended = match signal {
                Some(signal) => watch.signalled(signal),
                None => watch.ended(),
            };
            let said = (ended.code, ended.stderr.as_str());
            assert_eq!(
                said,
                (Some(1), "tcpwatch: nobody reads the output; the rest of it is lost\n")
            );
        });
    }
}

fn a_reader_that_keeps_up_gets_everything(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        let watch = Watch::trace(hook, &["-o", "json"], Pace::Fast);
        let probes = watch.probes;
        bulk::connections(3000);
        let ended = watch.signalled(Signal::INT);
        assert_eq!(ended.adds_up("json", probes), 0);
        let (rows, _, lost) = ended.rows("json");
        assert_eq!((rows, lost), (ended.transitions, 0));
    });
}

fn a_file_gets_everything(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        let trace = Written::start(hook, &[]);
        bulk::connections(3000);
        let probed = PROBED.to_string();
        let (mut rows, mut all) = (0, 0);
        let end = trace.finish(|row| {
            all += 1;
            rows += i64::from(!row.contains(&probed));
        });
        assert_eq!((&end["dropped"], &end["lost"]), (&0.into(), &0.into()), "{end}");
        assert_eq!((&end["seen"], &end["printed"]), (&all.into(), &all.into()), "{end}");
        assert_eq!(rows, 3000 * EACH + LISTENERS, "{end}");
    });
}

/// A loop that is slow at the end is not a reader that reads nothing.
#[test]
fn a_slow_loop_is_not_given_up() {
    in_netns(|_| {
        let watch = Watch::trace(Hook::TpBtf, &["-o", "json"], Pace::Fast);
        let mut tracer = Python::start(STOPS_MAIN_THREAD, &[&watch.process.pid().to_string()]);
        assert_eq!(tracer.line(0), "stopped");
        watch.process.signal(Signal::TERM);
        // Longer than an output may accept nothing.
        pass(Duration::from_secs(3));
        tracer.go();
        let ended = watch.ended();
        ended.rows("json");
        assert_eq!(ended.stderr, "");
    });
}

/// Stops the main thread of a process, and no other, until it reads a line (`ptrace(2)`).
const STOPS_MAIN_THREAD: &str = r#"
import ctypes, os, sys
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
pid = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if ptrace(request, pid, None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(pid, WALL)
print('"stopped"', flush=True)
sys.stdin.readline()
ptrace(DETACH, pid, None, None)
"#;
