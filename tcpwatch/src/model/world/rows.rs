//! Records of one kind on their way to be shown.

use super::cgroups::CgroupPaths;
use crate::input::{EndCounts, Session};
use crate::model::ending::Ending;
use crate::model::filter::owner::OwnerFilter;
use crate::model::holdback::Holdback;
use crate::model::trace::{Row, TraceTotals, Traced};

/// Records held back, and how many were shown.
#[derive(Debug)]
pub(super) struct Rows<T> {
    pub(super) holdback: Holdback<T>,
    printed: u64,
    unmatched: u64,
}

impl<T: Traced> Rows<T> {
    pub(super) fn new(session: &Session, asks_owners: bool) -> Self {
        Self {
            holdback: Holdback::new(session.reasons.clone(), session.missed_resets, asks_owners),
            printed: 0,
            unmatched: 0,
        }
    }

    /// Adds `record` to `rows`, if `owners` has its owner or the process that closed it.
    pub(super) fn show(
        &mut self,
        record: T,
        ended: Option<Ending>,
        owners: &OwnerFilter,
        cgroups: &CgroupPaths,
        rows: &mut Vec<Row<T>>,
    ) {
        let owner = record.event().owner;
        if !cgroups.is_asked_for(owner, owners) && !cgroups.is_asked_for(record.closer(), owners) {
            self.unmatched += 1;
            return;
        }
        self.printed += 1;
        rows.push(Row {
            cgroup: owner.and_then(|owner| cgroups.get(&owner)),
            what: record,
            ended,
        });
    }

    pub(super) fn totals(&self, counts: &EndCounts) -> TraceTotals {
        TraceTotals {
            seen: T::seen(&counts.moves),
            printed: self.printed,
            unmatched: self.unmatched,
            lost: counts.lost,
            missed: counts.missed,
        }
    }
}
