//! `tcpwatch latency`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Hook, Running};
use crate::support::cells::Cells;
use crate::support::clock::eventually;
use crate::support::lines::Line;
use crate::support::states::STATES;

/// A running `latency`, two intervals a second.
pub(crate) struct Latency {
    running: Running,
}

/// What it measured, over all intervals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// By what was measured, and of which connections: the JSON of the key's value, nothing where there are no groups; and their
    /// network namespace. The name of a pod is left out: its UID is there.
    pub(crate) histograms: BTreeMap<(String, String, Option<u64>), Histogram>,
    retransmits: BTreeMap<String, i64>,
}

/// Lengths of time, over all intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    pub(crate) count: i64,
    pub(crate) unknown: i64,
    /// By the least and the greatest length, how many in this bucket alone.
    buckets: BTreeMap<(u64, u64), i64>,
}

impl Latency {
    /// Starts `latency 0.5 --hook HOOK ARGS` and waits until it measures.
    pub(crate) fn start(hook: Hook, args: &[&str]) -> Self {
        Self::of(Running::start(
            &[&["latency", "0.5", "--hook", hook.name()], args].concat(),
        ))
    }

    /// The same of one that somebody else has started.
    pub(crate) fn of(mut running: Running) -> Self {
        running.until_lines(1);
        Self { running }
    }

    /// Waits until so many of `kind` were sent again, or more.
    pub(crate) fn until_sent_again(&self, kind: &str, least: i64) {
        eventually(&format!("{least} of {kind} to be sent again"), || {
            let seen = self.running.lines().with(Measured::of).sent_again(kind);
            if seen >= least { Ok(()) } else { Err(seen) }
        });
    }

    /// Waits for an interval that began after this call.
    pub(crate) fn fresh(&mut self) {
        let ends = |lines: &[Line]| {
            let ends = lines
                .iter()
                .filter(|line| line.json["schema"] == "tcpwatch.latency.end/1");
            ends.count()
        };
        let before = self.running.lines().with(ends);
        eventually("two ends of intervals", || {
            match self.running.lines().with(ends) - before {
                2.. => Ok(()),
                seen => Err(seen),
            }
        });
    }

    /// Ends it, and gives all it measured. There must have been room for everything.
    pub(crate) fn finish(self) -> Measured {
        let ended = self.running.finish();
        let last = ended.lines.last().expect("an end");
        assert_eq!(last.json["schema"], "tcpwatch.latency.end/1", "an interval has an end");
        assert_eq!(ended.stderr, "", "it has nothing to complain about");
        Measured::of(&ended.lines)
    }
}

impl Measured {
    fn of(lines: &[Line]) -> Self {
        let mut measured = Self::default();
        for Line { json, .. } in lines {
            if json["schema"] == "tcpwatch.latency/1" {
                measured.add(json);
                continue;
            }
            assert_eq!(json["schema"], "tcpwatch.latency.end/1");
            assert_eq!(json["unmeasured"], 0, "there was room: {json}");
            // With a filter on owners they are null: the kernel counts those of all.
            for (kind, count) in json["retransmits"].as_object().into_iter().flatten() {
                *measured.retransmits.entry(kind.clone()).or_default() += count.as_i64().expect("a count");
            }
        }
        measured
    }

    /// One line, which must be right in itself.
    fn add(&mut self, json: &Value) {
        let number = |key: &str| json[key].as_i64().unwrap_or_else(|| panic!("no {key} in {json}"));
        let what = json["what"].as_str().expect("what was measured").to_owned();
        let key = json.get("key").and_then(Value::as_object);
        let netns = key.and_then(|key| key.get("netns")?.as_u64());
        let group = key.map_or_else(String::new, |key| {
            let mut values = key
                .iter()
                .filter(|(name, _)| !["netns", "pod_name"].contains(&name.as_str()));
            let group = values.next().map(|(_, value)| value.to_string());
            assert_eq!(values.count(), 0, "one thing in common: {json}");
            group.unwrap_or_else(|| panic!("nothing in common: {json}"))
        });
        let histogram = self.histograms.entry((what, group, netns)).or_default();
        let (mut in_buckets, mut topmost) = (0, None);
        for bucket in json["buckets"].as_array().expect("buckets") {
            let number = |key: &str| bucket[key].as_u64().unwrap_or_else(|| panic!("no {key} in {bucket}"));
            let (from_ns, le_ns) = (number("from_ns"), number("le_ns"));
            let count = i64::try_from(number("count")).expect("a count");
            let is_next = topmost.is_none_or(|(_, before)| from_ns > before);
            assert!(
                is_next && from_ns <= le_ns && count > 0,
                "ascending, and something in each: {json}"
            );
            // Two digits are known.
            assert!(le_ns - from_ns <= from_ns / 16, "{bucket}");
            *histogram.buckets.entry((from_ns, le_ns)).or_default() += count;
            in_buckets += count;
            topmost = Some((from_ns, le_ns));
        }
        assert_eq!(
            number("count"),
            in_buckets,
            "what was counted is in the buckets: {json}"
        );
        let quantiles = ["p50", "p90", "p99", "max"].map(|key| json["ns"][key].as_u64());
        assert!(quantiles.is_sorted(), "quantiles ascend: {json}");
        assert_eq!(
            quantiles.iter().all(Option::is_some),
            in_buckets > 0,
            "of nothing there are none: {json}"
        );
        assert!(
            quantiles[3].is_none_or(|max| topmost.is_some_and(|(from, le)| max >= from && max <= le)),
            "the longest is in the topmost bucket: {json}"
        );
        histogram.count += number("count");
        histogram.unknown += number("unknown_start");
    }

    /// Compares with the ledger's `cells` of the same connections, none of which was open before; else how it differs.
    pub(crate) fn equals(&self, cells: &Cells) -> Result<(), String> {
        let mut wrong = Vec::new();
        // A listener is in its state for as long as it lives, and what is closed is in none.
        for state in STATES.iter().filter(|state| ![6, 7, 10].contains(&state.number)) {
            let left = (1..=11).filter(|to| *to != state.number);
            let left: i64 = left.map(|to| cells.get(state.number, to)).sum();
            let Histogram { count, unknown, .. } = self.all(state.key);
            if (count, unknown) != (left, 0) {
                wrong.push(format!(
                    "{}: {count} and {unknown} unknown, left {left} times",
                    state.key
                ));
            }
        }
        if self.all("listen").counts() != (0, 0) {
            wrong.push("time in LISTEN is measured".to_owned());
        }
        let clients = self.all("handshake_client").counts();
        if clients != (cells.get(2, 1), 0) {
            wrong.push(format!("handshake_client: {clients:?}"));
        }
        let Histogram { count, unknown, .. } = self.all("handshake_server");
        // Where both open at once neither is a server.
        if count + unknown != cells.get(3, 1) - cells.get(2, 3) {
            wrong.push(format!("handshake_server: {count} and {unknown} unknown"));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{}\n{cells}", wrong.join("\n")))
        }
    }

    /// Of `what`, all groups together.
    pub(crate) fn all(&self, what: &str) -> Histogram {
        self.of_groups(what, |_| true)
    }

    /// Of `what`, those groups that `wanted` chooses by their keys.
    pub(crate) fn of_groups(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Histogram {
        let mut sum = Histogram::default();
        for (_, part) in self
            .histograms
            .iter()
            .filter(|((of, group, _), _)| of == what && wanted(group))
        {
            sum.count += part.count;
            sum.unknown += part.unknown;
            for (ends, count) in &part.buckets {
                *sum.buckets.entry(*ends).or_default() += count;
            }
        }
        sum
    }

    /// Segments of `kind` sent again.
    pub(crate) fn sent_again(&self, kind: &str) -> i64 {
        self.retransmits.get(kind).copied().unwrap_or(0)
    }
}

impl Histogram {
    /// How many may have been as long as `ns`: those in buckets that end there or beyond.
    pub(crate) fn may_reach(&self, ns: u64) -> i64 {
        let reach = self.buckets.iter().filter(|((_, le_ns), _)| *le_ns >= ns);
        reach.map(|(_, count)| count).sum()
    }

    /// Whether each bucket has lengths between `least` and `most` ns.
    pub(crate) fn is_within(&self, least: u64, most: u64) -> bool {
        self.buckets
            .keys()
            .all(|(from_ns, le_ns)| *le_ns >= least && *from_ns <= most)
    }

    /// `(count, unknown)`.
    pub(crate) fn counts(&self) -> (i64, i64) {
        (self.count, self.unknown)
    }
}
