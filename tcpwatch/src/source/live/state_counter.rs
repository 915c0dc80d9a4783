//! Counts the full sockets in each state: by marks (`tp_btf`), or by a dump plus the transitions since (classic hook).

use anyhow::Result;
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{Ledger, StateSet};

use super::interval_reader::SHARE;
use crate::clock;
use crate::model::counts;
use crate::model::filter::Filter;
use crate::source::ebpf::{Kernel, Unwalked};
use crate::source::namespaces::WatchedNamespaces;

/// Maximum number of dumps at the start, until one has no transition during it.
const TRIES: u32 = 5;
/// The first walk of several namespaces takes so long at most, ns: somebody waits for the first row.
const FIRST_WALK_NS: u64 = 300_000_000;
/// Each further part of it, ns: a tenth of an interval of a second.
const PART_NS: u64 = 100_000_000;

/// Sockets in each state, by the kernel's state number.
type States = [i64; STATES];

/// Keeps the base of the counts.
pub(super) struct StateCounter {
    /// Whether marks keep the counts exact from the first row on.
    by_marks: bool,
    /// Classic hook: full sockets in the dump, minus the ledger's count at that moment.
    anchor: States,
    /// Skipped runs when the sockets were last counted.
    missed: Option<u64>,
    /// Held-back openings when the sockets were last marked.
    held: u64,
    /// Transitions of sockets without room for their state, when the sockets were last marked.
    unremembered: u64,
    /// Earliest time for another walk by [`Self::catch_up`], `CLOCK_MONOTONIC` in ns.
    walk_again_ns: u64,
    drift: Option<u64>,
    /// The namespaces that the walk at the start has not reached yet.
    unwalked: Unwalked,
    /// Whether a walk of all namespaces takes so long that the counts are not compared with another one.
    is_long: bool,
}

impl StateCounter {
    /// Counts the existing sockets.
    pub(super) fn start(kernel: &mut Kernel, places: &mut WatchedNamespaces, filter: &Filter) -> Result<Self> {
        let mut full = Self {
            by_marks: kernel.marks(),
            anchor: [0; STATES],
            missed: kernel.missed_now(),
            held: 0,
            unremembered: 0,
            walk_again_ns: 0,
            drift: None,
            unwalked: Unwalked::default(),
            is_long: false,
        };
        if full.by_marks {
            let deadline_ns = clock::monotonic_ns() + FIRST_WALK_NS;
            full.unwalked = kernel.count_anew(places, deadline_ns)?;
            full.is_long = !full.unwalked.is_empty();
        } else {
            let tries = if places.all().len() == 1 { TRIES } else { 1 };
            (full.anchor, _) = dump(kernel, places, filter, tries)?;
        }
        Ok(full)
    }

    /// The current full sockets in each state, and the number of sockets without a mark. The counts may be wrong by this
    /// number.
    pub(super) fn now(&self, kernel: &Kernel, ledger: &Ledger) -> Result<(States, u64)> {
        if self.by_marks {
            let (sockets, unmarked) = kernel.live(ledger)?;
            return Ok((sockets, unmarked + self.unwalked.values().sum::<u64>()));
        }
        let mut sockets = ledger.sockets[0];
        for (state, anchor) in sockets.iter_mut().zip(self.anchor) {
            *state += anchor;
        }
        Ok((sockets, 0))
    }

    /// The drift found by the last comparison, if there was one since the last call.
    pub(super) fn take_drift(&mut self) -> Option<u64> {
        self.drift.take()
    }

    /// Counts what the transitions missed, for at most 1/[`SHARE`] of the time. After skipped runs it counts all sockets again. If
    /// openings are held back or sockets have no mark, it marks more sockets.
    pub(super) fn catch_up(
        &mut self,
        kernel: &mut Kernel,
        places: &mut WatchedNamespaces,
        filter: &Filter,
    ) -> Result<()> {
        let start = clock::monotonic_ns();
        if !self.unwalked.is_empty() {
            self.unwalked = kernel.count_more(places, Some(&self.unwalked), start + PART_NS)?;
            return Ok(());
        }
        if start < self.walk_again_ns {
            return Ok(());
        }
        let missed = kernel.missed_now();
        let has_missed = missed > self.missed;
        self.missed = missed;
        if has_missed && self.by_marks && self.is_long {
            self.unwalked = kernel.count_anew(places, start + PART_NS)?;
        } else if has_missed {
            self.compare_at_once(kernel, places, filter)?;
        } else if self.by_marks {
            let ledger = kernel.ledger();
            let waiting = ledger.held != ledger.released && ledger.held != self.held;
            if !waiting && ledger.unremembered == self.unremembered {
                return Ok(());
            }
            (self.held, self.unremembered) = (ledger.held, ledger.unremembered);
            kernel.mark_more(places)?;
        } else {
            return Ok(());
        }
        let now = clock::monotonic_ns();
        self.walk_again_ns = now + (now - start) * SHARE;
        Ok(())
    }

    /// Compares the counts with a walk of the sockets, and uses the walk as the new base. Does nothing where such a walk takes long.
    pub(super) fn compare(
        &mut self,
        kernel: &mut Kernel,
        places: &mut WatchedNamespaces,
        filter: &Filter,
    ) -> Result<()> {
        if self.is_long {
            return Ok(());
        }
        let started_ns = clock::monotonic_ns();
        let compared = self.compare_at_once(kernel, places, filter);
        self.is_long = clock::monotonic_ns() - started_ns > FIRST_WALK_NS;
        compared
    }

    /// The same, however long it takes.
    fn compare_at_once(&mut self, kernel: &mut Kernel, places: &mut WatchedNamespaces, filter: &Filter) -> Result<()> {
        if self.by_marks {
            let before = kernel.ledger();
            let (old, _) = kernel.live(&before)?;
            kernel.count_anew(places, u64::MAX)?;
            let after = kernel.ledger();
            let (new, _) = kernel.live(&after)?;
            self.drift = Some(unexplained(&old, &new, moved(&before, &after)));
            return Ok(());
        }
        let (anchor, moved) = dump(kernel, places, filter, 1)?;
        let drift = unexplained(&self.anchor, &anchor, moved);
        // A dump with transitions during it is a worse base than the old one, unless the old one is clearly wrong.
        if moved == 0 || drift > 0 {
            self.anchor = anchor;
        }
        self.drift = Some(drift);
        Ok(())
    }
}

/// Dumps the full sockets and subtracts the ledger's count. Also returns the number of transitions during the dump.
fn dump(kernel: &Kernel, places: &mut WatchedNamespaces, filter: &Filter, most: u32) -> Result<(States, u64)> {
    let mut tried = 0;
    loop {
        tried += 1;
        let before = kernel.ledger();
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        places.read_each(|reader| {
            if reader.full_sockets(reader.sockstat()?)? == Some(0) {
                return Ok(());
            }
            let sockets = reader.sockets()?;
            if filter.is_any_socket() {
                pass.add(&sockets.count(StateSet::ALL)?);
                return Ok(());
            }
            sockets.walk(StateSet::ALL, |socket| {
                if filter.matches_socket(socket) {
                    counts::count_socket(&mut pass, socket);
                }
            })
        })?;
        let after = kernel.ledger();
        let moved = moved(&before, &after);
        if moved == 0 || tried == most {
            let mut anchor = [0; STATES];
            for (anchor, (&dumped, ledger)) in anchor.iter_mut().zip(pass.full.iter().zip(after.sockets[0])) {
                *anchor = dumped.cast_signed() - ledger;
            }
            return Ok((anchor, moved));
        }
    }
}

/// The difference between two counts, beyond what `moved` transitions between them explain, in sockets.
fn unexplained(one: &States, other: &States, moved: u64) -> u64 {
    let differ: u64 = one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).sum();
    // One transition changes the counts of two states.
    differ.saturating_sub(2 * moved)
}

/// Transitions between two reads of the ledger.
fn moved(before: &Ledger, after: &Ledger) -> u64 {
    after.transitions.wrapping_sub(before.transitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_the_traffic_explains_is_no_drift() {
        let mut one = [0; STATES];
        let mut other = [0; STATES];
        one[1] = 5;
        other[8] = 5;
        assert_eq!(unexplained(&one, &other, 0), 10);
        assert_eq!(unexplained(&one, &other, 5), 0);
        assert_eq!(unexplained(&one, &other, 9), 0);
        assert_eq!(unexplained(&one, &one, 0), 0);
    }
}
