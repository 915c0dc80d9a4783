//! `tcpwatch leaks`.

use rustix::process::Signal;
use serde_json::Value;

use super::run::{finish, tcpwatch};
use super::{Ended, Hook, Running};
use crate::support::clock::{PATIENCE, try_for};

/// A running `leaks --watch`.
pub(crate) struct Leaks {
    running: Running,
}

impl Leaks {
    /// Starts `leaks --watch EVERY --older OLDER --hook HOOK ARGS` and waits for its first look.
    pub(crate) fn start(hook: Hook, every: &str, older: &str, args: &[&str]) -> Self {
        let flags = ["leaks", "--watch", every, "--older", older, "--hook", hook.name()];
        let mut running = Running::start(&[&flags[..], args].concat());
        running.until_lines(1);
        let mut leaks = Self { running };
        leaks.until_looks(1);
        leaks
    }

    /// The process.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// Its looks that are over so far: each the groups, and what it found in all.
    pub(crate) fn looks(&self) -> Vec<Look> {
        let lines = self.running.lines().with(|lines| {
            let json = lines.iter().map(|line| line.json.clone());
            json.collect::<Vec<_>>()
        });
        looks(lines)
    }

    fn until_looks(&mut self, count: usize) {
        self.until("a look", |looks| {
            if looks.len() >= count {
                Ok(())
            } else {
                Err(looks.len().to_string())
            }
        });
    }

    /// Waits for a look that begins after this call.
    pub(crate) fn fresh(&mut self) -> Look {
        let looks = self.looks().len();
        self.until_looks(looks + 2);
        self.looks().pop().expect("a look")
    }

    /// Waits until the looks so far are what `holds` of them.
    pub(crate) fn until<T>(&self, what: &str, holds: impl Fn(&[Look]) -> Result<T, String>) -> T {
        // Some verdicts take half a minute.
        match try_for(PATIENCE, || holds(&self.looks())) {
            Ok(value) => value,
            Err(seen) => panic!("waited in vain for {what}: {seen}"),
        }
    }

    /// Ends it, by which it exits with `code`; it must have nothing to complain about.
    pub(crate) fn finish(self, code: i32) -> Vec<Look> {
        let Ended { lines, stderr } = self.running.finish_with(Signal::INT, code);
        assert_eq!(stderr, "", "it has nothing to complain about");
        looks(lines.into_iter().map(|line| line.json).collect())
    }
}

/// What one look found.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) groups: Vec<Value>,
    /// What is wrong by it.
    pub(crate) findings: Vec<Value>,
    pub(crate) all: Value,
}

impl Look {
    /// The group of process `pid` in `state`.
    pub(crate) fn group(&self, pid: u32, state: &str) -> Option<&Value> {
        let mut groups = self.groups.iter();
        groups.find(|group| group["owner"]["pid"] == pid && group["state"] == state)
    }
}

/// The looks in `lines`; what comes after the last whole one is left out.
fn looks(lines: Vec<Value>) -> Vec<Look> {
    let mut looks = Vec::new();
    let (mut groups, mut findings) = (Vec::new(), Vec::new());
    for line in lines {
        match line["schema"].as_str() {
            Some("tcpwatch.leak/1") => groups.push(line),
            Some("tcpwatch.finding/1") => findings.push(line),
            Some("tcpwatch.leak.look/1") => looks.push(Look {
                groups: std::mem::take(&mut groups),
                findings: std::mem::take(&mut findings),
                all: line,
            }),
            _ => panic!("{line} is of no look"),
        }
    }
    looks
}

/// One look by `leaks ARGS`.
pub(crate) fn look(args: &[&str]) -> Look {
    let finished = finish(&tcpwatch(&[&["leaks", "-o", "json"], args].concat()));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    parse(&finished.stdout)
}

/// The only look that `text` is of.
pub(crate) fn parse(text: &str) -> Look {
    let lines = text.lines();
    let lines = lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}")));
    let mut looks = looks(lines.collect());
    assert_eq!(looks.len(), 1, "{text}");
    looks.remove(0)
}
