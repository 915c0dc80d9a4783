//! Connections that end in every way there is, each a known number of times.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::netns::Netns;
use super::program::event::Event;

pub(crate) mod closed;
mod failed;
pub(crate) mod reset;
mod timeout;

/// Stands for who opened a connection where that is not told.
pub(crate) const EITHER: &str = "either";

/// How many connections ended in which way, by who opened them: `("active", "refused")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endings(BTreeMap<(String, String), i64>);

impl Endings {
    /// Those of `active refused, passive reset_by_peer`, `times` times.
    pub(crate) fn of(text: &str, times: i64) -> Self {
        let mut endings = Self::default();
        for one in text.split(", ") {
            let (opened, key) = one.split_once(' ').expect("who opened it, and how it ended");
            endings.add(opened, key, times);
        }
        endings
    }

    /// Those among `events`.
    pub(crate) fn among(events: &[Event]) -> Self {
        let mut endings = Self::default();
        for event in events.iter().filter(|event| event.is_end()) {
            let opened = event.opened.as_deref().unwrap_or("unknown");
            endings.add(opened, event.ended.as_deref().expect("an end says how"), 1);
        }
        endings
    }

    /// These and `more`.
    pub(crate) fn and(mut self, more: &Self) -> Self {
        for ((opened, key), &count) in &more.0 {
            self.add(opened, key, count);
        }
        self
    }

    /// What these have beyond `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut endings = self.clone();
        for ((opened, key), &count) in &before.0 {
            endings.add(opened, key, -count);
        }
        endings.0.retain(|_, count| *count != 0);
        endings
    }

    /// Those that the rows of `tcpwatch stat` have counted: who opened them is not told.
    pub(crate) fn counted<'a>(rows: impl Iterator<Item = &'a Value>) -> Self {
        let mut endings = Self::default();
        for row in rows {
            let closed = row["closed"].as_object().expect("closed is an object");
            let mut total = 0;
            for (key, count) in closed.iter().filter(|(key, _)| *key != "total") {
                let count = count.as_i64().expect("a count is an integer");
                total += count;
                if count != 0 {
                    endings.add(EITHER, key, count);
                }
            }
            assert_eq!(closed["total"], total, "the total is the sum of the endings: {row}");
        }
        endings
    }

    /// The same, whoever opened them.
    pub(crate) fn by_either(&self) -> Self {
        let mut endings = Self::default();
        for ((_, key), &count) in &self.0 {
            endings.add(EITHER, key, count);
        }
        endings
    }

    /// The same where no reset says why it was sent: what only that tells apart is one.
    pub(crate) fn without_reasons(&self) -> Self {
        const BY_REASON: [&str; 5] = [
            "reset_linger",
            "reset_unread",
            "reset_after_close",
            "timeout_fin_wait2",
            "out_of_memory",
        ];
        let mut endings = Self::default();
        for ((opened, key), &count) in &self.0 {
            let key = if BY_REASON.contains(&key.as_str()) {
                "reset_by_us"
            } else {
                key
            };
            endings.add(opened, key, count);
        }
        endings
    }

    fn add(&mut self, opened: &str, key: &str, count: i64) {
        *self.0.entry((opened.to_owned(), key.to_owned())).or_default() += count;
    }

    /// How many there are of all together.
    pub(crate) fn total(&self) -> i64 {
        self.0.values().sum()
    }
}

impl fmt::Display for Endings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((opened, key), count) in &self.0 {
            write!(f, "{opened} {key}: {count}  ")?;
        }
        Ok(())
    }
}

/// Something that connections end of.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Lets it happen so many times; the ends may come a moment later.
    run: fn(&Netns, i64),
    times: i64,
    /// The ends of each time.
    ends: &'static str,
}

impl Kind {
    pub(crate) fn run(&self, netns: &Netns) {
        (self.run)(netns, self.times);
    }

    /// The ends that it makes.
    pub(crate) fn promised(&self) -> Endings {
        Endings::of(self.ends, self.times)
    }
}

const fn kind(name: &'static str, times: i64, run: fn(&Netns, i64), ends: &'static str) -> Kind {
    Kind { name, run, times, ends }
}

/// Every kind that no timeout makes.
pub(crate) fn quick() -> Vec<Kind> {
    let mut kinds = Vec::new();
    kinds.extend(closed::KINDS);
    kinds.extend(reset::KINDS);
    kinds
}

/// Every kind, in an order that leaves no sysctl behind.
pub(crate) fn all() -> Vec<Kind> {
    let mut kinds = Vec::new();
    kinds.extend(closed::KINDS);
    kinds.extend(reset::KINDS);
    kinds.extend(failed::KINDS);
    kinds.extend(timeout::KINDS);
    kinds
}
