//! Tracks stuck sockets by scans and by the transitions between them.

use std::num::NonZeroU32;

use crate::input::needs::StuckNeeds;
use crate::input::socket_scan::SocketScan;
use crate::input::{Event, Session};
use crate::model::leaks::{Leaks, LeaksFrame, opened_by};

/// The stuck sockets of a run.
#[derive(Debug)]
pub(super) struct StuckTracker {
    leaks: Leaks,
    /// Whether transitions are read.
    watches: bool,
    /// Whether the running scan is the base that later scans are compared with. A base gives no frame.
    is_base: bool,
}

impl StuckTracker {
    pub(super) fn new(needs: StuckNeeds, session: &Session) -> Self {
        Self {
            leaks: Leaks::new(needs.older_ns, session.knows_namespaces || !session.watches),
            watches: session.watches,
            is_base: false,
        }
    }

    /// Takes a transition; `wanted` is whether its owner matches the filter.
    pub(super) fn transition(&mut self, event: &Event, wanted: bool) {
        self.leaks.transition(event, wanted);
    }

    pub(super) fn start_scan(&mut self, is_base: bool) {
        self.is_base = is_base;
        if is_base {
            self.leaks.begin_watch();
        }
        self.leaks.begin_look();
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
        self.leaks.look(scan);
        let mut frame = self.leaks.frame(to_unix_ns, self.watches, lost);
        frame.missed = missed.unwrap_or(0);
        if let Some(opened_at) = opened_at {
            for group in &mut frame.groups {
                let stack_of = |inode: NonZeroU32| opened_at.get(&inode).copied();
                group.opened_by = Some(opened_by(&group.inodes, stack_of, |id| stacks.get(&id).cloned()));
            }
        }
        (!self.is_base).then_some(frame)
    }
}
