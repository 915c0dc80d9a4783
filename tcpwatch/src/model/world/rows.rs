//! Records of one kind on their way to be shown.

use std::num::{NonZeroU32, NonZeroU64};

use tcpwatch_common::Evidence;

use super::cgroups::CgroupPaths;
use crate::input::owner::Owner;
use crate::input::{EndCounts, Session};
use crate::model::ending::Ending;
use crate::model::filter::owner::OwnerFilter;
use crate::model::holdback::Holdback;
use crate::model::trace::{Row, TraceTotals, Traced};

/// Records held back, and how many were shown.
#[derive(Debug)]
pub(super) struct Rows<T> {
    holdback: Holdback<T>,
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

    pub(super) fn push(&mut self, record: T) {
        self.holdback.push(record);
    }

    pub(super) fn amend(&mut self, id: NonZeroU64, evidence: Evidence) {
        self.holdback.amend(id, evidence);
    }

    pub(super) fn owner(&mut self, inode: NonZeroU32, owner: Option<Owner>) {
        self.holdback.owner(inode, owner);
    }

    pub(super) fn unheard(&mut self, resets: Option<u64>, emptied: bool) {
        self.holdback.unheard(resets, emptied);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.holdback.is_empty()
    }

    pub(super) fn next(&mut self, monotonic_ns: u64) -> Option<(T, Option<Ending>)> {
        self.holdback.next(monotonic_ns)
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
        let matches = |process: Option<Owner>| {
            process.is_some_and(|process| owners.matches(process.pid, &process.comm, || cgroups.get(&process)))
        };
        if !owners.is_any() && !matches(owner) && !matches(record.closer()) {
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
