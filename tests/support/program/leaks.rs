//! `tcpwatch leaks`.

use rustix::process::Signal;
use serde_json::Value;

use super::run::{finish, tcpwatch};
use super::{Ended, Hook, Running};
use crate::support::clock::eventually;

/// A running `leaks --watch`.
pub(crate) struct Leaks {
    running: Running,
}

impl Leaks {
    /// Starts `leaks --watch EVERY --older OLDER --hook HOOK ARGS` and waits for its first scan.
    pub(crate) fn start(hook: Hook, every: &str, older: &str, args: &[&str]) -> Self {
        let flags = ["leaks", "--watch", every, "--older", older, "--hook", hook.name()];
        let mut running = Running::start(&[&flags[..], args].concat());
        running.until_lines(1);
        let mut leaks = Self { running };
        leaks.until_scans(1);
        leaks
    }

    /// The process.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Its scans that are over so far: each the groups, and what it found in all.
    pub(crate) fn scans(&self) -> Vec<Scan> {
        let lines = self.running.lines().with(|lines| {
            let json = lines.iter().map(|line| line.json.clone());
            json.collect::<Vec<_>>()
        });
        scans(lines)
    }

    fn until_scans(&mut self, count: usize) {
        self.until("a scan", |scans| {
            if scans.len() >= count {
                Ok(())
            } else {
                Err(scans.len().to_string())
            }
        });
    }

    /// Waits for a scan that begins after this call.
    pub(crate) fn fresh(&mut self) -> Scan {
        let scans = self.scans().len();
        self.until_scans(scans + 2);
        self.scans().pop().expect("a scan")
    }

    /// Waits until the scans so far are what `holds` of them.
    pub(crate) fn until<T>(&self, what: &str, holds: impl Fn(&[Scan]) -> Result<T, String>) -> T {
        eventually(what, || holds(&self.scans()))
    }

    /// Ends it, by which it exits with `code`; it must have nothing to complain about.
    pub(crate) fn finish(self, code: i32) -> Vec<Scan> {
        let Ended { lines, stderr } = self.running.finish_with(Signal::INT, code);
        assert_eq!(stderr, "", "it has nothing to complain about");
        scans(lines.into_iter().map(|line| line.json).collect())
    }
}

/// What one scan found.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// Those that have stuck sockets, or had.
    pub(crate) groups: Vec<Value>,
    /// Those of which no socket is stuck yet.
    pub(crate) young: Vec<Value>,
    /// What is wrong by it.
    pub(crate) findings: Vec<Value>,
    pub(crate) all: Value,
}

impl Scan {
    /// The group of process `pid` in `state`.
    pub(crate) fn group(&self, pid: u32, state: &str) -> Option<&Value> {
        let mut groups = self.groups.iter();
        groups.find(|group| group["owner"]["pid"] == pid && group["state"] == state)
    }
}

/// The scans in `lines`; what comes after the last whole one is left out.
fn scans(lines: Vec<Value>) -> Vec<Scan> {
    let mut scans = Vec::new();
    let (mut groups, mut young, mut findings) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        match line["schema"].as_str() {
            Some("tcpwatch.leak/1") if line["verdict"] == "young" => young.push(line),
            Some("tcpwatch.leak/1") => groups.push(line),
            Some("tcpwatch.finding/1") => findings.push(line),
            Some("tcpwatch.leak.scan/1") => scans.push(Scan {
                groups: std::mem::take(&mut groups),
                young: std::mem::take(&mut young),
                findings: std::mem::take(&mut findings),
                all: line,
            }),
            _ => panic!("{line} is of no scan"),
        }
    }
    scans
}

/// One scan by `leaks ARGS`.
pub(crate) fn scan(args: &[&str]) -> Scan {
    let finished = finish(&tcpwatch(&[&["leaks", "-o", "json"], args].concat()));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    parse(&finished.stdout)
}

/// The only scan that `text` is of.
pub(crate) fn parse(text: &str) -> Scan {
    let lines = text.lines();
    let lines = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
    let mut scans = scans(lines.collect());
    assert_eq!(scans.len(), 1, "{text}");
    scans.remove(0)
}
