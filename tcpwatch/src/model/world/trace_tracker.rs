//! Turns transitions or finished connections into rows of a trace.

use crate::input::{EndCounts, Session};
use crate::model::cgroups::CgroupPaths;
use crate::model::filter::owner::OwnerFilter;
use crate::model::holdback::{Holdback, Released};
use crate::model::trace::{TraceRecord, TraceRow, TraceTotals};

/// Records that are held back, and the number of those shown so far.
#[derive(Debug)]
pub(super) struct TraceTracker<T> {
    pub(super) holdback: Holdback<T>,
    printed: u64,
    unmatched: u64,
}

impl<T: TraceRecord> TraceTracker<T> {
    pub(super) fn new(session: &Session, waits_for_owners: bool) -> Self {
        Self {
            holdback: Holdback::new(session.reasons.clone(), session.missed_resets, waits_for_owners),
            printed: 0,
            unmatched: 0,
        }
    }

    /// Appends the record of `released` to `rows`, if its owner or the process that closed it matches `filter`.
    pub(super) fn append_row(
        &mut self,
        released: Released<T>,
        filter: &OwnerFilter,
        cgroups: &CgroupPaths,
        rows: &mut Vec<TraceRow<T>>,
    ) {
        let Released {
            record,
            ending,
            unknown,
        } = released;
        let owner = record.event().owner;
        if !cgroups.matches(owner, filter) && !cgroups.matches(record.closer(), filter) {
            self.unmatched += 1;
            return;
        }
        self.printed += 1;
        rows.push(TraceRow {
            cgroup: owner.and_then(|owner| cgroups.get(&owner)),
            record,
            ending,
            owner_unknown: unknown,
        });
    }

    /// The totals of the run, which counted `counts`.
    pub(super) fn totals(&self, counts: &EndCounts) -> TraceTotals {
        TraceTotals {
            seen: T::count(&counts.moves),
            printed: self.printed.saturating_sub(counts.dropped),
            dropped: counts.dropped,
            unmatched: self.unmatched.saturating_add(counts.unmatched),
            lost: counts.lost,
            missed: counts.missed,
        }
    }
}
