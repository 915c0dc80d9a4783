//! The program under test, as users run it: a child process whose output is read.

use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::child::Reaped;
use super::clock::eventually;
use super::holder::only_child;
use super::lines::{Line, Lines};
use super::output::Text;
use super::spoiled;

pub(crate) mod churn;
pub(crate) mod counts;
pub(crate) mod doctor;
pub(crate) mod event;
pub(crate) mod latency;
pub(crate) mod leaks;
pub(crate) mod lives;
pub(crate) mod right;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod stat;
pub(crate) mod trace;

use run::tcpwatch;
use tcpwatch::input::release::Release;

/// Where the kernel side is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    TpBtf,
    Tracepoint,
}

impl Hook {
    pub(crate) const BOTH: [Self; 2] = [Self::TpBtf, Self::Tracepoint];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl Hook {
    /// Whether the kernel counts the runs that it skips of a program on this hook, or skips none.
    pub(crate) fn knows_missed(self) -> bool {
        // Before Linux 6.7 the number is there for a classic tracepoint too, and stays 0.
        self == Self::TpBtf || tcpwatch::sys::release::running() >= Release::COUNTS_CLASSIC_MISSES
    }
}

/// Makes `NAME::tp_btf` and `NAME::tracepoint` of each function `NAME(Hook)`.
macro_rules! on_both_hooks {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[test]
            fn tp_btf() {
                crate::support::spoiled::done_again(|| super::$name(crate::support::program::Hook::TpBtf));
            }
            #[test]
            fn tracepoint() {
                crate::support::spoiled::done_again(|| super::$name(crate::support::program::Hook::Tracepoint));
            }
        })*
    };
}
pub(crate) use on_both_hooks;

/// A tcpwatch that prints JSON until it is told to stop.
pub(crate) struct Running {
    process: Reaped,
    /// Its number: that of `process`, or of its child.
    pid: u32,
    lines: Lines,
    stderr: Text,
}

/// What is left of one that ended.
pub(crate) struct Ended {
    pub(crate) lines: Vec<Line>,
    /// What it said on stderr.
    pub(crate) stderr: String,
}

impl Running {
    /// Starts `tcpwatch ARGS -o json`.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = tcpwatch(args);
        command.args(["-o", "json"]);
        Self::spawn(&mut command)
    }

    /// Starts a command that prints JSON.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Reaped::spawn(command);
        let lines = Lines::of(process.0.stdout.take().expect("piped"));
        let stderr = Text::of(process.0.stderr.take().expect("piped"));
        Self {
            pid: process.pid(),
            process,
            lines,
            stderr,
        }
    }

    /// Starts a command that starts tcpwatch as its only child, and ends as that does.
    pub(crate) fn below(command: &mut Command) -> Self {
        let mut running = Self::spawn(command);
        running.pid = eventually("tcpwatch to be started", || {
            running.must_run();
            only_child(running.process.pid(), "tcpwatch")
        });
        running
    }

    /// Its lines so far.
    pub(crate) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends `signal`.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a number"), signal).expect("sending a signal");
    }

    /// Waits for `n` lines.
    pub(crate) fn until_lines(&mut self, n: usize) {
        eventually(&format!("line {n} of tcpwatch"), || {
            self.must_run();
            if self.lines.len() >= n {
                Ok(())
            } else {
                Err(format!("it printed {}", self.lines.len()))
            }
        });
    }

    /// A program that has ended by itself fails the test, with what it said on stderr.
    fn must_run(&mut self) {
        if let Some(status) = self.process.0.try_wait().expect("waiting for a child") {
            panic!("tcpwatch ended by itself with {status} and says {:?}", self.said());
        }
    }

    /// What it said on stderr, once it has ended.
    fn said(&self) -> String {
        self.stderr.all()
    }

    /// SIGINT, then everything it printed; it must end with code 0.
    pub(crate) fn finish(self) -> Ended {
        self.finish_by(Signal::INT)
    }

    /// The same with another signal.
    pub(crate) fn finish_by(self, signal: Signal) -> Ended {
        self.finish_with(signal, 0)
    }

    /// The same with another exit code.
    pub(crate) fn finish_with(mut self, signal: Signal, code: i32) -> Ended {
        self.must_run();
        spoiled::note(self.pid());
        self.signal(signal);
        let status = self.process.wait();
        let stderr = self.said();
        assert_eq!(
            status.code(),
            Some(code),
            "tcpwatch ends with {status} and says {stderr:?}"
        );
        Ended {
            lines: self.lines.all(),
            stderr,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        spoiled::note(self.pid());
    }
}
