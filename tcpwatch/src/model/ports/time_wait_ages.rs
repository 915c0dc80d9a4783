//! The timewait sockets of one destination, by when they entered TIME_WAIT.

use super::{SECOND_NS, Seconds, TIME_WAIT_S};

const KEPT: u64 = TIME_WAIT_S as u64;

/// How long what was seen first is taken to show what went before, s.
const EARLY_S: u64 = 10;

/// How many entered TIME_WAIT in each second of the last minute, and how many more a walk of the sockets found.
#[derive(Clone, Debug, Default)]
pub(super) struct TimeWaitAges {
    /// Those seen to enter.
    pub(super) entered: Seconds,
    /// Those the last walk found besides: they entered before anything was seen.
    unseen: f64,
    walked_ns: u64,
}

impl TimeWaitAges {
    /// Ports held at `now_ns`, by how many whole seconds ago they entered; nothing was seen before `since_ns`.
    pub(super) fn ages(&self, since_ns: u64, now_ns: u64) -> [f64; TIME_WAIT_S] {
        let now = Seconds::slot(now_ns);
        let elapsed = share(now_ns);
        let (since, unseen) = (Seconds::slot(since_ns), self.unseen(since_ns));
        let count = |back: u64| {
            let Some(slot) = now.checked_sub(back) else { return 0.0 };
            let before = since.checked_sub(slot + 1).and_then(|back| usize::try_from(back).ok());
            let unseen = before.and_then(|before| unseen.get(before)).copied();
            f64::from(self.entered.get(slot)) + unseen.unwrap_or(0.0)
        };
        let mut back = 0;
        [(); TIME_WAIT_S].map(|()| {
            // A second of age is part of two seconds of the clock; the one under way is not over yet.
            let later = if back == 0 { 1.0 } else { elapsed };
            let held = count(back) * later + count(back + 1) * (1.0 - elapsed);
            back += 1;
            held
        })
    }

    /// Ports held at `now_ns`.
    pub(super) fn held(&self, since_ns: u64, now_ns: u64) -> f64 {
        self.ages(since_ns, now_ns).iter().sum()
    }

    /// The unseen ones, by how many seconds before the first that was seen they entered.
    ///
    /// At the rate that was seen first, as far back as that takes; faster, where even a minute would not do.
    fn unseen(&self, since_ns: u64) -> [f64; TIME_WAIT_S] {
        let since = Seconds::slot(since_ns);
        let walked = Seconds::slot(self.walked_ns);
        let oldest = walked.saturating_sub(KEPT);
        let first_s = (self.entered.newest().saturating_sub(since)).min(EARLY_S);
        let first_seen = whole(self.entered.sum(since, since + first_s));
        let rate = if first_s > 0 { first_seen / whole(first_s) } else { 0.0 };
        let seconds: f64 = (oldest..since)
            .take(TIME_WAIT_S)
            .map(|slot| stays(slot, self.walked_ns))
            .sum();
        let each = if seconds > 0.0 {
            rate.max(self.unseen / seconds)
        } else {
            0.0
        };
        let mut left = self.unseen;
        let mut back = 0;
        [(); TIME_WAIT_S].map(|()| {
            back += 1;
            let slot = since.checked_sub(back).filter(|&slot| slot >= oldest);
            let part = slot.map_or(0.0, |slot| each * stays(slot, self.walked_ns)).min(left);
            left -= part;
            part
        })
    }

    /// Makes them `total`, which a walk found at `now_ns`; nothing was seen before `since_ns`.
    ///
    /// More than were seen to enter did so before that. Where all were to be seen, or fewer are left than were, every second is
    /// wrong by the same factor.
    pub(super) fn correct(&mut self, total: u64, since_ns: u64, now_ns: u64) {
        let now = Seconds::slot(now_ns);
        let oldest = now.saturating_sub(KEPT);
        let since = Seconds::slot(since_ns).clamp(oldest, now);
        self.walked_ns = now_ns;
        self.unseen = 0.0;
        let slots: Vec<u64> = (since..=now).collect();
        let seen = |&slot: &u64| f64::from(self.entered.get(slot)) * stays(slot, now_ns);
        let mut weights: Vec<f64> = slots.iter().map(seen).collect();
        let all_seen: f64 = weights.iter().sum();
        if since > oldest && whole(total) > all_seen {
            self.unseen = whole(total) - all_seen;
            return;
        }
        if all_seen <= 0.0 {
            weights.fill(1.0);
        }
        for (slot, count) in slots.into_iter().zip(apportion(total, &weights)) {
            // What is left of a second that has left almost whole does not tell how many there were.
            let whole_second = stays(slot, now_ns).max(0.5);
            self.entered.set(slot, rounded(count / whole_second));
        }
    }
}

/// The share of what entered in `slot` that still waits at `now_ns`, if it came evenly.
fn stays(slot: u64, now_ns: u64) -> f64 {
    match Seconds::slot(now_ns).saturating_sub(slot) {
        0..KEPT => 1.0,
        KEPT => 1.0 - share(now_ns),
        _ => 0.0,
    }
}

/// How far the second of `now_ns` is over, 0 to 1.
pub(super) fn share(now_ns: u64) -> f64 {
    whole(now_ns % SECOND_NS) / whole(SECOND_NS)
}

/// A count as a number to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "no host has 2^53 sockets, and a time of 104 days is exact enough"
)]
pub(super) fn whole(count: u64) -> f64 {
    count as f64
}

/// A number that was reckoned as a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below none is none, and beyond 2^32 is the largest there is"
)]
fn rounded(count: f64) -> u32 {
    count.round() as u32
}

/// `total` in whole parts, as large as their weights: each is rounded so that all add up.
fn apportion(total: u64, weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    let (mut weight, mut given) = (0.0, 0.0);
    let part = |each: &f64| {
        weight += each;
        let until = (whole(total) * weight / sum).round();
        until - std::mem::replace(&mut given, until)
    };
    weights.iter().map(part).collect()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "sums and shares of small whole numbers are exact")]
mod tests {
    use super::*;

    const S: u64 = SECOND_NS;

    /// So many in the middle of each second.
    fn entered(seconds: &[(u64, u64)]) -> TimeWaitAges {
        let mut waiting = TimeWaitAges::default();
        for &(second, count) in seconds {
            for _ in 0..count {
                waiting.entered.add(second * S + S / 2);
            }
        }
        waiting
    }

    #[test]
    fn a_port_is_held_for_a_minute() {
        let waiting = entered(&[(100, 8)]);
        assert_eq!(waiting.ages(0, 101 * S)[0], 8.0);
        assert_eq!(waiting.ages(0, 105 * S)[4], 8.0);
        // In the middle of a second they may be of two ages.
        let ages = waiting.ages(0, 105 * S + S / 4);
        assert_eq!((ages[4], ages[5]), (6.0, 2.0));
        assert_eq!(waiting.held(0, 160 * S), 8.0);
        assert_eq!(waiting.held(0, 160 * S + S / 2), 4.0);
        assert_eq!(waiting.held(0, 161 * S), 0.0);
        assert_eq!(waiting.held(0, 100 * S + S / 2), 8.0);
        assert_eq!(waiting.held(0, 0), 0.0);
    }

    #[test]
    fn of_those_not_seen_to_enter_nothing_is_known_at_first() {
        let mut waiting = TimeWaitAges::default();
        waiting.correct(120, 1000 * S, 1000 * S);
        let ages = waiting.ages(1000 * S, 1000 * S);
        assert!(ages.iter().all(|&count| (count - 2.0).abs() < 1e-9), "{ages:?}");
        let left = waiting.held(1000 * S, 1030 * S);
        assert!((left - 60.0).abs() < 1e-9, "{left}");
        assert_eq!(waiting.held(1000 * S, 1060 * S), 0.0);
    }

    #[test]
    fn those_not_seen_to_enter_came_at_the_rate_seen_first() {
        let mut waiting = TimeWaitAges::default();
        waiting.correct(200, 1000 * S, 1000 * S);
        for event in 0..100 {
            waiting.entered.add(1000 * S + event * S / 10);
        }
        waiting.entered.add(1010 * S);
        let ages = waiting.ages(1000 * S, 1010 * S);
        assert!(
            ages.iter().skip(1).take(29).all(|&count| (count - 10.0).abs() < 1e-9),
            "{ages:?}"
        );
        assert!(ages.iter().skip(30).all(|&count| count < 1e-9), "{ages:?}");
        // A walk later finds so many that it was more before.
        waiting.correct(1101, 1000 * S, 1010 * S);
        let ages = waiting.ages(1000 * S, 1010 * S);
        assert!(
            ages.iter().skip(1).take(9).all(|&count| (count - 10.0).abs() < 1e-9),
            "{ages:?}"
        );
        assert!(
            ages.iter().skip(10).all(|&count| (count - 20.0).abs() < 1e-9),
            "{ages:?}"
        );
        assert!((waiting.held(1000 * S, 1010 * S) - 1101.0).abs() < 1e-9);
    }

    #[test]
    fn fewer_than_seen_are_fewer_everywhere() {
        let mut waiting = entered(&[(990, 100), (1000, 40)]);
        waiting.correct(70, 900 * S, 1010 * S);
        assert_eq!((waiting.entered.get(990), waiting.entered.get(1000)), (50, 20));
        // More, and no second was unseen.
        waiting.correct(140, 900 * S, 1010 * S);
        assert_eq!((waiting.entered.get(990), waiting.entered.get(1000)), (100, 40));
        waiting.correct(0, 900 * S, 1010 * S);
        assert_eq!(waiting.held(900 * S, 1010 * S), 0.0);
        waiting.correct(7, 900 * S, 1010 * S);
        assert_eq!(waiting.held(900 * S, 1010 * S), 7.0);
    }

    #[test]
    fn a_walk_in_the_middle_of_a_second_is_exact_too() {
        for tenth in 0..10 {
            let now_ns = 1060 * S + tenth * S / 10;
            let mut waiting = entered(&[(1000, 300), (1001, 300), (1030, 300)]);
            for total in [450, 901, 0, 60] {
                waiting.correct(total, 0, now_ns);
                let held = waiting.held(0, now_ns);
                // Of a second that is all but gone little is left to correct.
                assert!(
                    (held - whole(total)).abs() <= 0.3 * whole(total) / 3.0,
                    "{tenth}: {held} of {total}"
                );
            }
        }
    }

    #[test]
    fn any_time_and_count_is_survived() {
        for (total, since_ns, now_ns) in [
            (9, 0, 0),
            (9, u64::MAX, 0),
            (9, 0, u64::MAX),
            (0, 5 * S, 3 * S),
            (1 << 30, 1, S),
            (9, u64::MAX, u64::MAX),
        ] {
            let mut waiting = entered(&[(5, 3)]);
            waiting.correct(total, since_ns, now_ns);
            assert!(waiting.held(since_ns, now_ns).is_finite());
            waiting.correct(u64::MAX, since_ns, now_ns);
            assert!(waiting.held(0, now_ns).is_finite());
            assert!(waiting.held(u64::MAX, 0).is_finite());
            waiting.correct(5, 0, 1000 * S);
        }
    }
}
