//! Connections that end in every way there is, each a known number of times.

use std::collections::BTreeMap;
use std::fmt;

use super::netns::Netns;
use super::program::event::Event;

mod closed;
mod failed;
mod reset;
mod timeout;

/// How many connections ended in which way, by who opened them: `("active", "refused")`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endings(BTreeMap<(String, String), i64>);

impl Endings {
    /// Those of `active refused, passive reset_by_peer`, `times` times.
    pub(crate) fn of(text: &str, times: i64) -> Self {
        let mut endings = Self::default();
        for one in text.split(", ") {
            let (opened, key) = one.split_once(' ').expect("who opened it, and how it ended");
            *endings.0.entry((opened.to_owned(), key.to_owned())).or_default() += times;
        }
        endings
    }

    /// Those among `events`.
    pub(crate) fn among(events: &[Event]) -> Self {
        let mut endings = Self::default();
        for event in events.iter().filter(|event| event.is_end()) {
            let opened = event.opened.as_deref().unwrap_or("unknown");
            let key = event.ended.as_deref().expect("an end says how");
            *endings.0.entry((opened.to_owned(), key.to_owned())).or_default() += 1;
        }
        endings
    }

    /// These and `more`.
    pub(crate) fn and(mut self, more: &Self) -> Self {
        for (key, count) in &more.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
        self
    }

    /// What these have beyond `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut endings = self.clone();
        for (key, count) in &before.0 {
            *endings.0.entry(key.clone()).or_default() -= count;
        }
        endings.0.retain(|_, count| *count != 0);
        endings
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

/// Every kind, in an order that leaves no sysctl behind.
pub(crate) fn all() -> Vec<Kind> {
    let mut kinds = Vec::new();
    kinds.extend(closed::KINDS);
    kinds.extend(reset::KINDS);
    kinds.extend(failed::KINDS);
    kinds.extend(timeout::KINDS);
    kinds
}
