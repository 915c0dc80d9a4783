//! When ports run out, if all goes on as it does.

use super::TIME_WAIT_S;

/// What is known of ports that are used up together: those from one source address to one destination address and port, or all
/// those of a source address.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Ports that may be taken.
    pub range: u32,
    /// Ports held now by connections that are not in TIME_WAIT.
    pub live: f64,
    /// Ports held by TIME_WAIT, by how many whole seconds ago they entered it.
    pub waiting: [f64; TIME_WAIT_S],
    /// Connections opened a second.
    pub opened_per_s: f64,
    /// Connections that end a second and leave no TIME_WAIT here: closed by the other side first, reset, failed.
    pub freed_per_s: f64,
    /// Connections that enter TIME_WAIT a second; asked for only where it holds ports for less than its 60 s.
    pub entered_per_s: f64,
    /// How long TIME_WAIT keeps a port from being taken again, ms: see [`crate::input::ports::reuse::TwReuse::held_ms`].
    pub held_ms: u32,
}

/// A growth of less than this share of the openings is none: on a busy host the counts of a second are off by as much.
const NOISE: f64 = 0.1;

impl Forecast {
    /// Ports that may not be taken now.
    #[must_use]
    pub fn taken(&self) -> f64 {
        let (seconds, part) = self.held();
        let held: f64 = self.waiting.iter().take(seconds).sum();
        self.live + held + part * self.entered(Some(seconds))
    }

    /// Seconds until every port is taken; 0 where every one is.
    ///
    /// Each second ahead takes the ports of what is opened in it, gives back those of what ends without TIME_WAIT, and
    /// those that TIME_WAIT has held for long enough by then; within a second all is taken to happen evenly. After 60 s every
    /// port held now by TIME_WAIT is free again and as many leave it as enter: what has not run out by then does not because of
    /// it, and the answer is `None`. Connections that are never closed may still use the ports up, slowly; that too is foretold
    /// from 60 s before it on.
    #[must_use]
    pub fn exhausted_in_s(&self) -> Option<f64> {
        let range = f64::from(self.range);
        let mut used = self.taken();
        // Less than half a port is none.
        if used > range - 0.5 {
            return Some(0.0);
        }
        let (seconds, part) = self.held();
        let mut second = 0.0;
        for ahead in 0..TIME_WAIT_S {
            let leave = self.entered(seconds.checked_sub(ahead + 1)) * (1.0 - part)
                + self.entered(seconds.checked_sub(ahead)) * part;
            let more = self.opened_per_s - self.freed_per_s - leave;
            // What differs by less is the noise of counting.
            let more = if more < self.opened_per_s * NOISE {
                more.min(0.0)
            } else {
                more
            };
            if used + more >= range {
                return Some(second + (range - used) / more);
            }
            used += more;
            second += 1.0;
        }
        None
    }

    /// How long TIME_WAIT holds a port, whole seconds and part of one.
    fn held(&self) -> (usize, f64) {
        let seconds = usize::try_from(self.held_ms / 1000).unwrap_or(TIME_WAIT_S);
        (seconds, f64::from(self.held_ms % 1000) / 1000.0)
    }

    /// How many entered TIME_WAIT so many whole seconds ago; `None` is a second that is still to come.
    fn entered(&self, ago: Option<usize>) -> f64 {
        ago.map_or(self.entered_per_s, |ago| self.waiting.get(ago).copied().unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens and closes 50 a second, first, since `seconds` ago; connections last no time.
    fn after(seconds: usize) -> Forecast {
        let mut waiting = [0.0; TIME_WAIT_S];
        waiting.iter_mut().take(seconds).for_each(|count| *count = 50.0);
        Forecast {
            range: 1000,
            live: 0.0,
            waiting,
            opened_per_s: 50.0,
            freed_per_s: 0.0,
            entered_per_s: 50.0,
            held_ms: 60_000,
        }
    }

    fn close(left: Option<f64>, right: f64) -> bool {
        left.is_some_and(|left| (left - right).abs() < 1e-6)
    }

    #[test]
    fn a_constant_rate_uses_a_port_an_opening() {
        assert!(close(after(0).exhausted_in_s(), 20.0));
        assert!(close(after(5).exhausted_in_s(), 15.0));
        assert_eq!(after(20).exhausted_in_s(), Some(0.0));
        let odd = Forecast {
            range: 1010,
            ..after(19)
        };
        assert!(close(odd.exhausted_in_s(), 1.2));
    }

    #[test]
    fn what_leaves_time_wait_is_free_again() {
        // 950 entered 59 s ago: all but at once they are gone.
        let mut forecast = after(0);
        forecast.waiting[59] = 950.0;
        assert!(close(forecast.exhausted_in_s(), 1.0 + 19.0));
        // A second later they stay one second more: 50 more fill the range first.
        forecast.waiting[59] = 0.0;
        forecast.waiting[58] = 950.0;
        assert!(close(forecast.exhausted_in_s(), 1.0));
    }

    #[test]
    fn a_rate_that_time_wait_can_hold_never_runs_out() {
        for seconds in 0..=60 {
            let slow = Forecast {
                opened_per_s: 16.0,
                entered_per_s: 16.0,
                waiting: after(seconds).waiting.map(|count| count / 50.0 * 16.0),
                ..after(seconds)
            };
            assert_eq!(slow.exhausted_in_s(), None);
        }
        let mut just = after(0);
        just.opened_per_s = 1000.0 / 60.0 + 1e-9;
        assert!(just.exhausted_in_s().is_some());
        just.opened_per_s = 16.6;
        assert_eq!(just.exhausted_in_s(), None);
    }

    #[test]
    fn half_closed_by_the_other_side_takes_twice_as_long() {
        let mut half = after(0);
        half.freed_per_s = 25.0;
        assert!(close(half.exhausted_in_s(), 40.0));
        half.freed_per_s = 50.0;
        assert_eq!(half.exhausted_in_s(), None);
        half.freed_per_s = 80.0;
        assert_eq!(half.exhausted_in_s(), None);
    }

    #[test]
    fn ports_that_may_be_reused_are_held_for_a_second() {
        let mut reused = after(19);
        reused.held_ms = 1000;
        assert!(close(Some(reused.taken()), 50.0));
        assert_eq!(reused.exhausted_in_s(), None);
        // More than the range in a second, or connections that stay, still use it up.
        reused.live = 800.0;
        reused.opened_per_s = 80.0;
        reused.entered_per_s = 30.0;
        assert!(close(reused.exhausted_in_s(), 1.0 + (1000.0 - 880.0) / 50.0));
        reused.live = 950.0;
        assert_eq!(reused.exhausted_in_s(), Some(0.0));
    }

    #[test]
    fn they_may_be_held_for_any_time() {
        // 50 a second that are held for 10.5 s hold 525.
        for (held_ms, range, runs_out) in [
            (10_500, 526, false),
            (10_500, 524, true),
            (500, 26, false),
            (500, 24, true),
        ] {
            for seconds in [0, 5, 30] {
                let forecast = Forecast {
                    range,
                    held_ms,
                    ..after(seconds)
                };
                assert_eq!(
                    forecast.exhausted_in_s().is_some(),
                    runs_out,
                    "{held_ms} ms of {range}, {seconds} s"
                );
            }
        }
        let forecast = Forecast {
            held_ms: 10_500,
            ..after(30)
        };
        assert!(close(Some(forecast.taken()), 525.0));
    }

    #[test]
    fn nonsense_is_survived() {
        for rate in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1e300, 1e300] {
            let mut forecast = after(3);
            forecast.opened_per_s = rate;
            let left = forecast.exhausted_in_s();
            assert!(left.is_none_or(|left| (0.0..=60.0).contains(&left)), "{left:?}");
            forecast.live = rate;
            let _ = forecast.exhausted_in_s();
        }
        let nothing_usable = Forecast { range: 0, ..after(0) };
        assert_eq!(nothing_usable.exhausted_in_s(), Some(0.0));
    }
}
