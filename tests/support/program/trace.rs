//! `tcpwatch trace`.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::event::{Event, lives, path};
use super::run::tcpwatch;
use super::{Ended, Hook, Running};
use crate::support::child::Reaped;
use crate::support::clock::{eventually, try_eventually, until};
use crate::support::lines::Line;
use crate::support::sockets::{Pair, listen, pair, read_eof};
use crate::support::spoiled;

/// Where nothing but the probing connections is: they tell that the trace is attached.
pub(crate) const PROBED: Ipv4Addr = Ipv4Addr::new(127, 9, 9, 9);

/// How to probe: with which port, and over IPv4 or IPv4-mapped.
#[derive(Clone, Copy)]
pub(crate) struct Probe {
    /// A port the trace's filter lets through; 0 for any.
    pub(crate) port: u16,
    pub(crate) ipv6: bool,
}

impl Probe {
    /// For a trace that lets everything through.
    pub(crate) const ANY: Self = Self { port: 0, ipv6: false };
}

/// A running `trace`.
pub(crate) struct Trace {
    running: Running,
}

/// All that a trace said.
pub(crate) struct Traced {
    /// The transitions, without those of the probing connections.
    pub(crate) events: Vec<Event>,
    /// How many lines there were, the probing ones too.
    pub(crate) lines: i64,
    /// The last line.
    pub(crate) end: Value,
    /// What it said on stderr.
    pub(crate) said: String,
}

impl Trace {
    /// Starts `trace --hook HOOK ARGS`, and connects to a spare port until that shows.
    pub(crate) fn start(hook: Hook, args: &[&str]) -> Self {
        Self::probed(hook, args, Probe::ANY)
    }

    /// The same, with a probe that passes the filter among `args`.
    pub(crate) fn probed(hook: Hook, args: &[&str], probe: Probe) -> Self {
        Self::probed_by(hook, args, || connect_and_close(probe))
    }

    /// The same, probed in some other way.
    pub(crate) fn probed_by(hook: Hook, args: &[&str], probe: impl Fn()) -> Self {
        let args = [&["trace", "--hook", hook.name()], args].concat();
        Self::probing(Running::start(&args), probe)
    }

    /// The same of one that somebody else has started.
    pub(crate) fn probing(running: Running, probe: impl Fn()) -> Self {
        Self {
            running: probed(running, probe),
        }
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// The transitions so far, without those of the probing connections.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.running.lines.with(events)
    }

    /// Waits until there are `n` transitions at least.
    pub(crate) fn until_events(&self, n: usize) -> Vec<Event> {
        // Lines are counted first: to read them all is slow, and is done at each look.
        let enough = || {
            let there = self.running.lines.len() >= n;
            let events = there.then(|| self.events());
            events.filter(|events| events.len() >= n).ok_or(())
        };
        try_eventually(enough).unwrap_or_else(|()| {
            let events = self.events();
            let paths: Vec<String> = lives(&events).iter().map(|life| path(life)).collect();
            panic!(
                "{} transitions and not {n} were traced; {}: {paths:?}",
                events.len(),
                self.end_anyhow()
            );
        })
    }

    /// The end of a trace that has not shown what it should.
    fn end_anyhow(&self) -> Value {
        spoiled::note(self.running.pid());
        self.running.signal(Signal::INT);
        let last = || {
            self.running
                .lines
                .with(|lines| lines.last().map(|line| line.json.clone()))
        };
        until("the trace to end", || {
            last().is_some_and(|json| json["schema"] == "tcpwatch.trace.end/1")
        });
        last().unwrap_or_default()
    }

    /// SIGINT, then everything; the end must be there and add up.
    pub(crate) fn finish(self) -> Traced {
        self.finish_by(Signal::INT)
    }

    /// The same with another signal.
    pub(crate) fn finish_by(self, signal: Signal) -> Traced {
        let Ended {
            mut lines,
            stderr: said,
        } = self.running.finish_by(signal);
        let end = lines.pop().expect("an end").json;
        assert_eq!(end["schema"], "tcpwatch.trace.end/1", "the last line is the end");
        let traced = Traced {
            events: events(&lines),
            lines: i64::try_from(lines.len()).expect("few"),
            end,
            said,
        };
        assert_eq!(
            traced.number("printed"),
            traced.lines,
            "printed is what was printed: {}",
            traced.end
        );
        let sum: i64 = ["printed", "dropped", "unmatched", "lost"]
            .map(|key| traced.number(key))
            .iter()
            .sum();
        assert_eq!(
            traced.number("seen"),
            sum,
            "printed, dropped, unmatched and lost are what was seen: {}",
            traced.end
        );
        traced
    }
}

impl Traced {
    /// A number of the end.
    pub(crate) fn number(&self, key: &str) -> i64 {
        self.end[key]
            .as_i64()
            .unwrap_or_else(|| panic!("no {key} in {}", self.end))
    }
}

/// Probes the trace `running` until that shows: from then on it sees everything.
pub(super) fn probed(mut running: Running, probe: impl Fn()) -> Running {
    eventually("the trace to show a probing connection", || {
        probe();
        running.must_run();
        if running.lines.len() > 0 {
            Ok(())
        } else {
            Err("it shows none")
        }
    });
    running
}

/// One connection to the probed address, opened and closed.
pub(crate) fn connect_and_close(probe: Probe) {
    let at = if probe.ipv6 {
        IpAddr::V6(PROBED.to_ipv6_mapped())
    } else {
        IpAddr::V4(PROBED)
    };
    let listener = listen(SocketAddr::new(at, probe.port), 8);
    let Pair { client, server } = pair(&listener);
    drop(server);
    read_eof(&client);
}

/// The transitions among `lines`, without those of probing connections.
fn events(lines: &[Line]) -> Vec<Event> {
    let probed = PROBED.to_string();
    lines
        .iter()
        .filter(|line| line.json["schema"] == "tcpwatch.trace/1")
        .map(Event::of)
        .filter(|event| !event.local.ends_with(&probed) && !event.remote.ends_with(&probed))
        .collect()
}

/// A `trace` of more than is kept in memory: it writes to a file.
pub(crate) struct Written {
    process: Reaped,
    file: NamedTempFile,
}

impl Written {
    /// Starts `trace --hook HOOK ARGS`, and connects to a spare port until that shows.
    pub(crate) fn start(hook: Hook, args: &[&str]) -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        let mut command = tcpwatch(&[&["trace", "-o", "json", "--hook", hook.name()], args].concat());
        command
            .stdin(Stdio::null())
            .stdout(file.reopen().expect("the temporary file"));
        let process = Reaped::spawn(&mut command);
        until("the trace to show a probing connection", || {
            connect_and_close(Probe::ANY);
            file.path().metadata().is_ok_and(|metadata| metadata.len() > 0)
        });
        Self { process, file }
    }

    /// SIGINT, then every line is `read`; the last is the end. What is still in the ring the program writes first, however long
    /// that takes it.
    pub(crate) fn finish(mut self, mut read: impl FnMut(&str)) -> Value {
        spoiled::note(self.process.pid());
        self.process.signal(Signal::INT);
        let length = || self.file.path().metadata().map_or(0, |metadata| metadata.len());
        let status = loop {
            let before = length();
            let ended = try_eventually(|| self.process.0.try_wait().expect("waiting for a child").ok_or(()));
            if let Ok(status) = ended {
                break status;
            }
            assert!(length() > before, "it runs on, and writes nothing");
        };
        assert_eq!(status.code(), Some(0), "tcpwatch ends with {status}");
        let mut last = String::new();
        for line in BufReader::new(self.file.reopen().expect("the temporary file")).lines() {
            if !last.is_empty() {
                read(&last);
            }
            last = line.expect("UTF-8");
        }
        let end: Value = serde_json::from_str(&last).expect("JSON");
        assert_eq!(end["schema"], "tcpwatch.trace.end/1", "the last line is the end");
        end
    }
}
