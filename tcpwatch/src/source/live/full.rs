//! How many full sockets are in each state now: by marks (`tp_btf`), or by a dump and what moved since (classic hook).

use anyhow::Result;
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{Ledger, StateSet};

use super::Places;
use crate::model::counts;
use crate::model::filter::Filter;
use crate::source::ebpf::{Hook, Kernel};

/// Dumps tried until one passes without a transition in the middle of it.
const TRIES: u32 = 5;

/// Sockets in each state, by the kernel's state number.
type States = [i64; STATES];

/// The counts' anchor.
pub(super) struct FullSockets {
    hook: Option<Hook>,
    /// Classic hook: full sockets when they were dumped, less those the ledger had by then.
    anchor: States,
    /// Runs the kernel had skipped when the sockets were last counted.
    missed: u64,
    /// Openings that had waited for the filter when the sockets were last marked.
    held: u64,
    drift: Option<u64>,
}

impl FullSockets {
    /// Counts the sockets there are.
    pub(super) fn start(kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<Self> {
        let mut full = Self {
            hook: kernel.hook(),
            anchor: [0; STATES],
            missed: 0,
            held: 0,
            drift: None,
        };
        if full.by_marks() {
            kernel.count_anew(&places.namespaces)?;
        } else {
            (full.anchor, _) = dump(kernel, places, filter)?;
        }
        Ok(full)
    }

    /// Whether the counts are exact by construction.
    fn by_marks(&self) -> bool {
        self.hook == Some(Hook::TpBtf)
    }

    /// Full sockets in each state now, and by how many the counts may be off, some sockets having taken no mark.
    pub(super) fn now(&self, kernel: &Kernel, ledger: &Ledger) -> Result<(States, u64)> {
        if self.by_marks() {
            return kernel.live(ledger);
        }
        let mut sockets = ledger.sockets[0];
        for (state, anchor) in sockets.iter_mut().zip(self.anchor) {
            *state += anchor;
        }
        Ok((sockets, ledger.unmarked))
    }

    /// Sockets by which the counts were off when last compared, beyond what the transitions meanwhile explain.
    pub(super) fn drift(&self) -> Option<u64> {
        self.drift
    }

    /// Counts what transitions could not tell: all sockets anew after skipped runs, and those whose opening waits for the
    /// filter, which a walk can decide.
    pub(super) fn catch_up(&mut self, kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<()> {
        let missed = kernel.missed();
        if missed > self.missed {
            self.missed = missed;
            return if self.by_marks() {
                self.count_anew(kernel, places)
            } else {
                self.compare(kernel, places, filter)
            };
        }
        let held = kernel.ledger().held;
        if self.by_marks() && held != self.held {
            self.held = held;
            kernel.mark_more(&places.namespaces)?;
        }
        Ok(())
    }

    /// Counts every socket anew, and compares.
    fn count_anew(&mut self, kernel: &mut Kernel, places: &Places) -> Result<()> {
        let before = kernel.ledger();
        let (old, _) = kernel.live(&before)?;
        kernel.count_anew(&places.namespaces)?;
        let after = kernel.ledger();
        let (new, _) = kernel.live(&after)?;
        self.drift = Some(unexplained(&old, &new, moved(&before, &after)));
        Ok(())
    }

    /// Compares the classic hook's counts with a dump, and anchors them there.
    pub(super) fn compare(&mut self, kernel: &mut Kernel, places: &mut Places, filter: &Filter) -> Result<()> {
        if self.by_marks() {
            return Ok(());
        }
        let (anchor, moved) = dump(kernel, places, filter)?;
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
fn dump(kernel: &Kernel, places: &mut Places, filter: &Filter) -> Result<(States, u64)> {
    let mut tried = 0;
    loop {
        tried += 1;
        let before = kernel.ledger();
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        for reader in &mut places.readers {
            if filter.is_any_socket() {
                counts::add_pass(&mut pass, &reader.sockets.count(StateSet::ALL)?);
            } else {
                reader.sockets.walk(StateSet::ALL, |socket| {
                    if filter.matches_ends(socket) {
                        counts::add(&mut pass, socket);
                    }
                })?;
            }
        }
        let after = kernel.ledger();
        let moved = moved(&before, &after);
        if moved == 0 || tried == TRIES {
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
