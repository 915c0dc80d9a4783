//! Tracks stuck sockets by scans and by the transitions between them.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use crate::input::needs::StuckNeeds;
use crate::input::socket_scan::SocketScan;
use crate::input::{Session, Transition};
use crate::model::cgroups::CgroupPaths;
use crate::model::filter::owner::OwnerFilter;
use crate::model::leaks::{Leaks, LeaksFrame, opened_by};

/// How long a transition waits for the cgroup of its process, ns: longer than the answer may take.
const CGROUP_WAIT_NS: u64 = 15_000_000_000;
/// Transitions that wait at most.
const MOST: usize = 65_536;

/// The stuck sockets of a run.
#[derive(Debug)]
pub(super) struct StuckTracker {
    leaks: Leaks,
    /// Whether transitions are read.
    watches: bool,
    /// Whether the running scan is the base that later scans are compared with. A base gives no frame.
    is_base: bool,
    /// With a filter on cgroups: transitions whose process has no known cgroup yet, and all transitions after them. At most [`MOST`]:
    /// if one more comes, the first is applied. Each waits for [`CGROUP_WAIT_NS`] at most.
    waiting: VecDeque<Transition>,
}

impl StuckTracker {
    pub(super) fn new(needs: StuckNeeds, session: &Session) -> Self {
        Self {
            leaks: Leaks::new(
                needs.states,
                needs.older_ns,
                session.knows_namespaces || !session.watches,
            ),
            watches: session.watches,
            is_base: false,
            waiting: VecDeque::new(),
        }
    }

    /// Takes a transition.
    pub(super) fn transition(&mut self, event: Transition, asked: &OwnerFilter, cgroups: &CgroupPaths) {
        if self.waiting.is_empty() && (!asked.needs_cgroup() || cgroups.has_all(event.owner)) {
            self.leaks.apply_transition(&event, cgroups.matches(event.owner, asked));
        } else {
            self.waiting.push_back(event);
            self.release(0, asked, cgroups);
        }
    }

    /// Applies the transitions whose processes' cgroups are known by now, or that have waited long enough at `monotonic_ns`.
    pub(super) fn release(&mut self, monotonic_ns: u64, asked: &OwnerFilter, cgroups: &CgroupPaths) {
        while let Some(event) = self.waiting.front() {
            let has_waited = monotonic_ns.saturating_sub(event.monotonic_ns) > CGROUP_WAIT_NS;
            if !has_waited && self.waiting.len() <= MOST && !cgroups.has_all(event.owner) {
                return;
            }
            self.leaks.apply_transition(event, cgroups.matches(event.owner, asked));
            self.waiting.pop_front();
        }
    }

    pub(super) fn start_scan(&mut self, is_base: bool) {
        self.is_base = is_base;
        if is_base {
            self.leaks.start_watch();
        }
        self.leaks.start_scan();
    }

    /// Takes the result of a scan and builds a frame of it; `None` for a base scan. `to_unix_ns` is added to monotonic times.
    pub(super) fn end_scan(
        &mut self,
        mut scan: SocketScan,
        to_unix_ns: i64,
        lost: u64,
        missed: Option<u64>,
    ) -> Option<LeaksFrame> {
        let (opened_at, stacks) = (scan.opened_at.take(), std::mem::take(&mut scan.stacks));
        self.leaks.apply_scan(scan);
        let mut frame = self.leaks.frame(to_unix_ns, self.watches, lost);
        frame.missed = missed;
        if let Some(opened_at) = opened_at {
            for group in &mut frame.groups {
                let stack_of = |inode: NonZeroU32| opened_at.get(&inode).copied();
                group.opened_by = Some(opened_by(&group.inodes, stack_of, |id| stacks.get(&id).cloned()));
            }
        }
        (!self.is_base).then_some(frame)
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::owner::tests::owner;
    use crate::input::socket_owner::Unseen;
    use crate::model::leaks::states;

    #[test]
    fn what_nobody_counted_or_read_is_unknown() {
        let needs = StuckNeeds {
            states: states(),
            older_ns: 1,
            stacks: false,
        };
        let mut tracker = StuckTracker::new(needs, &Session::default());
        let frame = tracker.end_scan(SocketScan::default(), 0, 0, None).unwrap();
        assert_eq!((frame.missed, frame.unseen), (None, None));
        let read = SocketScan {
            unseen: Some(Unseen::default()),
            ..SocketScan::default()
        };
        let frame = tracker.end_scan(read, 0, 0, Some(3)).unwrap();
        assert_eq!((frame.missed, frame.unseen), (Some(3), Some(Unseen::default())));
    }

    #[test]
    fn transitions_that_wait_for_cgroups_are_bounded() {
        let needs = StuckNeeds {
            states: states(),
            older_ns: 1,
            stacks: false,
        };
        let mut tracker = StuckTracker::new(needs, &Session::default());
        let asked = OwnerFilter {
            cgroups: vec!["/app".into()],
            ..OwnerFilter::default()
        };
        let event = Transition {
            owner: Some(owner(7, "app")),
            ..Transition::between(TcpState::Established, TcpState::CloseWait)
        };
        for _ in 0..MOST + 3 {
            tracker.transition(event, &asked, &CgroupPaths::default());
        }
        assert_eq!(tracker.waiting.len(), MOST);
    }
}
