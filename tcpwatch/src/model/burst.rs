//! Bursts: many connections opened in a short while, over what is usual.
//!
//! What is usual is the median of the last minute's seconds, and how far seconds differ from it is the median of their
//! distances, or what chance alone makes of that rate, whichever is more: a burst in that minute, or a few, moves neither. A
//! burst begins when a second has more than the usual by six such distances, and by 30; it is over when a second is back
//! within half of that. Its ends are then put where most connections over the usual are between them, to 10 ms, and what it
//! counts is that excess; fewer than 100 are no burst. What stays for 30 s is not one either: it would be most of the minute,
//! and so the usual, by then. So a rate that rises and stays is withdrawn after 30 s and never reported, and until then it is
//! a burst that goes on: sooner nobody can know.

mod baseline;
mod owners;

use std::hash::Hash;

use self::baseline::Baseline;
use self::owners::Owners;
use super::time_buckets::TimeBuckets;

/// The fewest connections over the usual that are called a burst.
pub const FEWEST: u64 = 100;

const SLOT_NS: u64 = 10_000_000;

/// Openings in slots of 10 ms: the minute before a burst may have to be known until it is over.
type Opened = TimeBuckets<SLOT_NS, KEPT>;

/// Slots a second.
const SECOND: u64 = 100;

const KEPT: u64 = 64 * SECOND;

/// Seconds of which the usual is taken.
const MINUTE: u64 = 60;

/// Slots after which it is asked again whether there is a burst.
const STEP: u64 = SECOND / 10;

/// Slots after which what began as a burst is the usual.
const LONGEST: u64 = 30 * SECOND;

/// Many connections, opened in a short while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst<K> {
    /// When it began: monotonic, ns, to 10 ms.
    pub start_ns: u64,
    /// When it ended; `None` while it goes on.
    pub end_ns: Option<u64>,
    /// Connections opened in it, over the usual.
    pub opened: u64,
    /// The most of them in a second.
    pub peak_per_s: u64,
    /// Who opened more than half of them; `None` where nobody did.
    pub owner: Option<K>,
}

/// A burst that goes on.
#[derive(Clone, Copy, Debug)]
struct Going {
    /// The slot it did not begin before.
    from: u64,
    /// The end of the second it was seen in first.
    seen: u64,
    /// The end of the last second that was over the usual.
    hot: u64,
    /// The usual, as it was then.
    level: Baseline,
}

/// Finds bursts of openings, each with an owner of type `K`.
///
/// Times are of one monotonic clock, ns; events may come in any order, and are counted if they are no older than a minute.
#[derive(Debug)]
pub struct Bursts<K> {
    opened: Opened,
    owners: Owners<K>,
    /// Those alike together: where no one opened most of a burst, they may have.
    groups: Owners<K>,
    /// Slots before this one were judged.
    judged: u64,
    /// What was before this slot is not the usual.
    level_from: u64,
    level: Option<Baseline>,
    going: Option<Going>,
    /// The last burst ended before this slot.
    ended: u64,
}

/// Something that is one of several alike.
pub trait Group: Copy + Eq + Hash {
    /// All that are like it, as one.
    #[must_use]
    fn group(self) -> Self;
}

impl<K: Group> Bursts<K> {
    /// Watching begins at `monotonic_ns`; what is usual is known ten seconds later, and there is no burst before.
    #[must_use]
    pub fn new(monotonic_ns: u64) -> Self {
        let judged = whole_steps(monotonic_ns);
        Self {
            opened: Opened::default(),
            owners: Owners::default(),
            groups: Owners::default(),
            judged,
            level_from: judged,
            level: None,
            going: None,
            ended: 0,
        }
    }

    /// `owner` opened a connection.
    pub fn opened(&mut self, owner: K, monotonic_ns: u64) {
        self.opened.add(monotonic_ns);
        self.owners.add(owner, monotonic_ns);
        self.groups.add(owner.group(), monotonic_ns);
    }

    /// Judges what was opened until `monotonic_ns`; the bursts that ended, each once. To be called every second or so.
    ///
    /// After a pause of more than a minute, and when the clock was set back by more, watching begins anew.
    pub fn tick(&mut self, monotonic_ns: u64) -> Vec<Burst<K>> {
        let now = whole_steps(monotonic_ns);
        let latest = self.judged.max(self.opened.newest());
        if now > self.judged.saturating_add(KEPT) || latest > now.saturating_add(KEPT) {
            *self = Self::new(monotonic_ns);
        }
        let mut ended = Vec::new();
        while self.judged < now {
            self.judged += STEP;
            ended.extend(self.judge(self.judged));
        }
        ended
    }

    /// The burst that goes on, as far as it went by the last tick.
    ///
    /// It may still turn out to be a rate that stays, and is not reported then.
    #[must_use]
    pub fn going(&self) -> Option<Burst<K>> {
        let burst = self.burst(&self.going?, self.judged)?;
        Some(Burst { end_ns: None, ..burst })
    }

    /// Judges the second that ends before the slot `at`; the burst that is over with it.
    fn judge(&mut self, at: u64) -> Option<Burst<K>> {
        let second = self.opened.sum(at.saturating_sub(SECOND), at);
        let Some(going) = &mut self.going else {
            if at.is_multiple_of(SECOND) {
                self.level = self.usual(at.saturating_sub(SECOND));
            }
            let level = self.level.filter(|level| level.is_burst(second))?;
            self.going = Some(Going {
                from: at.saturating_sub(2 * SECOND).max(self.level_from).max(self.ended),
                seen: at,
                hot: at,
                level,
            });
            return None;
        };
        if going.level.is_hot(second) {
            going.hot = at;
        }
        let going = *going;
        if at - going.seen >= LONGEST {
            // It is the usual now; the second it was seen in is partly from before.
            self.going = None;
            self.level_from = going.seen;
            self.level = self.usual(at);
        } else if at - going.hot >= SECOND {
            self.going = None;
            let burst = self.burst(&going, at);
            // What it counted is in no other.
            self.ended = burst
                .as_ref()
                .and_then(|burst| burst.end_ns)
                .map_or(self.ended, Opened::slot);
            return burst;
        }
        None
    }

    /// What is usual, of the minute that ends before the slot `end`.
    fn usual(&self, end: u64) -> Option<Baseline> {
        let seconds = (1..=MINUTE).map_while(|back| {
            let first = end.checked_sub(back * SECOND)?;
            (first >= self.level_from).then(|| self.opened.sum(first, first + SECOND))
        });
        Baseline::of(seconds.collect())
    }

    /// What `going` is until the slot `end`, if it is a burst.
    fn burst(&self, going: &Going, end: u64) -> Option<Burst<K>> {
        let slots: Vec<u32> = (going.from..end).map(|slot| self.opened.get(slot)).collect();
        let (first, last) = going.level.extent(&slots, SECOND)?;
        let (total, peak) = going.level.excess(slots.get(first..=last)?, SECOND);
        let (first, end) = (going.from + first as u64, going.from + last as u64 + 1);
        let burst = Burst {
            start_ns: first.saturating_mul(SLOT_NS),
            end_ns: Some(end.saturating_mul(SLOT_NS)),
            opened: total,
            peak_per_s: peak,
            owner: None,
        };
        let seconds = first / SECOND..end.div_ceil(SECOND);
        let from = self.level_from.div_ceil(SECOND);
        let most = |owners: &Owners<K>| owners.most_of(total, seconds.clone(), from);
        (total >= FEWEST).then(|| Burst {
            owner: most(&self.owners).or_else(|| most(&self.groups)),
            ..burst
        })
    }
}

/// The slot of `monotonic_ns`, or the latest before it that a step ends with.
fn whole_steps(monotonic_ns: u64) -> u64 {
    let slot = Opened::slot(monotonic_ns);
    slot - slot % STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::test_rng::TestRng;

    const S: u64 = 1_000_000_000;

    /// From 1000 on those of one thousand are alike.
    impl Group for u32 {
        fn group(self) -> Self {
            if self < 1000 { self } else { self / 1000 * 1000 }
        }
    }

    impl Group for u64 {
        fn group(self) -> Self {
            self
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
            let mut bursts = Bursts::new(0);
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

    fn is_about(burst: &Burst<u32>, start: f64, end: f64, within: f64) -> bool {
        let within = ns(within);
        burst.start_ns.abs_diff(ns(start)) <= within && burst.end_ns.unwrap().abs_diff(ns(end)) <= within
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
                assert!(bursts[0].opened.abs_diff(3000) <= 30, "{length} s: {bursts:?}");
                assert_eq!(bursts[0].owner, Some(7));
                assert!(
                    is_about(&bursts[0], 40.123, 40.123 + length, 0.1),
                    "{length}: {bursts:?}"
                );
                let peak = ns(3000.0 / length.max(1.0)) / S;
                let peak_is_right = bursts[0].peak_per_s.abs_diff(peak) <= 2 + peak / 50;
                assert!(peak_is_right, "{length}: {bursts:?}");
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
        // From when it has a hundred until it is over, which takes two seconds to know.
        assert!((48..=50).contains(&went_on), "{went_on}");
    }

    #[test]
    fn at_random_times_it_is_one_burst_too() {
        for (seed, rate) in [(1, 1000.0), (2, 300.0), (3, 110.0)] {
            let openings = Openings::default().chance(7, rate, 50.0, 50.0 + 3000.0 / rate, seed);
            let count = openings.0.len() as u64;
            let (bursts, _) = openings.watch(120, 1000);
            assert_eq!(bursts.len(), 1, "{bursts:?}");
            assert!(bursts[0].opened.abs_diff(count) <= count / 100, "{count}: {bursts:?}");
        }
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
    fn a_rate_that_rises_and_stays_is_withdrawn() {
        for before in [0.001, 2.0, 150.0] {
            let (bursts, went_on) = Openings::default()
                .chance(1, before, 0.0, 80.5, 1)
                .chance(2, 400.0, 80.5, 400.0, 2)
                .watch(400, 1000);
            assert_eq!(bursts, [], "{before}/s before");
            assert!((25..=31).contains(&went_on), "{before}/s before: {went_on} s");
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
        for (rate, seed) in [(200.0, 1), (200.0, 2), (1000.0, 3)] {
            let (bursts, _) = Openings::default()
                .chance(1, rate, 0.0, 200.0, seed)
                .burst(7, 3000, 100.25, 3.0)
                .watch(200, 1000);
            assert_eq!(bursts.len(), 1, "{rate}/s: {bursts:?}");
            assert!(bursts[0].opened.abs_diff(3000) <= 150, "{rate}/s: {bursts:?}");
            assert!(is_about(&bursts[0], 100.25, 103.25, 0.2), "{rate}/s: {bursts:?}");
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
    fn bursts_apart_are_told_apart_and_a_pause_is_not_an_end() {
        let (bursts, _) = Openings::default()
            .burst(1, 500, 30.0, 1.0)
            .burst(1, 500, 36.0, 1.0)
            .burst(2, 500, 60.0, 0.5)
            .burst(2, 500, 61.2, 0.5)
            .watch(100, 1000);
        let counts: Vec<u64> = bursts.iter().map(|burst| burst.opened).collect();
        assert_eq!(counts, [500, 500, 1000]);
    }

    #[test]
    fn few_are_no_burst_and_nobody_in_particular_is_no_owner() {
        let few = Openings::default().burst(1, 99, 30.0, 0.5);
        assert_eq!(few.watch(60, 1000), (vec![], 0));
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
    fn late_events_are_counted_until_the_burst_is_over() {
        let mut bursts = Bursts::<u32>::new(0);
        for second in 0..30 {
            bursts.tick(second * S);
        }
        for event in 0..1000 {
            bursts.opened(1, 30 * S + event * S / 2000);
        }
        assert_eq!(bursts.tick(31 * S), []);
        assert_eq!(bursts.going().unwrap().opened, 1000);
        for event in 0..500 {
            bursts.opened(1, 30 * S + event * S / 1000);
        }
        let ended: Vec<_> = (32..40).flat_map(|second| bursts.tick(second * S)).collect();
        assert_eq!((ended.len(), ended[0].opened, bursts.going()), (1, 1500, None));
    }

    #[test]
    fn any_order_and_any_clock_is_survived() {
        let mut rng = TestRng(3);
        let times = [0, 1, S, 100 * S, 101 * S, 150 * S, 1000 * S, u64::MAX - S, u64::MAX];
        let mut bursts = Bursts::new(u64::MAX);
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
        let mut bursts = Bursts::<u32>::new(0);
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
