//! An interval that is over, until all of it is known: the endings of its connections, and the owners of the listeners that dropped
//! something.

use std::num::NonZeroU32;

use hashbrown::HashSet;

use crate::input::listener::{Listener, by_place};
use crate::input::owner::Owner;
use crate::model::churn::Churn;
use crate::model::frame::Frame;

/// How long it waits at most, ns.
const WAIT_NS: u64 = 1_000_000_000;

/// What there is to show of an interval, except the routes of churn. There is one at most, and it waits for [`WAIT_NS`] at most.
#[derive(Debug)]
pub(super) struct HeldInterval {
    frame: Frame,
    /// The listeners whose owners are asked for.
    asked: HashSet<NonZeroU32>,
    /// Whether connections that ended in it may still be unread or held back.
    awaits_records: bool,
    /// When it ended, ns.
    ended_ns: u64,
}

impl HeldInterval {
    /// The interval of `frame`, which ended at `ended_ns`, and waits for the records of its connections if `awaits_records`.
    pub(super) fn new(frame: Frame, ended_ns: u64, awaits_records: bool) -> Self {
        let dropping = frame.churn.iter().flat_map(|churn| &churn.dropping);
        Self {
            asked: dropping.filter_map(Listener::asks_owner).collect(),
            awaits_records,
            frame,
            ended_ns,
        }
    }

    /// When it ended, ns.
    pub(super) const fn ended_ns(&self) -> u64 {
        self.ended_ns
    }

    /// All connections that ended in it are known.
    pub(super) const fn end_records(&mut self) {
        self.awaits_records = false;
    }

    /// Takes the answer who holds the socket `inode`; whether it was asked for.
    pub(super) fn owner(&mut self, inode: NonZeroU32, owner: Option<Owner>) -> bool {
        let is_asked = self.asked.remove(&inode);
        if is_asked && let Some(churn) = &mut self.frame.churn {
            let dropping = churn.dropping.iter_mut();
            dropping
                .filter(|listener| listener.inode == Some(inode))
                .for_each(|listener| listener.owner = owner);
        }
        is_asked
    }

    /// Whether it waits still at `monotonic_ns`.
    pub(super) fn waits(&self, monotonic_ns: u64) -> bool {
        (self.awaits_records || !self.asked.is_empty()) && monotonic_ns.saturating_sub(self.ended_ns) <= WAIT_NS
    }

    /// Waits for nothing any more.
    pub(super) fn stop_waiting(&mut self) {
        self.asked.clear();
        self.end_records();
    }

    /// Puts it into `frame`, with its routes, which it takes out of `churn`.
    pub(super) fn show(self, frame: &mut Frame, churn: &mut Churn) {
        let routes = churn.take_routes();
        (frame.counts, frame.latency) = (self.frame.counts, self.frame.latency);
        frame.churn = self.frame.churn;
        if let Some(churn) = &mut frame.churn {
            churn.set_routes(routes);
            churn.dropping = by_place(std::mem::take(&mut churn.dropping));
        }
    }
}
