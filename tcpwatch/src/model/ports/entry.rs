//! What is followed of ports that are used up together.

use super::forecast::Forecast;
use super::rates::rates;
use super::row::{Limit, Row};
use super::time_wait_ages::{TimeWaitAges, whole};
use super::{SECOND_NS, Seconds, TIME_WAIT_S};
use crate::input::ports::ends::Ends;
use crate::input::ports::reuse::{TIME_WAIT_MS, TwReuse};
use crate::input::ports::walk::Held;

const MINUTE_NS: u64 = TIME_WAIT_S as u64 * SECOND_NS;

/// What is followed of one destination, or of one source address.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// The first that is known of it.
    since_ns: u64,
    /// The latest event.
    pub(super) last_ns: u64,
    /// The last walk: what happened until then is in its counts.
    walked_ns: Option<u64>,
    /// Ports held by what is not in TIME_WAIT.
    live: u64,
    waiting: TimeWaitAges,
    opened: Seconds,
    freed: Seconds,
    /// When connect(2) last chose a port, as far as is known.
    chosen_ns: Option<u64>,
    /// When bind(2) last took one.
    bound_ns: Option<u64>,
}

/// By what rules its ports run out.
#[derive(Clone, Copy)]
pub(super) struct ReuseRules {
    /// Ports there are.
    pub(super) range: Option<u32>,
    /// How long TIME_WAIT keeps one, ms.
    pub(super) held_ms: Option<u32>,
    /// By which settings.
    pub(super) reuse: Option<TwReuse>,
    /// Whether bind(2) takes ports of this namespace, which connect(2) then cannot choose.
    pub(super) others_bound: bool,
    /// Whether those that bind(2) takes may be shared.
    pub(super) may_share: bool,
}

/// What an event says of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PortEvent {
    Opened,
    Waits,
    Freed,
}

impl Entry {
    pub(super) fn new(monotonic_ns: u64) -> Self {
        Self {
            since_ns: monotonic_ns,
            last_ns: monotonic_ns,
            ..Self::default()
        }
    }

    /// What happened to a port; whether bind(2) took it, where that is known.
    pub(super) fn apply(&mut self, what: PortEvent, bound: Option<bool>, monotonic_ns: u64) {
        // Events come in any order, and the walk may have met an older one's socket.
        self.since_ns = self.since_ns.min(monotonic_ns);
        self.last_ns = self.last_ns.max(monotonic_ns);
        let is_counted = self.walked_ns.is_some_and(|walked_ns| monotonic_ns <= walked_ns);
        match what {
            PortEvent::Opened => {
                self.opened.add(monotonic_ns);
                let last = if bound == Some(true) {
                    &mut self.bound_ns
                } else {
                    &mut self.chosen_ns
                };
                *last = (*last).max(Some(monotonic_ns));
            }
            PortEvent::Freed => self.freed.add(monotonic_ns),
            // The walk found it waiting, and it was entered then.
            PortEvent::Waits if is_counted => {}
            PortEvent::Waits => self.waiting.entered.add(monotonic_ns),
        }
        if !is_counted {
            self.live = match what {
                PortEvent::Opened => self.live.saturating_add(1),
                // One that was opened before anything was known of it.
                PortEvent::Waits | PortEvent::Freed => self.live.saturating_sub(1),
            };
        }
    }

    pub(super) fn walked(&mut self, held: Held, now_ns: u64) {
        self.live = held.used.saturating_sub(held.time_wait);
        self.waiting.correct(held.time_wait, self.since_ns, now_ns);
        self.walked_ns = Some(now_ns);
    }

    /// Ports held at `now_ns`.
    pub(super) fn used(&self, now_ns: u64) -> u64 {
        rounded(whole(self.live) + self.waiting.held(self.since_ns, now_ns))
    }

    /// Whether bind(2) took a port in the last minute.
    pub(super) fn is_bound_lately(&self, now_ns: u64) -> bool {
        is_lately(self.bound_ns, now_ns)
    }

    /// What is told of it at `now_ns`: it is `ends`.
    pub(super) fn row(&self, ends: Ends, terms: ReuseRules, now_ns: u64) -> Row {
        let ReuseRules {
            range, held_ms, reuse, ..
        } = terms;
        let (opened, freed, entered) = (&self.opened, &self.freed, &self.waiting.entered);
        // How many enter tells nothing of the ports that run out, where TIME_WAIT keeps them all.
        let [opened_per_s, freed_per_s, entered_per_s] = if held_ms.is_some_and(|held_ms| held_ms < TIME_WAIT_MS) {
            let ([opened, freed, entered], over_s) = rates([opened, freed, entered], self.since_ns, now_ns);
            // An end is told a moment after it: what opened and is not open any more has ended.
            let ended = opened - whole(self.live) / over_s;
            [opened, freed, entered.max(ended - freed)]
        } else {
            let ([opened, freed], _) = rates([opened, freed], self.since_ns, now_ns);
            [opened, freed, 0.0]
        };
        let waiting = self.waiting.ages(self.since_ns, now_ns);
        let forecast = range.zip(held_ms).map(|(range, held_ms)| Forecast {
            range,
            live: whole(self.live),
            waiting,
            opened_per_s,
            freed_per_s,
            entered_per_s,
            held_ms,
        });
        let time_wait = rounded(waiting.iter().sum());
        let (bound, chosen) = (self.is_bound_lately(now_ns), is_lately(self.chosen_ns, now_ns));
        // Ports run out for those who take them as these do; a destination nobody connects to now may be out of them all the same.
        let (is_asked, is_limit, limit) = match ends.destination {
            Some(_) => (chosen || !bound, terms.others_bound, Limit::Latest),
            None => (bound, chosen || terms.may_share, Limit::Earliest),
        };
        let free = |forecast: &Forecast| rounded((f64::from(forecast.range) - forecast.taken()).max(0.0));
        Row {
            ends,
            used: time_wait.saturating_add(self.live),
            time_wait,
            range,
            free: forecast.as_ref().map(free),
            held_ms,
            reuse,
            opened_per_s,
            exhausted_in_s: forecast
                .filter(|_| is_asked)
                .and_then(|forecast| forecast.exhausted_in_s()),
            limit: (is_asked && is_limit).then_some(limit),
        }
    }

    /// Whether its time is not that of `now_ns` at all: a clock that was set back, or an event with a wrong time.
    pub(super) fn is_of_another_time(&self, now_ns: u64) -> bool {
        self.last_ns > now_ns.saturating_add(MINUTE_NS)
    }

    pub(super) fn is_idle(&self, now_ns: u64) -> bool {
        self.live == 0
            && now_ns.saturating_sub(self.last_ns) > MINUTE_NS
            && self.waiting.held(self.since_ns, now_ns) < 0.5
    }
}

/// Whether it was in the minute before `now_ns`.
fn is_lately(last_ns: Option<u64>, now_ns: u64) -> bool {
    last_ns.is_some_and(|last_ns| now_ns.saturating_sub(last_ns) <= MINUTE_NS)
}

/// A number of sockets.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no count is negative, or 2^64"
)]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}
