//! The model of a host's connections: inputs go in, frames come out.
//!
//! It asks the source nothing and reads no clock, so the same inputs always give the same frames.

mod interval;
mod stuck_tracker;
#[cfg(test)]
pub(crate) mod tests;
mod trace_tracker;

use jiff::Timestamp;

use self::interval::HeldInterval;
use self::stuck_tracker::StuckTracker;
use self::trace_tracker::TraceTracker;
use super::cgroups::CgroupPaths;
use super::churn::{Churn, ChurnFrame};
use super::filter::Filter;
use super::frame::Frame;
use super::latency::Latency;
use super::stat::Stat;
use crate::input::namespace::NamespaceNames;
use crate::input::needs::Needs;
use crate::input::socket_scan::SocketScan;
use crate::input::{Connection, EndCounts, Input, Loss, Session, Transition};

/// How much later than others of its time a record may come, ns: a virtual CPU may be stopped while it makes one.
const LATE_NS: u64 = 50_000_000;

/// The model of a host's connections, as far as the views need it.
#[derive(Debug)]
pub struct World {
    needs: Needs,
    filter: Filter,
    /// Time of the last tick, by two clocks.
    time: Timestamp,
    monotonic_ns: u64,
    /// Whether an interval has ended.
    has_interval: bool,
    /// Whether the stream was read to its end since the last tick.
    is_stream_read: bool,
    /// Time of the newest record, ns.
    newest_ns: u64,
    /// All records that were made until then are known, ns.
    known_ns: u64,
    counts: Stat,
    transitions: TraceTracker<Transition>,
    connections: TraceTracker<Connection>,
    cgroups: CgroupPaths,
    namespace_names: NamespaceNames,
    churn: Churn,
    latency: Latency,
    stuck: Option<StuckTracker>,
    /// Records lost since the start.
    lost: u64,
    /// Records left out since the start, because their owners are unknown.
    unknown_owners: u64,
    frame: Frame,
    /// An interval that is over, and waits until all of it is known.
    held: Option<HeldInterval>,
}

impl World {
    /// An empty model that keeps what `needs` call for. `filter` is the filter of the source; the model selects the rows of traces by
    /// its owner.
    #[must_use]
    pub fn new(needs: Needs, filter: Filter) -> Self {
        Self::for_session(needs, filter, &Session::default())
    }

    fn for_session(needs: Needs, filter: Filter, session: &Session) -> Self {
        Self {
            needs,
            time: Timestamp::UNIX_EPOCH,
            monotonic_ns: 0,
            has_interval: false,
            is_stream_read: false,
            newest_ns: 0,
            known_ns: session.monotonic_ns,
            counts: Stat::new(session.reasons.clone()),
            transitions: TraceTracker::new(session, needs.rows()),
            connections: TraceTracker::new(session, needs.rows()),
            cgroups: CgroupPaths::default(),
            namespace_names: NamespaceNames::default(),
            churn: Churn::filtered(&filter, needs.churn.unwrap_or_default(), session.monotonic_ns),
            filter,
            latency: Latency::new(needs.latency.unwrap_or_default(), session.monotonic_ns),
            stuck: needs.stuck.map(|stuck| StuckTracker::new(stuck, session)),
            lost: 0,
            unknown_owners: 0,
            frame: Frame::default(),
            held: None,
        }
    }

    /// Begins anew with the facts of `session`.
    #[inline(never)]
    fn restart(&mut self, session: &Session) {
        let filter = std::mem::take(&mut self.filter);
        *self = Self::for_session(self.needs, filter, session);
    }

    /// Applies `input`; returns a frame if there is something to show.
    ///
    /// It is called for each record, so what needs much room on the stack is not inlined here: the compiler has each page of it touched at
    /// each call.
    pub fn apply(&mut self, input: Input) -> Option<&Frame> {
        match input {
            Input::Session(session) => self.restart(&session),
            Input::Transition(event) => {
                self.newest_ns = self.newest_ns.max(event.monotonic_ns);
                if self.needs.churn.is_some() {
                    self.churn.opened(&event, &self.cgroups);
                }
                if let Some(stuck) = &mut self.stuck {
                    stuck.transition(event, &self.filter.owner, &self.cgroups);
                }
                if self.needs.transitions {
                    self.transitions.holdback.push(event);
                }
            }
            Input::Connection(connection) => {
                self.newest_ns = self.newest_ns.max(connection.last.monotonic_ns);
                self.connections.holdback.push(connection);
            }
            Input::CloseAmended { id, evidence } => {
                self.transitions.holdback.amend(id, evidence);
                self.connections.holdback.amend(id, evidence);
            }
            Input::Owner { inode, owner } => {
                if !self.held.as_mut().is_some_and(|held| held.owner(inode, owner.ok())) {
                    self.transitions.holdback.set_owner(inode, owner);
                    self.connections.holdback.set_owner(inode, owner);
                }
            }
            Input::CgroupPath { owner, cgroup } => self.cgroups.insert(&owner, cgroup),
            Input::Loss(Loss {
                lost,
                missed_resets,
                unknown_owners,
                emptied,
            }) => {
                (self.lost, self.unknown_owners) = (lost, unknown_owners);
                self.is_stream_read = emptied;
                self.transitions.holdback.set_missed_resets(missed_resets, emptied);
                self.connections.holdback.set_missed_resets(missed_resets, emptied);
            }
            Input::Ledger(ledger) => {
                // The next interval is over.
                self.held.iter_mut().for_each(HeldInterval::stop_waiting);
                self.counts.ledger(ledger);
            }
            Input::Sockets(walked) => self.counts.sockets(walked),
            Input::HostFacts(facts) => self.counts.host_facts(facts),
            Input::Ports(sample) => self.churn.walked(sample.map(|sample| *sample)),
            Input::NamespaceNames(names) => self.namespace_names = names,
            Input::ListenerDrops(listeners) => self.churn.dropped(listeners),
            Input::Latency(sample) => self.latency.add(*sample, self.monotonic_ns, &self.cgroups),
            Input::ScanStart { is_base } => {
                if let Some(stuck) = &mut self.stuck {
                    stuck.release(u64::MAX, &self.filter.owner, &self.cgroups);
                    stuck.start_scan(is_base);
                }
            }
            Input::SocketScan { scan, missed } => return self.fill_frame(|world| world.end_scan(*scan, missed)),
            Input::Tick { time, monotonic_ns } => {
                (self.time, self.monotonic_ns) = (time, monotonic_ns);
                self.known_ns = self.known_ns.max(self.known_at(monotonic_ns));
                if self.needs.churn.is_some() {
                    self.churn.tick(self.known_ns);
                }
                return self.fill_frame(|world| world.release_rows(monotonic_ns));
            }
            Input::IntervalEnd => return self.fill_frame(Self::hold_interval),
            Input::StreamEnd => {
                self.known_ns = u64::MAX;
                return self.fill_frame(|world| world.release_rows(u64::MAX));
            }
            Input::End(counts) => return self.fill_frame(|world| world.end(&counts)),
        }
        None
    }

    /// Whether records or an interval are held back.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !self.transitions.holdback.is_empty() || !self.connections.holdback.is_empty() || self.held.is_some()
    }

    /// Fills a new frame by `fill`; returns it, unless it stays empty.
    fn fill_frame(&mut self, fill: impl FnOnce(&mut Self)) -> Option<&Frame> {
        self.frame.clear();
        self.frame.namespace_names = self.namespace_names.clone();
        fill(self);
        (!self.frame.is_empty()).then_some(&self.frame)
    }

    /// Until when all records are known at a tick of `monotonic_ns`, ns: until the tick if the stream was read to its end. If more records
    /// wait there, they are newer than the newest that was read, but for those of a CPU that was stopped while it made one.
    fn known_at(&mut self, monotonic_ns: u64) -> u64 {
        if std::mem::take(&mut self.is_stream_read) {
            return monotonic_ns;
        }
        self.newest_ns.min(monotonic_ns).saturating_sub(LATE_NS)
    }

    /// Moves the records that are complete, or have waited long enough at `monotonic_ns`, from the holdback to the frame.
    #[inline(never)]
    fn release_rows(&mut self, monotonic_ns: u64) {
        let Self {
            known_ns,
            needs,
            filter,
            transitions,
            connections,
            cgroups,
            churn,
            stuck,
            frame,
            ..
        } = self;
        let filter = &filter.owner;
        if let Some(stuck) = stuck {
            stuck.release(monotonic_ns, filter, cgroups);
        }
        let has_cgroup = |event: &Transition| cgroups.has_all(event.owner);
        while let Some(released) = transitions.holdback.pop(monotonic_ns, *known_ns, has_cgroup) {
            transitions.append_row(released, filter, cgroups, &mut frame.transitions.rows);
        }
        let has_cgroups = |connection: &Connection| {
            !needs.rows() || cgroups.has_all(connection.last.owner.into_iter().chain(connection.closer))
        };
        while let Some(released) = connections.holdback.pop(monotonic_ns, *known_ns, has_cgroups) {
            if needs.churn.is_some()
                && let Some(ending) = released.ending
            {
                churn.ended(&released.record, ending, cgroups);
            }
            if needs.connections {
                connections.append_row(released, filter, cgroups, &mut frame.connections.rows);
            }
        }
        if let Some(held) = &mut self.held
            && *known_ns >= held.ended_ns()
            && !connections.holdback.holds_until(held.ended_ns())
        {
            held.end_records();
        }
        if let Some(held) = self.held.take_if(|held| !held.waits(monotonic_ns)) {
            held.show(frame, churn);
        }
    }

    /// Shows the interval that is over, or holds it back until all of it is known; of two the first is shown.
    #[inline(never)]
    fn hold_interval(&mut self) {
        if let Some(held) = self.held.take() {
            held.show(&mut self.frame, &mut self.churn);
        }
        let over = self.end_interval();
        if over.waits(self.monotonic_ns) || !self.frame.is_empty() {
            self.held = Some(over);
        } else {
            over.show(&mut self.frame, &mut self.churn);
        }
    }

    /// Ends the interval at the last tick.
    fn end_interval(&mut self) -> HeldInterval {
        let mut over = Frame::default();
        self.churn.end_interval(self.monotonic_ns);
        let is_first = !std::mem::replace(&mut self.has_interval, true);
        let counts = self.counts.interval(self.time, self.monotonic_ns);
        // Also at the first: what was counted before it belongs to no interval.
        let measures = self.needs.latency.is_some();
        let latency = measures.then(|| self.latency.frame(self.time, self.monotonic_ns));
        if !is_first {
            if self.needs.churn.is_some()
                && let Some(counts) = counts.clone()
            {
                let (unix_ns, monotonic_ns) = (self.unix_ns(), self.monotonic_ns);
                let churn = self
                    .churn
                    .frame_without_routes(counts, unix_ns, monotonic_ns, self.lost);
                over.churn = Some(ChurnFrame {
                    unknown_owners: self.unknown_owners,
                    ..churn
                });
            }
            over.latency = latency;
            if let Some(latency) = over.latency.as_mut().filter(|_| !self.filter.owner.is_any()) {
                // The kernel counts those of all.
                latency.retransmits = None;
            }
        }
        over.counts = counts.filter(|_| self.needs.counts);
        HeldInterval::new(over, self.monotonic_ns, self.needs.churn.is_some())
    }

    #[inline(never)]
    fn end_scan(&mut self, scan: SocketScan, missed: Option<u64>) {
        let unix_ns = self.unix_ns();
        let Some(stuck) = &mut self.stuck else { return };
        stuck.release(u64::MAX, &self.filter.owner, &self.cgroups);
        let to_unix_ns = unix_ns.wrapping_sub_unsigned(self.monotonic_ns);
        self.frame.leaks = stuck.end_scan(scan, to_unix_ns, self.lost, missed);
    }

    /// Time of the last tick, ns since the Unix epoch.
    fn unix_ns(&self) -> i64 {
        i64::try_from(self.time.as_nanosecond()).unwrap_or(i64::MAX)
    }

    #[inline(never)]
    fn end(&mut self, counts: &EndCounts) {
        if let Some(held) = self.held.take() {
            held.show(&mut self.frame, &mut self.churn);
        }
        if self.needs.transitions {
            self.frame.transitions.totals = Some(self.transitions.totals(counts));
        }
        if self.needs.connections {
            self.frame.connections.totals = Some(self.connections.totals(counts));
        }
    }
}
