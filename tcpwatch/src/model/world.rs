//! All that is known of a host's connections: inputs go in, frames come out.
//!
//! It asks nobody and reads no clock, so that the same inputs always give the same frames.

mod cgroups;
mod rows;
mod stuck;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use self::cgroups::CgroupPaths;
use self::rows::Rows;
use self::stuck::Stuck;
use super::churn::Churn;
use super::filter::owner::OwnerFilter;
use super::frame::Frame;
use super::latency::Latency;
use super::stat::Stat;
use crate::input::latency::LatencySample;
use crate::input::needs::Needs;
use crate::input::socket_scan::SocketScan;
use crate::input::{Connection, EndCounts, Event, Input, Session};

/// What is known, as far as it is needed.
#[derive(Debug)]
pub struct World {
    needs: Needs,
    owners: OwnerFilter,
    /// The last tick.
    time: Timestamp,
    monotonic_ns: u64,
    /// Whether an interval has ended.
    has_interval: bool,
    counts: Stat,
    transitions: Rows<Event>,
    connections: Rows<Connection>,
    cgroups: CgroupPaths,
    churn: Churn,
    latency: Latency,
    latency_now: LatencySample,
    stuck: Option<Stuck>,
    /// Records lost so far.
    lost: u64,
    frame: Frame,
}

impl World {
    /// Nothing known yet. It keeps what is in `needs`, and shows single transitions and connections of `owners` alone.
    #[must_use]
    pub fn new(needs: Needs, owners: OwnerFilter) -> Self {
        Self::of_session(needs, owners, &Session::default())
    }

    fn of_session(needs: Needs, owners: OwnerFilter, session: &Session) -> Self {
        Self {
            needs,
            owners,
            time: Timestamp::UNIX_EPOCH,
            monotonic_ns: 0,
            has_interval: false,
            counts: Stat::new(session.reasons.clone()),
            transitions: Rows::new(session, needs.rows()),
            connections: Rows::new(session, needs.rows()),
            cgroups: CgroupPaths::default(),
            churn: Churn::new(session.monotonic_ns),
            latency: Latency::new(needs.latency.unwrap_or_default(), session.monotonic_ns),
            latency_now: LatencySample::default(),
            stuck: needs.stuck.map(|stuck| Stuck::new(stuck, session)),
            lost: 0,
            frame: Frame::default(),
        }
    }

    /// Takes `input`; a frame, where there is something to show by now.
    pub fn apply(&mut self, input: Input) -> Option<&Frame> {
        match input {
            Input::Session(session) => {
                let owners = std::mem::take(&mut self.owners);
                *self = Self::of_session(self.needs, owners, &session);
            }
            Input::Transition(event) => {
                if self.needs.churn {
                    self.churn.opened(&event);
                }
                if let Some(stuck) = &mut self.stuck {
                    stuck.transition(&event, self.cgroups.is_asked_for(event.owner, &self.owners));
                }
                if self.needs.transitions {
                    self.transitions.holdback.push(event);
                }
            }
            Input::Connection(life) => self.connections.holdback.push(life),
            Input::CloseAmended { id, evidence } => {
                self.transitions.holdback.amend(id, evidence);
                self.connections.holdback.amend(id, evidence);
            }
            Input::SocketOwner { inode, owner } => {
                self.transitions.holdback.owner(inode, owner);
                self.connections.holdback.owner(inode, owner);
            }
            Input::CgroupPath { owner, cgroup } => self.cgroups.insert(&owner, cgroup),
            Input::Loss(loss) => {
                self.lost = loss.lost;
                self.transitions
                    .holdback
                    .missed_resets(loss.missed_resets, loss.emptied);
                self.connections
                    .holdback
                    .missed_resets(loss.missed_resets, loss.emptied);
            }
            Input::Ledger(ledger) => self.counts.ledger(ledger),
            Input::Sockets(walked) => self.counts.sockets(walked),
            Input::HostFacts(facts) => self.counts.host_facts(facts),
            Input::Ports(sample) => self.churn.walked(*sample),
            Input::ListenerDrops(listeners) => self.churn.dropped(listeners),
            Input::Latency(sample) => self.latency_now = *sample,
            Input::ScanStart { is_base } => {
                if let Some(stuck) = &mut self.stuck {
                    stuck.scan_starts(is_base);
                }
            }
            Input::SocketScan { scan, missed } => return self.show(|world| world.end_scan(*scan, missed)),
            Input::Tick { time, monotonic_ns } => {
                (self.time, self.monotonic_ns) = (time, monotonic_ns);
                return self.show(|world| world.release(monotonic_ns));
            }
            Input::IntervalEnd => return self.show(Self::end_interval),
            Input::StreamEnd => return self.show(|world| world.release(u64::MAX)),
            Input::End(counts) => return self.show(|world| world.end(&counts)),
        }
        None
    }

    /// Whether records are held back that something may still be added to.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.transitions.holdback.is_empty() || !self.connections.holdback.is_empty()
    }

    /// Fills a new frame by `fill`; `None` where that leaves it empty.
    fn show(&mut self, fill: impl FnOnce(&mut Self)) -> Option<&Frame> {
        self.frame.clear();
        fill(self);
        (!self.frame.is_empty()).then_some(&self.frame)
    }

    /// Shows the records that at `monotonic_ns` nothing will be added to.
    fn release(&mut self, monotonic_ns: u64) {
        let Self {
            needs,
            owners,
            transitions,
            connections,
            cgroups,
            churn,
            frame,
            ..
        } = self;
        while let Some((event, ended)) = transitions.holdback.next(monotonic_ns) {
            transitions.show(event, ended, owners, cgroups, &mut frame.transitions.rows);
        }
        while let Some((life, ended)) = connections.holdback.next(monotonic_ns) {
            if needs.churn
                && let Some(ending) = ended
            {
                churn.ended(&life, ending);
            }
            if needs.connections {
                connections.show(life, ended, owners, cgroups, &mut frame.connections.rows);
            }
        }
    }

    fn end_interval(&mut self) {
        let is_first = !std::mem::replace(&mut self.has_interval, true);
        let counts = self.counts.interval(self.time, self.monotonic_ns);
        if is_first {
            self.churn.forget_routes();
        } else {
            if self.needs.churn
                && let Some(counts) = counts.clone()
            {
                let churn = self.churn.frame(counts, self.unix_ns(), self.monotonic_ns, self.lost);
                self.frame.churn = Some(churn);
            }
            if self.needs.latency.is_some() {
                let now = std::mem::take(&mut self.latency_now);
                self.frame.latency = Some(self.latency.frame(now, self.time, self.monotonic_ns));
            }
        }
        self.frame.counts = counts.filter(|_| self.needs.counts);
    }

    fn end_scan(&mut self, scan: SocketScan, missed: Option<u64>) {
        let unix_ns = self.unix_ns();
        let Some(stuck) = &mut self.stuck else { return };
        let to_unix_ns = unix_ns.wrapping_sub_unsigned(self.monotonic_ns);
        self.frame.leaks = stuck.scan(scan, to_unix_ns, self.lost, missed);
    }

    /// The last tick, ns since the Unix epoch.
    fn unix_ns(&self) -> i64 {
        i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX)
    }

    fn end(&mut self, counts: &EndCounts) {
        if self.needs.transitions {
            self.frame.transitions.totals = Some(self.transitions.totals(counts));
        }
        if self.needs.connections {
            self.frame.connections.totals = Some(self.connections.totals(counts));
        }
    }
}
