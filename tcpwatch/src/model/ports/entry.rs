//! The ports to one destination, or those of one source address: how many are held, how fast that grows, when they are full.

use std::collections::VecDeque;

use super::SECOND_NS;
use super::forecast::Forecast;
use super::row::{Limit, Row};
use crate::input::ports::TIME_WAIT_S;
use crate::input::ports::ends::Ends;
use crate::input::ports::reuse::TwReuse;
use crate::input::ports::walk::Held;
use crate::model::time_buckets::TimeBuckets;
use crate::model::{real, rounded, seconds};

pub(super) const MINUTE_NS: u64 = TIME_WAIT_S as u64 * SECOND_NS;

/// Rates are those of the last ten seconds: enough to even out a client's pauses, and few beside the minute that TIME_WAIT lasts.
const RECENT_NS: u64 = 10 * SECOND_NS;

/// Events in each second: those whose TIME_WAIT ended in the last ten seconds entered it up to 70 s ago, in the first and the last of
/// 72 seconds of the clock at most.
type Seconds = TimeBuckets<SECOND_NS, 72>;

/// One destination, or one source address.
#[derive(Debug, Default)]
pub(super) struct PortEntry {
    /// The first event or walk.
    since_ns: u64,
    /// The latest event.
    pub(super) last_ns: u64,
    /// The last walk: its counts include all that happened until then.
    walked_ns: Option<u64>,
    /// Ports held by sockets that are not in TIME_WAIT.
    pub(super) live: u64,
    /// What `live` was at some moments, a second or more apart: from ten seconds ago on, or from the latest before that. At most 12.
    pub(super) lived: VecDeque<(u64, u64)>,
    /// Connections seen to enter TIME_WAIT.
    pub(super) entered: Seconds,
    /// How many more than those the last walk found in TIME_WAIT: sockets from before the watch. Negative where connect(2) took some
    /// of the ports again.
    unseen: f64,
    opened: Seconds,
    /// When connect(2) last chose a port, as far as is known.
    chosen_ns: Option<u64>,
    /// When bind(2) last took one.
    bound_ns: Option<u64>,
}

/// The rules by which the ports of an entry run out.
#[derive(Clone, Copy)]
pub(super) struct ReuseRules {
    /// Ports in the range.
    pub(super) range: Option<u32>,
    /// How long TIME_WAIT keeps one, ms.
    pub(super) held_ms: Option<u32>,
    /// The settings that decide `held_ms`.
    pub(super) reuse: Option<TwReuse>,
    /// Whether bind(2) takes ports of this namespace, which connect(2) then cannot choose.
    pub(super) others_bound: bool,
    /// Whether bind(2) may share a port.
    pub(super) may_share: bool,
}

/// What happens to a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PortEvent {
    Opened,
    Waits,
    Freed,
}

impl PortEntry {
    pub(super) fn new(monotonic_ns: u64) -> Self {
        Self {
            since_ns: monotonic_ns,
            last_ns: monotonic_ns,
            ..Self::default()
        }
    }

    /// Applies what happened to a port. `bound` is whether bind(2) took it, if that is known.
    pub(super) fn apply(&mut self, event: PortEvent, bound: Option<bool>, monotonic_ns: u64) {
        self.keep_live(monotonic_ns);
        // Events come in any order, and the walk may have met an older one's socket.
        self.since_ns = self.since_ns.min(monotonic_ns);
        self.last_ns = self.last_ns.max(monotonic_ns);
        let is_counted = self.walked_ns.is_some_and(|walked_ns| monotonic_ns <= walked_ns);
        match event {
            PortEvent::Opened => {
                self.opened.add(monotonic_ns);
                let last = if bound == Some(true) {
                    &mut self.bound_ns
                } else {
                    &mut self.chosen_ns
                };
                *last = (*last).max(Some(monotonic_ns));
            }
            PortEvent::Waits => {
                self.entered.add(monotonic_ns);
                if is_counted {
                    self.unseen -= 1.0;
                }
            }
            PortEvent::Freed => {}
        }
        if !is_counted {
            self.live = match event {
                PortEvent::Opened => self.live.saturating_add(1),
                // One that was opened before anything was known of it.
                PortEvent::Waits | PortEvent::Freed => self.live.saturating_sub(1),
            };
        }
    }

    pub(super) fn walked(&mut self, held: Held, now_ns: u64) {
        self.live = held.used.saturating_sub(held.time_wait);
        self.unseen = real(held.time_wait) - self.seen_waiting(MINUTE_NS, now_ns);
        self.walked_ns = Some(now_ns);
        self.keep_live(now_ns);
    }

    /// Keeps what `live` is at `now_ns`, once a second.
    fn keep_live(&mut self, now_ns: u64) {
        let is_due = |(ns, _): &(u64, u64)| now_ns.saturating_sub(*ns) >= SECOND_NS;
        if self.lived.back().is_none_or(is_due) {
            self.lived.push_back((now_ns, self.live));
        }
        let is_old = |(ns, _): &(u64, u64)| now_ns.saturating_sub(*ns) >= RECENT_NS;
        while self.lived.get(1).is_some_and(is_old) {
            self.lived.pop_front();
        }
    }

    /// Connections that were seen to enter TIME_WAIT in the last `held_ns`.
    pub(super) fn seen_waiting(&self, held_ns: u64, now_ns: u64) -> f64 {
        between(&self.entered, now_ns.saturating_sub(held_ns), now_ns, now_ns)
    }

    /// How many of the unseen ones leave TIME_WAIT from `from_ns` to `to_ns`. They entered it just before the watch, at the rate seen
    /// first, and leave a minute later; evenly from the walk on, where there are too many for that, or none was seen.
    pub(super) fn unseen_leave(&self, from_ns: u64, to_ns: u64, now_ns: u64) -> f64 {
        let walked_ns = self.walked_ns.unwrap_or(self.since_ns);
        let first_minute = self.since_ns.saturating_add(MINUTE_NS);
        let until_ns = if walked_ns < first_minute {
            first_minute
        } else {
            walked_ns.saturating_add(MINUTE_NS)
        };
        let until = |ns: u64| seconds(until_ns.saturating_sub(ns.max(walked_ns)));
        let first_ns = self.since_ns.saturating_add(RECENT_NS).min(now_ns);
        let entered = self.events(&self.entered, self.since_ns.min(now_ns), first_ns, now_ns);
        let per_s = entered / at_least_one(self.since_ns, first_ns);
        let for_s = (self.unseen / per_s.max(f64::MIN_POSITIVE)).clamp(1.0, until(walked_ns).max(1.0));
        self.unseen * (until(from_ns).min(for_s) - until(to_ns).min(for_s)) / for_s
    }

    /// Ports held by TIME_WAIT at `now_ns`.
    pub(super) fn time_wait(&self, now_ns: u64) -> f64 {
        (self.seen_waiting(MINUTE_NS, now_ns) + self.unseen_leave(now_ns, u64::MAX, now_ns)).max(0.0)
    }

    /// Ports held at `now_ns`.
    pub(super) fn used(&self, now_ns: u64) -> u64 {
        self.live.saturating_add(rounded(self.time_wait(now_ns)))
    }

    /// Whether bind(2) took a port in the last minute.
    pub(super) fn is_bound_lately(&self, now_ns: u64) -> bool {
        is_lately(self.bound_ns, now_ns)
    }

    /// The row of it, which is `ends`, at `now_ns`.
    pub(super) fn row(&self, ends: Ends, rules: ReuseRules, now_ns: u64) -> Row {
        let ReuseRules {
            range, held_ms, reuse, ..
        } = rules;
        // Where connect(2) takes ports again, they are in TIME_WAIT no more, and only the next walk counts that.
        let most = range.map_or(u64::MAX, |range| u64::from(range).saturating_sub(self.live));
        let time_wait = rounded(self.time_wait(now_ns)).min(most);
        let (bound, chosen) = (self.is_bound_lately(now_ns), is_lately(self.chosen_ns, now_ns));
        // A row forecasts for the way its connections take ports. A destination without new connections may have used up its ports, too.
        let (is_asked, is_limit, limit) = match ends.destination {
            Some(_) => (chosen || !bound, rules.others_bound, Limit::Latest),
            None => (bound, chosen || rules.may_share, Limit::Earliest),
        };
        let forecast = held_ms.map(|held_ms| Forecast::new(self, held_ms, now_ns));
        let free = range
            .zip(forecast.as_ref())
            .map(|(range, forecast)| forecast.free(range));
        Row {
            ends,
            used: time_wait.saturating_add(self.live),
            time_wait,
            range,
            free: free.map(rounded),
            held_ms,
            reuse,
            opened_per_s: self.recent(&self.opened, now_ns),
            growth_per_s: forecast.as_ref().map(Forecast::growth_per_s),
            exhausted_in_s: free
                .zip(forecast.filter(|_| is_asked))
                .and_then(|(free, forecast)| forecast.exhausted_in_s(free)),
            limit: (is_asked && is_limit).then_some(limit),
        }
    }

    /// When the last ten seconds began, or the first that is known.
    pub(super) fn recent_since(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(RECENT_NS).max(self.since_ns).min(now_ns)
    }

    /// How many of `series` there were a second since then.
    pub(super) fn recent(&self, series: &Seconds, now_ns: u64) -> f64 {
        let since_ns = self.recent_since(now_ns);
        self.events(series, since_ns, now_ns, now_ns) / at_least_one(since_ns, now_ns)
    }

    /// Events of `series` from `from_ns` to `to_ns`, as by [`between`]. All events of the first second came after `since_ns`.
    fn events(&self, series: &Seconds, from_ns: u64, to_ns: u64, now_ns: u64) -> f64 {
        let is_first = from_ns <= self.since_ns;
        let from_ns = if is_first {
            from_ns - from_ns % SECOND_NS
        } else {
            from_ns
        };
        between(series, from_ns, to_ns, now_ns)
    }

    /// Whether its time is not that of `now_ns` at all: a clock that was set back, or an event with a wrong time.
    pub(super) fn is_of_another_time(&self, now_ns: u64) -> bool {
        self.last_ns > now_ns.saturating_add(MINUTE_NS)
    }

    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.live == 0 && now_ns.saturating_sub(self.last_ns) > MINUTE_NS && self.time_wait(now_ns) < 0.5
    }
}

/// Events of `series` from `from_ns` to `to_ns`, of which nothing after `now_ns` is known; within a second they came evenly.
pub(super) fn between(series: &Seconds, from_ns: u64, to_ns: u64, now_ns: u64) -> f64 {
    let [from, to] = [from_ns, to_ns].map(|ns| {
        let slot = Seconds::slot(ns);
        let known_ns = now_ns.saturating_sub(slot * SECOND_NS).min(SECOND_NS);
        let part = if ns < now_ns {
            seconds(ns % SECOND_NS) / seconds(known_ns)
        } else {
            1.0
        };
        (slot, f64::from(series.get(slot)) * part)
    });
    real(series.sum(from.0, to.0)) + to.1 - from.1
}

/// Whether it was in the minute before `now_ns`.
fn is_lately(last_ns: Option<u64>, now_ns: u64) -> bool {
    last_ns.is_some_and(|last_ns| now_ns.saturating_sub(last_ns) <= MINUTE_NS)
}

/// From then to now, s; a second at least, for what a moment has is no rate.
pub(super) fn at_least_one(then_ns: u64, now_ns: u64) -> f64 {
    seconds(now_ns.saturating_sub(then_ns)).max(1.0)
}
