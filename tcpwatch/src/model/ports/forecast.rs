//! How many ports are free, how fast they are taken, and when none is left.

use super::SECOND_NS;
use super::entry::{MINUTE_NS, PortEntry, at_least_one, between};
use crate::model::{real, seconds};

/// How far ahead a forecast goes, s. The rate of ten seconds varies by chance: further ahead, it would often seem to use up the ports
/// though TIME_WAIT gives them back in time.
const AHEAD_S: u64 = 30;

/// A growth of the open connections is expected to last this many times as long as it was seen: 3 s after one second, 30 s after ten.
/// A client that begins opens its first connections, and may open no more.
const GROW_ON: u64 = 3;

/// How fast the ports of an entry are taken and come back, where TIME_WAIT keeps one for `held_ns`.
pub(super) struct Forecast<'a> {
    entry: &'a PortEntry,
    held_ns: u64,
    now_ns: u64,
    /// Connections that enter TIME_WAIT a second.
    enter_per_s: f64,
    /// Growth of the number of open connections per second, and for how many seconds it was seen.
    live_per_s: f64,
    grew_s: u64,
}

impl<'a> Forecast<'a> {
    pub(super) fn new(entry: &'a PortEntry, held_ms: u32, now_ns: u64) -> Self {
        let enter_per_s = entry.recent(&entry.entered, now_ns);
        let (then_ns, live) = entry.lived.front().copied().unwrap_or((now_ns, entry.live));
        Self {
            entry,
            held_ns: u64::from(held_ms) * 1_000_000,
            now_ns,
            enter_per_s,
            live_per_s: (real(entry.live) - real(live)) / at_least_one(then_ns, now_ns),
            grew_s: (now_ns.saturating_sub(then_ns) / SECOND_NS).max(1),
        }
    }

    /// Number of free ports. A port that TIME_WAIT has held for `held_ns` is free.
    pub(super) fn free(&self, range: u32) -> f64 {
        let waiting = if self.held_ns < MINUTE_NS {
            self.entry.seen_waiting(self.held_ns, self.now_ns)
        } else {
            self.entry.time_wait(self.now_ns)
        };
        (f64::from(range) - real(self.entry.live) - waiting).max(0.0)
    }

    /// Number of ports that TIME_WAIT gives back between `from_ns` and `to_ns`, which may be in the future.
    fn come_back(&self, from_ns: u64, to_ns: u64) -> f64 {
        let entered = [from_ns, to_ns].map(|ns| ns.saturating_sub(self.held_ns));
        let seen = between(&self.entry.entered, entered[0], entered[1], self.now_ns);
        let later = self.enter_per_s * seconds(entered[1].saturating_sub(entered[0].max(self.now_ns)));
        let unseen = if self.held_ns < MINUTE_NS {
            0.0
        } else {
            self.entry.unseen_leave(from_ns, to_ns, self.now_ns)
        };
        seen + later + unseen
    }

    /// Growth of the number of taken ports per second, in the last ten seconds.
    pub(super) fn growth_per_s(&self) -> f64 {
        let from_ns = self.entry.recent_since(self.now_ns);
        // Without ports that are given back at once because no TIME_WAIT follows.
        let take_per_s = self.enter_per_s + self.live_per_s;
        take_per_s - self.come_back(from_ns, self.now_ns) / at_least_one(from_ns, self.now_ns)
    }

    /// Seconds until the `free` ports are taken too, if the rates stay; `None` if that is not within [`AHEAD_S`].
    pub(super) fn exhausted_in_s(&self, mut free: f64) -> Option<f64> {
        // Rates are fractions: less than half a port rounds to none.
        if free < 0.5 {
            return Some(0.0);
        }
        let mut second = 0.0;
        for ahead_s in 0..AHEAD_S {
            let from_ns = self.now_ns.saturating_add(ahead_s * SECOND_NS);
            let grow_per_s = if ahead_s < GROW_ON * self.grew_s {
                self.live_per_s
            } else {
                0.0
            };
            let more = self.enter_per_s + grow_per_s - self.come_back(from_ns, from_ns.saturating_add(SECOND_NS));
            if more >= free {
                return Some(second + free / more);
            }
            free -= more;
            second += 1.0;
        }
        None
    }
}
