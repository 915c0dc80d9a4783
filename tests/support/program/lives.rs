//! `tcpwatch life`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::trace::{PROBED, Probe, connect_and_close, probed};
use super::{Hook, Running};
use crate::support::clock::try_eventually;
use crate::support::lines::Line;

/// A running `life`.
pub(crate) struct Lives {
    running: Running,
}

/// One finished connection, a line of it.
#[derive(Clone, Debug)]
pub(crate) struct Life(pub(crate) Value);

/// All that it said.
pub(crate) struct Told {
    /// The connections, without the probing ones.
    pub(crate) lives: Vec<Life>,
    /// The last line.
    pub(crate) end: Value,
}

impl Life {
    /// A number that is known.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no number {key} in {}", self.0))
    }

    /// A text that is known.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0[key]
            .as_str()
            .unwrap_or_else(|| panic!("no text {key} in {}", self.0))
    }

    /// A time that is known.
    pub(crate) fn time(&self, key: &str) -> Timestamp {
        self.text(key).parse().expect("RFC 3339")
    }

    /// That it is null, and there.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(Value::is_null)
    }

    /// Time in each state, ns.
    pub(crate) fn spent(&self) -> BTreeMap<&str, u64> {
        let spent = self.0["spent_ns"].as_object().expect("spent_ns");
        let pairs = spent
            .iter()
            .map(|(state, ns)| (state.as_str(), ns.as_u64().expect("ns")));
        pairs.collect()
    }

    /// Whether it is the end at `local` of the connection with `remote`.
    fn is_at(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let end = |address: &str, port: &str| (self.text(address).parse().ok(), self.number(port));
        end("local", "lport") == (Some(local.ip()), local.port().into())
            && end("remote", "rport") == (Some(remote.ip()), remote.port().into())
    }
}

impl Lives {
    /// Starts `life --hook HOOK ARGS`, and connects until that shows.
    pub(crate) fn start(hook: Hook, args: &[&str]) -> Self {
        Self::probed_by(hook, args, || connect_and_close(Probe::ANY))
    }

    /// The same, probed in some other way, to the probed address.
    pub(crate) fn probed_by(hook: Hook, args: &[&str], probe: impl Fn()) -> Self {
        let args = [&["life", "--hook", hook.name()], args].concat();
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

    /// Waits until there are `n` connections at least.
    pub(crate) fn until(&self, n: usize) {
        // Lines are counted first: to read them all is slow, and is done at each look.
        let enough = || {
            let there = self.running.lines.len() >= n;
            let lives = there.then(|| self.running.lines.with(lives));
            lives.filter(|lives| lives.len() >= n).ok_or(())
        };
        if try_eventually(enough).is_err() {
            let lives = self.running.lines.with(lives);
            panic!("{} connections and not {n} were told: {lives:#?}", lives.len());
        }
    }

    /// SIGINT, then everything; the end must be there and add up.
    pub(crate) fn finish(self) -> Told {
        let mut lines = self.running.finish().lines;
        let end = lines.pop().expect("an end").json;
        assert_eq!(end["schema"], "tcpwatch.life.end/1", "the last line is the end");
        let number = |key: &str| end[key].as_u64().unwrap_or_else(|| panic!("no {key} in {end}"));
        assert_eq!(
            number("printed"),
            lines.len() as u64,
            "printed is what was printed: {end}"
        );
        let sum = number("printed") + number("dropped") + number("unmatched") + number("lost");
        assert_eq!(number("seen"), sum, "each that was seen became something: {end}");
        Told {
            lives: lives(&lines),
            end,
        }
    }
}

impl Told {
    /// A number of the end.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.end[key].as_u64().expect("a number")
    }

    /// The end at `local` of the connection with `remote`, which must be told once.
    pub(crate) fn at(&self, local: SocketAddr, remote: SocketAddr) -> &Life {
        let found: Vec<&Life> = self.lives.iter().filter(|life| life.is_at(local, remote)).collect();
        match *found {
            [one] => one,
            _ => panic!("{local} with {remote} is told {} times: {:#?}", found.len(), self.lives),
        }
    }
}

/// The connections among `lines`, without the probing ones.
fn lives(lines: &[Line]) -> Vec<Life> {
    let probed = PROBED.to_string();
    let told = lines
        .iter()
        .filter(|line| line.json["schema"] == "tcpwatch.life/1")
        .map(|line| Life(line.json.clone()));
    told.filter(|life| life.text("local") != probed && life.text("remote") != probed)
        .collect()
}
