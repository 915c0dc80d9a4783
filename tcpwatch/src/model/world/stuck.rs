//! Sockets in states that should pass, by scans and the transitions between them.

use std::num::NonZeroU32;

use crate::input::needs::StuckNeeds;
use crate::input::socket_scan::SocketScan;
use crate::input::{Event, Session};
use crate::model::leaks::{Leaks, LeaksFrame, opened_by};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Stuck {
    leaks: Leaks,
    /// Whether transitions are read.
    watches: bool,
    /// Whether the scan under way is what later ones are compared with: it tells nothing that the first did not.
    is_base: bool,
}

impl Stuck {
    pub(super) fn new(needs: StuckNeeds, session: &Session) -> Self {
        Self {
            leaks: Leaks::new(needs.older_ns, session.knows_namespaces || !session.watches),
            watches: session.watches,
            is_base: false,
        }
    }

    /// Takes a transition; `wanted` says whether its owner is one that was asked for.
    pub(super) fn transition(&mut self, event: &Event, wanted: bool) {
        self.leaks.transition(event, wanted);
    }

    pub(super) fn scan_starts(&mut self, is_base: bool) {
        self.is_base = is_base;
        if is_base {
            self.leaks.begin_watch();
        }
        self.leaks.begin_look();
    }

    /// Takes what a scan found; what there is to show, where it is not the base of later ones.
    pub(super) fn scan(
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
                let of = |inode: NonZeroU32| opened_at.get(&inode).copied();
                group.opened_by = Some(opened_by(&group.inodes, of, |id| stacks.get(&id).cloned()));
            }
        }
        (!self.is_base).then_some(frame)
    }
}
