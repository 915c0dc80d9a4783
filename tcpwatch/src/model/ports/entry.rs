//! What is followed of one destination's ports.

use super::ends::Ends;
use super::forecast::Forecast;
use super::rates::rates;
use super::reuse::TwReuse;
use super::row::Row;
use super::waiting::{Waiting, whole};
use super::walk::Held;
use super::{SECOND_NS, Seconds, TIME_WAIT_S};

const MINUTE_NS: u64 = TIME_WAIT_S as u64 * SECOND_NS;

/// What is followed of one destination.
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
    waiting: Waiting,
    opened: Seconds,
    freed: Seconds,
}

/// What an event says of a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
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

    pub(super) fn apply(&mut self, what: What, monotonic_ns: u64) {
        // Events come in any order, and the walk may have met an older one's socket.
        self.since_ns = self.since_ns.min(monotonic_ns);
        self.last_ns = self.last_ns.max(monotonic_ns);
        let is_counted = self.walked_ns.is_some_and(|walked_ns| monotonic_ns <= walked_ns);
        match what {
            What::Opened => self.opened.add(monotonic_ns),
            What::Freed => self.freed.add(monotonic_ns),
            // The walk found it waiting, and it was entered then.
            What::Waits if is_counted => {}
            What::Waits => self.waiting.entered.add(monotonic_ns),
        }
        if !is_counted {
            self.live = match what {
                What::Opened => self.live.saturating_add(1),
                // One that was opened before anything was known of it.
                What::Waits | What::Freed => self.live.saturating_sub(1),
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

    /// What is told of it at `now_ns`: it is `ends`, and these are the settings.
    pub(super) fn row(&self, ends: Ends, range: Option<u32>, reuse: Option<TwReuse>, now_ns: u64) -> Row {
        let reuse = reuse.map(|reuse| reuse.holds_between(ends.source, ends.destination));
        let (opened, freed, entered) = (&self.opened, &self.freed, &self.waiting.entered);
        // How many enter tells nothing of the ports that run out, where TIME_WAIT keeps them all.
        let [opened_per_s, freed_per_s, entered_per_s] = if reuse == Some(true) {
            rates([opened, freed, entered], self.since_ns, now_ns)
        } else {
            let [opened, freed] = rates([opened, freed], self.since_ns, now_ns);
            [opened, freed, 0.0]
        };
        let waiting = self.waiting.ages(self.since_ns, now_ns);
        let forecast = range.zip(reuse).map(|(range, reuse)| Forecast {
            range,
            live: whole(self.live),
            waiting,
            opened_per_s,
            freed_per_s,
            entered_per_s,
            reuse,
        });
        let time_wait = rounded(waiting.iter().sum());
        Row {
            ends,
            used: time_wait.saturating_add(self.live),
            time_wait,
            range,
            opened_per_s,
            exhausted_in_s: forecast.and_then(|forecast| forecast.exhausted_in_s()),
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

/// A number of sockets.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no count is negative, or 2^64"
)]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}
