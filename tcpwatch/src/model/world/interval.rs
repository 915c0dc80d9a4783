//! An interval that is over, until the owners of the listeners that dropped something in it are known.

use std::num::NonZeroU32;

use hashbrown::HashSet;

use crate::input::listener::{Listener, by_place};
use crate::input::owner::Owner;
use crate::model::frame::Frame;

/// How long it waits at most, ns.
const WAIT_NS: u64 = 1_000_000_000;

/// What there is to show of an interval. There is one at most, and it waits for [`WAIT_NS`] at most.
#[derive(Debug)]
pub(super) struct HeldInterval {
    frame: Frame,
    /// The listeners whose owners are asked for.
    asked: HashSet<NonZeroU32>,
    /// When it ended, ns.
    ended_ns: u64,
}

impl HeldInterval {
    /// Takes the interval that ended at `ended_ns` out of `frame`.
    pub(super) fn take(frame: &mut Frame, ended_ns: u64) -> Self {
        let over = Frame {
            counts: frame.counts.take(),
            churn: frame.churn.take(),
            latency: frame.latency.take(),
            ..Frame::default()
        };
        let dropping = over.churn.iter().flat_map(|churn| &churn.dropping);
        Self {
            asked: dropping.filter_map(Listener::asks_owner).collect(),
            frame: over,
            ended_ns,
        }
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
        !self.asked.is_empty() && monotonic_ns.saturating_sub(self.ended_ns) <= WAIT_NS
    }

    /// Waits for no answer any more.
    pub(super) fn stop_waiting(&mut self) {
        self.asked.clear();
    }

    /// Puts it into `frame`.
    pub(super) fn show(self, frame: &mut Frame) {
        (frame.counts, frame.latency) = (self.frame.counts, self.frame.latency);
        frame.churn = self.frame.churn;
        if let Some(churn) = &mut frame.churn {
            churn.dropping = by_place(std::mem::take(&mut churn.dropping));
        }
    }
}
