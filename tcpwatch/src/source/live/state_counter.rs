//! How many full sockets are in each state now: by marks (`tp_btf`), or by a dump and what moved since (classic hook).

use anyhow::Result;
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{Ledger, StateSet};

use super::interval_reader::{Places, SHARE};
use crate::clock;
use crate::model::counts;
use crate::model::filter::Filter;
use crate::source::ebpf::Kernel;

/// Dumps tried at the start until one passes without a transition in the middle of it.
const TRIES: u32 = 5;

/// Sockets in each state, by the kernel's state number.
type States = [i64; STATES];

/// The counts' anchor.
pub(super) struct StateCounter {
    /// Whether marks keep the counts exact from the first row on.
    by_marks: bool,
    /// Classic hook: full sockets when they were dumped, less those the ledger had by then.
    anchor: States,
    /// Runs the kernel had skipped when the sockets were last counted.
    missed: Option<u64>,
    /// Openings that had waited for the filter when the sockets were last marked.
    held: u64,
    /// Transitions of sockets there was no room to remember, by then.
    unremembered: u64,
    /// Before this, no further sockets are marked.
    mark_again_ns: u64,
    drift: Option<u64>,
}

impl StateCounter {
    /// Counts the sockets there are.
    pub(super) fn start(kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<Self> {
        let mut full = Self {
            by_marks: kernel.marks(),
            anchor: [0; STATES],
            missed: kernel.missed_now(),
            held: 0,
            unremembered: 0,
            mark_again_ns: 0,
            drift: None,
        };
        if full.by_marks {
            kernel.count_anew(&places.namespaces)?;
        } else {
            (full.anchor, _) = dump(kernel, places, filter, TRIES)?;
        }
        Ok(full)
    }

    /// Full sockets in each state now, and how many of them took no mark, by which the counts may be off.
    pub(super) fn now(&self, kernel: &Kernel, ledger: &Ledger) -> Result<(States, u64)> {
        if self.by_marks {
            return kernel.live(ledger);
        }
        let mut sockets = ledger.sockets[0];
        for (state, anchor) in sockets.iter_mut().zip(self.anchor) {
            *state += anchor;
        }
        Ok((sockets, 0))
    }

    /// What the last comparison found, if there was one since this was asked last.
    pub(super) fn take_drift(&mut self) -> Option<u64> {
        self.drift.take()
    }

    /// Counts what transitions could not tell: all sockets after runs the kernel skipped, and of those whose opening waits for
    /// the filter, or that took no mark, what a walk can tell.
    pub(super) fn catch_up(&mut self, kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<()> {
        let before = self.missed;
        self.missed = kernel.missed_now();
        if self.missed > before {
            return self.compare(kernel, places, filter);
        }
        if !self.by_marks {
            return Ok(());
        }
        let ledger = kernel.ledger();
        let waiting = ledger.held != ledger.released && ledger.held != self.held;
        let start = clock::monotonic_ns();
        if (waiting || ledger.unremembered != self.unremembered) && start >= self.mark_again_ns {
            (self.held, self.unremembered) = (ledger.held, ledger.unremembered);
            kernel.mark_more(&places.namespaces)?;
            let now = clock::monotonic_ns();
            self.mark_again_ns = now + (now - start) * SHARE;
        }
        Ok(())
    }

    /// Compares the counts with a walk of the sockets, and goes on from there.
    pub(super) fn compare(&mut self, kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<()> {
        if self.by_marks {
            let before = kernel.ledger();
            let (old, _) = kernel.live(&before)?;
            kernel.count_anew(&places.namespaces)?;
            let after = kernel.ledger();
            let (new, _) = kernel.live(&after)?;
            self.drift = Some(unexplained(&old, &new, moved(&before, &after)));
            return Ok(());
        }
        let (anchor, moved) = dump(kernel, places, filter, 1)?;
        let drift = unexplained(&self.anchor, &anchor, moved);
        // A dump during which something moved is the worse anchor of the two, unless the one we have is plainly wrong.
        if moved == 0 || drift > 0 {
            self.anchor = anchor;
        }
        self.drift = Some(drift);
        Ok(())
    }
}

/// Full sockets by a dump, less those the ledger has; and how many transitions there were during the dump.
fn dump(kernel: &Kernel, places: &mut Places, filter: &Filter, most: u32) -> Result<(States, u64)> {
    let mut tried = 0;
    loop {
        tried += 1;
        let before = kernel.ledger();
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        for reader in &mut places.readers {
            if filter.is_any_socket() {
                pass.add(&reader.sockets.count(StateSet::ALL)?);
            } else {
                reader.sockets.walk(StateSet::ALL, |socket| {
                    if filter.matches_socket(socket) {
                        counts::count_socket(&mut pass, socket);
                    }
                })?;
            }
        }
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

/// Sockets by which two counts differ, beyond what `moved` transitions between them explain.
fn unexplained(one: &States, other: &States, moved: u64) -> u64 {
    let differ: u64 = one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).sum();
    // One transition takes from one state and adds to another.
    differ.saturating_sub(2 * moved)
}

/// Transitions between two readings.
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
