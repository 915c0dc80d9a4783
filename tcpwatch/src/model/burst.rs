//! Bursts: seconds in a row with more than twice as many openings as the median second of the minute before, and at least a hundred
//! more.
//!
//! The usual rate is known after ten seconds of watching. A rate that stays for half a minute becomes the usual one, and is no burst;
//! until then it is a burst that goes on.

mod owners;

use std::hash::Hash;
use std::ops::Range;

use self::owners::Owners;
use super::rounded;
use super::time_buckets::TimeBuckets;

/// A second of a burst has more than this many times the usual openings: seconds of steady traffic differ by less.
const TIMES: f64 = 2.0;

/// And at least so many more: fewer fit into most accept queues, whose backlog is 128 or more by default.
const FEWEST: f64 = 100.0;

/// The usual rate is the median of so many seconds.
const MINUTE: u64 = 60;

/// And unknown before there are so many.
const KNOWN_FROM: u64 = 10;

/// The minute before a burst, and the half minute that a burst lasts at most.
const KEPT: u64 = MINUTE + MINUTE / 2 + 2;

const SECOND_NS: u64 = 1_000_000_000;

/// Openings in each second.
type Seconds = TimeBuckets<SECOND_NS, KEPT>;

/// Many connections, opened in a short while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst<K> {
    /// When it began: monotonic, ns, a whole second.
    pub start_ns: u64,
    /// When it ended; `None` while it goes on.
    pub end_ns: Option<u64>,
    /// Connections opened in it, over the usual.
    pub opened: u64,
    /// The most of them in a second.
    pub peak_per_s: u64,
    /// The owner of more than half of them; `None` if there is none.
    pub owner: Option<K>,
}

/// Finds bursts of openings, each with an owner of type `K`.
///
/// Times are of one monotonic clock, ns; events may come in any order, and are counted if they are no more than a second late.
#[derive(Debug)]
pub struct BurstTracker<K> {
    opened: Seconds,
    owners: Owners<K>,
    /// Openings by group: if no owner opened most of a burst, a group may have.
    groups: Owners<K>,
    /// Seconds before this one were judged.
    judged: u64,
    /// Seconds before this one do not count for the usual rate.
    since: u64,
    /// The second in which the burst that goes on began.
    going: Option<u64>,
    /// Owners evicted before the watching began anew.
    evicted: u64,
}

/// Owners that can be grouped.
pub trait Grouped: Clone + Ord + Hash {
    /// The group of the owner, as an owner itself.
    #[must_use]
    fn group(&self) -> Self;
}

impl<K: Grouped> BurstTracker<K> {
    /// Watching begins at `monotonic_ns`.
    #[must_use]
    pub fn new(monotonic_ns: u64) -> Self {
        // The second under way is not whole.
        let since = Seconds::slot(monotonic_ns).saturating_add(1);
        Self {
            opened: Seconds::default(),
            owners: Owners::default(),
            groups: Owners::default(),
            judged: since,
            since,
            going: None,
            evicted: 0,
        }
    }

    /// Owners evicted since the start: a burst of one of them may have no owner.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted + self.owners.evicted() + self.groups.evicted()
    }

    /// `owner` opened a connection.
    pub fn opened(&mut self, owner: K, monotonic_ns: u64) {
        self.opened.add(monotonic_ns);
        self.groups.add(owner.group(), monotonic_ns);
        self.owners.add(owner, monotonic_ns);
    }

    /// Judges the seconds that have been over for one at `monotonic_ns`; the bursts that ended, each once.
    ///
    /// Call it every second or more often: the minute before a second must still be known when the second is judged. After a pause of
    /// more than a minute, and when the clock was set back by more, watching begins anew.
    pub fn tick(&mut self, monotonic_ns: u64) -> Vec<Burst<K>> {
        let now = Seconds::slot(monotonic_ns);
        let latest = self.judged.max(self.opened.newest());
        if now > self.judged.saturating_add(MINUTE + 2) || latest > now.saturating_add(MINUTE) {
            *self = Self {
                evicted: self.evicted(),
                ..Self::new(monotonic_ns)
            };
        }
        let mut ended = Vec::new();
        if self.judged.saturating_add(1) >= now {
            return ended;
        }
        self.owners.expire(now);
        self.groups.expire(now);
        while self.judged.saturating_add(1) < now {
            ended.extend(self.judge());
        }
        ended
    }

    /// The burst that goes on, as far as it went by the last tick.
    ///
    /// It may still turn out to be a rate that stays, and is not reported then.
    #[must_use]
    pub fn going(&self) -> Option<Burst<K>> {
        let burst = self.burst(self.going?..self.judged)?;
        Some(Burst { end_ns: None, ..burst })
    }

    /// Judges the next second; the burst that is over with it.
    fn judge(&mut self) -> Option<Burst<K>> {
        let second = self.judged;
        self.judged += 1;
        let first = self.going.unwrap_or(second);
        let usual = usual(&self.opened, self.minute_before(first))?;
        let opened = f64::from(self.opened.get(second));
        if opened > TIMES * usual && opened >= usual + FEWEST {
            self.going = Some(first);
            if self.judged - first >= MINUTE / 2 {
                self.going = None;
                self.since = first;
            }
            return None;
        }
        self.going.take().and_then(|first| self.burst(first..second))
    }

    /// The seconds of the minute before `first`.
    fn minute_before(&self, first: u64) -> Range<u64> {
        self.since.max(first.saturating_sub(MINUTE))..first
    }

    /// The burst of these `seconds`: their openings over the usual rate.
    fn burst(&self, seconds: Range<u64>) -> Option<Burst<K>> {
        let before = self.minute_before(seconds.start);
        let usual = usual(&self.opened, before.clone())?;
        let over = |second| f64::from(self.opened.get(second)) - usual;
        let total = seconds.clone().map(over).sum();
        let most_of = |owners: &Owners<K>| owners.most_of(total, seconds.clone(), before.clone());
        Some(Burst {
            start_ns: seconds.start.saturating_mul(SECOND_NS),
            end_ns: Some(seconds.end.saturating_mul(SECOND_NS)),
            opened: rounded(total),
            peak_per_s: rounded(seconds.clone().map(over).fold(0.0, f64::max)),
            owner: most_of(&self.owners).or_else(|| most_of(&self.groups)),
        })
    }
}

/// The median of what was opened in each of `seconds`; `None` where they are too few to know.
fn usual(opened: &Seconds, seconds: Range<u64>) -> Option<f64> {
    let mut counts: Vec<u32> = seconds.map(|second| opened.get(second)).collect();
    counts.sort_unstable();
    let at = |index: usize| counts.get(index).copied().map(f64::from);
    let middle = counts.len() / 2;
    let known = counts.len() as u64 >= KNOWN_FROM;
    let below = at(middle.wrapping_sub(1 - counts.len() % 2));
    Some(f64::midpoint(at(middle)?, below?)).filter(|_| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_rng::TestRng;

    const S: u64 = 1_000_000_000;

    /// From 1000 on those of one thousand are alike.
    impl Grouped for u32 {
        fn group(&self) -> Self {
            if *self < 1000 { *self } else { self / 1000 * 1000 }
        }
    }

    impl Grouped for u64 {
        fn group(&self) -> Self {
            *self
        }
    }

    /// Openings: when (ns), and by whom.
    #[derive(Default)]
    struct Openings(Vec<(u64, u32)>);

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times of a test")]
    fn ns(seconds: f64) -> u64 {
        (seconds * 1e9) as u64
    }

    impl Openings {
        /// `count` in `length` seconds from `start` on, evenly.
        fn burst(mut self, owner: u32, count: u32, start: f64, length: f64) -> Self {
            let each = length / f64::from(count);
            self.0
                .extend((0..count).map(|event| (ns(start + f64::from(event) * each), owner)));
            self
        }

        /// `rate` a second from `start` to `end`, at random times.
        fn chance(mut self, owner: u32, rate: f64, start: f64, end: f64, seed: u64) -> Self {
            let mut rng = TestRng(seed);
            let mut time = start + rng.wait(rate);
            while time < end {
                self.0.push((ns(time), owner));
                time += rng.wait(rate);
            }
            self
        }

        /// Watches from 0 to `end`, s, with a tick every `tick` ms; the bursts that ended, and for how many ticks one went on.
        fn watch(mut self, end: u64, tick: u64) -> (Vec<Burst<u32>>, usize) {
            self.0.sort_unstable();
            let mut bursts = BurstTracker::new(0);
            let mut openings = self.0.into_iter().peekable();
            let (mut ended, mut went_on) = (Vec::new(), 0);
            for now in (0..end * 1000).step_by(usize::try_from(tick).unwrap()) {
                let now = now * 1_000_000;
                while let Some((time, owner)) = openings.next_if(|&(time, _)| time < now) {
                    bursts.opened(owner, time);
                }
                ended.extend(bursts.tick(now));
                went_on += usize::from(bursts.going().is_some());
            }
            (ended, went_on)
        }
    }

    #[test]
    fn three_thousand_in_a_quiet_minute_are_one_burst() {
        for length in [0.05, 0.3, 1.0, 3.0, 10.0, 28.0] {
            for (background, tick) in [(0.0, 1000), (0.0, 100), (1.0, 1000), (1.0, 10_000)] {
                let mut openings = Openings::default().burst(7, 3000, 40.123, length);
                if background > 0.0 {
                    openings = openings.chance(1, background, 0.0, 100.0, 3);
                }
                let (bursts, _) = openings.watch(100, tick);
                assert_eq!(bursts.len(), 1, "{length} s: {bursts:?}");
                let burst = &bursts[0];
                // At its ends a second may have fewer than a hundred.
                assert!((2800..=3030).contains(&burst.opened), "{length} s: {burst:?}");
                assert_eq!(burst.owner, Some(7));
                let (start, end) = (
                    burst.start_ns.abs_diff(ns(40.123)),
                    burst.end_ns.unwrap().abs_diff(ns(40.123 + length)),
                );
                assert!(start < S && end < S, "{length}: {burst:?}");
            }
        }
    }

    #[test]
    fn in_silence_it_is_exact() {
        let (bursts, went_on) = Openings::default().burst(7, 3000, 40.0, 3.0).watch(100, 100);
        let want = Burst {
            start_ns: 40 * S,
            end_ns: Some(43 * S),
            opened: 3000,
            peak_per_s: 1000,
            owner: Some(7),
        };
        assert_eq!(bursts, [want]);
        // Until each second has been over for one.
        assert_eq!(went_on, 30);
    }

    #[test]
    fn a_steady_rate_is_none() {
        let even = Openings::default().burst(1, 200 * 300, 0.0, 300.0);
        assert_eq!(even.watch(300, 1000), (vec![], 0));
        for (rate, seconds) in [(2.0, 3600u32), (20.0, 1200), (200.0, 1200), (3000.0, 180)] {
            let end = f64::from(seconds);
            let chance = Openings::default().chance(1, rate, 0.0, end, 11);
            assert_eq!(chance.watch(u64::from(seconds), 1000), (vec![], 0), "{rate}/s");
        }
    }

    #[test]
    fn a_second_is_one_with_more_than_twice_the_usual_and_a_hundred_more() {
        for (usual, opened, is_burst) in [
            (0, 99, false),
            (0, 100, true),
            (50, 149, false),
            (50, 150, true),
            (400, 800, false),
            (400, 801, true),
        ] {
            let openings = Openings::default()
                .burst(1, usual * 30, 0.0, 30.0)
                .burst(1, opened, 30.0, 1.0);
            let (bursts, _) = openings.burst(1, usual * 30, 31.0, 30.0).watch(60, 1000);
            let over: Vec<u64> = bursts.iter().map(|burst| burst.opened).collect();
            let want = if is_burst {
                vec![u64::from(opened - usual)]
            } else {
                vec![]
            };
            assert_eq!(over, want, "{opened} where {usual} are usual");
        }
    }

    #[test]
    fn a_rate_that_rises_and_stays_is_withdrawn() {
        for before in [0.001, 2.0, 150.0] {
            let (bursts, went_on) = Openings::default()
                .chance(1, before, 0.0, 80.5, 1)
                .chance(2, 400.0, 80.5, 400.0, 2)
                .watch(400, 1000);
            assert_eq!(bursts, [], "{before}/s before");
            assert_eq!(went_on, 29, "{before}/s before");
        }
    }

    #[test]
    fn a_rate_that_rises_slowly_or_falls_is_none() {
        let mut openings = Openings::default();
        for second in 0..300u32 {
            let rate = f64::from(second.min(200) + 20);
            openings = openings.chance(1, rate, f64::from(second), f64::from(second) + 1.0, u64::from(second));
        }
        let (bursts, _) = openings.watch(300, 1000);
        assert_eq!(bursts, []);
        let falls = Openings::default()
            .chance(1, 300.0, 0.0, 100.0, 1)
            .chance(1, 10.0, 100.0, 300.0, 2);
        assert_eq!(falls.watch(300, 1000), (vec![], 0));
    }

    #[test]
    fn on_top_of_a_steady_rate_the_excess_counts() {
        for (rate, seed) in [(200.0, 1), (200.0, 2), (800.0, 3)] {
            let (bursts, _) = Openings::default()
                .chance(1, rate, 0.0, 200.0, seed)
                .burst(7, 3000, 100.0, 3.0)
                .watch(200, 1000);
            assert_eq!(bursts.len(), 1, "{rate}/s: {bursts:?}");
            assert!(bursts[0].opened.abs_diff(3000) <= 150, "{rate}/s: {bursts:?}");
            // Of all that was opened meanwhile, most may be another's.
            assert_eq!(bursts[0].owner, Some(7), "{rate}/s");
        }
    }

    #[test]
    fn a_burst_after_a_rise_is_found_over_the_new_rate() {
        let (bursts, _) = Openings::default()
            .chance(1, 300.0, 60.0, 300.0, 5)
            .burst(7, 2000, 100.0, 2.0)
            .burst(8, 2000, 200.0, 2.0)
            .watch(300, 1000);
        let owners: Vec<_> = bursts.iter().map(|burst| burst.owner).collect();
        assert_eq!(owners, [Some(7), Some(8)]);
        assert!(
            bursts.iter().all(|burst| burst.opened.abs_diff(2000) <= 120),
            "{bursts:?}"
        );
    }

    #[test]
    fn bursts_a_second_apart_are_two() {
        let (bursts, _) = Openings::default()
            .burst(1, 500, 30.0, 1.0)
            .burst(1, 500, 32.0, 1.0)
            .burst(2, 500, 60.0, 0.5)
            .burst(2, 500, 61.2, 0.5)
            .watch(100, 1000);
        let counts: Vec<u64> = bursts.iter().map(|burst| burst.opened).collect();
        assert_eq!(counts, [500, 500, 1000]);
    }

    #[test]
    fn nobody_in_particular_is_no_owner() {
        let mut many = Openings::default();
        for owner in 0..3000u32 {
            many.0.push((30 * S + u64::from(owner) * 1_000_000, owner));
        }
        let (bursts, _) = many.watch(60, 1000);
        assert_eq!((bursts.len(), bursts[0].owner, bursts[0].opened), (1, None, 3000));
        let halves = Openings::default().burst(1, 500, 30.0, 1.0).burst(2, 500, 30.0, 1.0);
        assert_eq!(halves.watch(60, 1000).0[0].owner, None);
    }

    #[test]
    fn many_that_are_alike_are_an_owner_where_no_one_is() {
        let mut many = Openings::default();
        for event in 0..3000u32 {
            let owner = if event % 3 == 0 {
                event % 900
            } else {
                1000 + event % 1000
            };
            many.0.push((30 * S + u64::from(event) * 1_000_000, owner));
        }
        let (bursts, _) = many.watch(60, 1000);
        assert_eq!((bursts.len(), bursts[0].owner, bursts[0].opened), (1, Some(1000), 3000));
    }

    #[test]
    fn at_first_nothing_is_known() {
        let (bursts, went_on) = Openings::default().burst(1, 3000, 3.0, 2.0).watch(60, 1000);
        assert_eq!((bursts, went_on), (vec![], 0));
    }

    #[test]
    fn events_may_be_a_second_late() {
        let mut bursts = BurstTracker::<u32>::new(0);
        for second in 0..=31 {
            assert_eq!((bursts.tick(second * S), bursts.going()), (vec![], None));
        }
        for event in 0..1000 {
            bursts.opened(1, 30 * S + event * S / 1000);
        }
        assert_eq!(bursts.tick(32 * S), []);
        assert_eq!(bursts.going().unwrap().opened, 1000);
        let ended = bursts.tick(33 * S);
        assert_eq!((ended.len(), ended[0].opened, bursts.going()), (1, 1000, None));
    }

    #[test]
    fn any_order_and_any_clock_is_survived() {
        let mut rng = TestRng(3);
        let times = [0, 1, S, 100 * S, 101 * S, 150 * S, 1000 * S, u64::MAX - S, u64::MAX];
        let mut bursts = BurstTracker::new(u64::MAX);
        for _ in 0..3000 {
            let bits = rng.next();
            let time = times[usize::try_from(bits % 9).unwrap()];
            match bits >> 16 & 3 {
                0 => drop(bursts.tick(time)),
                1 => drop(bursts.going()),
                _ => (0..bits >> 40 & 255).for_each(|event| bursts.opened(bits >> 60, time.saturating_add(event))),
            }
        }
        // With a clock that goes on, all is well again.
        bursts.opened(1, u64::MAX);
        for second in 0..20 {
            bursts.tick((200 + second) * S);
        }
        for event in 0..1000 {
            bursts.opened(1, 220 * S + event * 1000);
        }
        let ended: Vec<_> = (220..230).flat_map(|second| bursts.tick(second * S)).collect();
        assert_eq!((ended.len(), ended[0].opened), (1, 1000));
    }

    #[test]
    fn after_a_pause_watching_begins_anew() {
        let mut bursts = BurstTracker::<u32>::new(0);
        for second in 0..30 {
            bursts.tick(second * S);
        }
        for event in 0..1000 {
            bursts.opened(1, 500 * S + event);
        }
        assert_eq!(bursts.tick(501 * S), []);
        assert_eq!(bursts.going(), None);
    }
}
