//! Counts of transitions, one cell a pair of states.

use std::collections::BTreeMap;
use std::fmt;

use super::states::number;

/// How often each `from>to` was seen, by the kernel's numbers. A cell never seen is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cells(BTreeMap<(u8, u8), i64>);

impl Cells {
    /// The cells of `7>2 2>1x3`, a number after an `x` where it is not one.
    pub(crate) fn of(text: &str) -> Self {
        let mut cells = Self::default();
        for word in text.split(' ') {
            let (cell, count) = word.split_once('x').unwrap_or((word, "1"));
            let (from, to) = cell.split_once('>').expect("from>to");
            let state = |number: &str| number.parse().expect("the number of a state");
            cells.add(state(from), state(to), count.parse().expect("a count"));
        }
        cells
    }

    /// Each cell `n` times.
    pub(crate) fn times(mut self, n: i64) -> Self {
        self.0.values_mut().for_each(|count| *count *= n);
        self
    }

    /// These and `more`.
    pub(crate) fn and(mut self, more: &Self) -> Self {
        self.add_all(more);
        self
    }

    /// The cells of tcpwatch's JSON object `{"close>syn_sent": 1}`.
    pub(crate) fn of_json(object: &serde_json::Value) -> Self {
        let mut cells = Self::default();
        for (key, count) in object.as_object().expect("transitions are an object") {
            let (from, to) = key
                .split_once('>')
                .unwrap_or_else(|| panic!("{key:?} is no transition"));
            cells.add(number(from), number(to), count.as_i64().expect("a count is an integer"));
        }
        cells
    }

    /// The cells of one protocol in bpftrace's map `{"6,7,2": 1}`, by protocol, `from`, `to`.
    pub(crate) fn of_bpftrace(map: &serde_json::Value, protocol: &str) -> Self {
        let mut cells = Self::default();
        for (key, count) in map.as_object().into_iter().flatten() {
            let parts: Vec<&str> = key.split(',').collect();
            if parts[0] == protocol {
                let state = |part: &str| part.parse().expect("bpftrace prints numbers");
                cells.add(state(parts[1]), state(parts[2]), count.as_i64().expect("a count"));
            }
        }
        cells
    }

    /// Counts `count` more in one cell.
    pub(crate) fn add(&mut self, from: u8, to: u8, count: i64) {
        let cell = self.0.entry((from, to)).or_default();
        *cell += count;
        if *cell == 0 {
            self.0.remove(&(from, to));
        }
    }

    /// Adds all of `more`.
    pub(crate) fn add_all(&mut self, more: &Self) {
        for (&(from, to), &count) in &more.0 {
            self.add(from, to, count);
        }
    }

    /// What these have beyond `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut cells = self.clone();
        for (&(from, to), &count) in &before.0 {
            cells.add(from, to, -count);
        }
        cells
    }

    /// One cell.
    pub(crate) fn get(&self, from: u8, to: u8) -> i64 {
        self.0.get(&(from, to)).copied().unwrap_or(0)
    }

    /// All transitions.
    pub(crate) fn total(&self) -> i64 {
        self.0.values().sum()
    }

    /// Connections that ended: a listener is none, and `7>7` no entry into a state.
    pub(crate) fn ends(&self) -> i64 {
        (1..=11)
            .filter(|from| ![7, 10].contains(from))
            .map(|from| self.get(from, 7))
            .sum()
    }

    /// The sum of the differences of all cells.
    pub(crate) fn distance(&self, other: &Self) -> i64 {
        self.since(other).0.values().map(|count| count.abs()).sum()
    }

    /// Whether these are `theirs`; else the cells in which they differ.
    pub(crate) fn equals(&self, theirs: &Self) -> Result<(), String> {
        let difference = self.since(theirs);
        let differing = difference.0.keys();
        let differing: Vec<String> = differing
            .map(|&(from, to)| format!("{from}>{to}: {} against {}", self.get(from, to), theirs.get(from, to)))
            .collect();
        if differing.is_empty() {
            Ok(())
        } else {
            Err(differing.join(", "))
        }
    }

    /// As [`Cells::equals`], but `skipped` transitions may be missing.
    pub(crate) fn equals_but(&self, theirs: &Self, skipped: i64) -> Result<(), String> {
        if self.distance(theirs) <= skipped {
            Ok(())
        } else {
            self.equals(theirs)
        }
    }

    /// Whether no cell is less than in `least`, but for `skipped` transitions.
    pub(crate) fn covers(&self, least: &Self, skipped: i64) -> Result<(), String> {
        let lacking: i64 = least
            .0
            .iter()
            .map(|(&(from, to), &count)| (count - self.get(from, to)).max(0))
            .sum();
        if lacking <= skipped {
            Ok(())
        } else {
            Err(format!("{self}against at least {least}"))
        }
    }
}

impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (&(from, to), count) in &self.0 {
            write!(f, "{from}>{to}: {count}  ")?;
        }
        Ok(())
    }
}
