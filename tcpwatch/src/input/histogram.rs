//! How a length of time is distributed: in powers of two, as the kernel side counts it.

pub use tcpwatch_common::histogram::{BUCKETS, bucket};

/// The least value `bucket` counts, ns.
#[must_use]
pub const fn least(bucket: usize) -> u64 {
    match bucket {
        0 => 0,
        1..BUCKETS => 1 << (bucket - 1),
        _ => 1 << (BUCKETS - 2),
    }
}

/// The greatest value `bucket` counts, ns: `2^bucket - 1`; the last bucket has no end.
#[must_use]
pub const fn greatest(bucket: usize) -> u64 {
    if bucket < BUCKETS - 1 {
        (1 << bucket) - 1
    } else {
        u64::MAX
    }
}

/// One bucket of a histogram, as machine output and views show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The least value counted, ns.
    pub from_ns: u64,
    /// Where the next bucket begins, ns: `2^i`; `u64::MAX` for the last, which has no end.
    ///
    /// Every value counted is below it, so `value <= le_ns` holds, and that is what Prometheus means by `le`. A value of
    /// exactly `2^i` ns is in the next bucket though: a cumulative count by `le` leaves those out, one nanosecond's worth.
    pub le_ns: u64,
    /// Values in this bucket alone, not cumulative.
    pub count: u64,
}

/// Lengths of time, counted by [`bucket`].
///
/// Counts stay at their largest where they would overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    /// In the topmost bucket that is not empty; 0 where all are.
    max: u64,
    max_is_exact: bool,
    unknown: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new([0; BUCKETS], 0, 0)
    }
}

/// The topmost bucket that counted something.
fn top(buckets: &[u64; BUCKETS]) -> Option<usize> {
    buckets.iter().rposition(|&count| count > 0)
}

impl Histogram {
    /// What the kernel side counted: values by [`bucket`], the longest of them (ns), and those whose start was not seen.
    ///
    /// Reading does not stop the counting. Where `max_ns` is not in the topmost bucket that counted something, one was read
    /// before the other moved, and that bucket's end is taken, as what the longest is at most.
    #[must_use]
    pub fn new(buckets: [u64; BUCKETS], max_ns: u64, unknown: u64) -> Self {
        let (max, max_is_exact) = match top(&buckets) {
            None => (0, true),
            Some(top) if bucket(max_ns) == top => (max_ns, true),
            Some(top) => (greatest(top), false),
        };
        Self {
            buckets,
            max,
            max_is_exact,
            unknown,
        }
    }

    /// Counts a length of `ns`.
    pub fn record(&mut self, ns: u64) {
        if ns >= self.max {
            self.max = ns;
            self.max_is_exact = true;
        }
        let count = &mut self.buckets[bucket(ns)];
        *count = count.saturating_add(1);
    }

    /// Counts one whose start was not seen, so that its length is not known.
    pub fn record_unknown(&mut self) {
        self.unknown = self.unknown.saturating_add(1);
    }

    /// Values counted, the unknown ones not among them.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Those whose start was not seen.
    #[must_use]
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The longest, ns, or what it is at most (see [`Self::max_is_exact`]); `None` where nothing was counted.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        top(&self.buckets).map(|_| self.max)
    }

    /// Whether [`Self::max`] was measured; else the longest is no longer than that, and in the same bucket.
    #[must_use]
    pub const fn max_is_exact(&self) -> bool {
        self.max_is_exact
    }

    /// Adds what `other` counted.
    pub fn merge(&mut self, other: &Self) {
        // What an empty one says of its longest is nothing.
        if other.count() > 0 && (self.count() == 0 || other.max >= self.max) {
            // Of two that agree, an exact one settles it.
            let settled = self.max_is_exact && self.count() > 0 && other.max == self.max;
            self.max_is_exact = other.max_is_exact || settled;
            self.max = other.max;
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(theirs);
        }
        self.unknown = self.unknown.saturating_add(other.unknown);
    }

    /// What was counted after `earlier`, of two readings of one histogram that only grows.
    ///
    /// The longest since then is the later reading's longest only where the topmost bucket that grew contains it; else it is
    /// somewhere in that bucket, and the bucket's end is what it is at most. It is exact where the longest itself grew.
    /// A bucket that shrank counts nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (now, then) in buckets.iter_mut().zip(earlier.buckets) {
            *now = now.saturating_sub(then);
        }
        let mut since = Self::new(buckets, self.max, self.unknown.saturating_sub(earlier.unknown));
        let is_new = self.max > earlier.max || earlier.count() == 0;
        since.max_is_exact &= self.max_is_exact && is_new || since.count() == 0;
        since
    }

    /// The length that a share `p` (0 to 1) of the values does not exceed, ns: estimated, never above [`Self::max`].
    ///
    /// The value of that rank is exact where it is the longest, and else placed in its bucket as if the bucket's values were
    /// spread evenly over the logarithm of their length: it is in the right bucket, so off by less than a factor of 2.
    /// `None` where nothing was counted, or `p` is no number.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank out of more than 2^53 values may be off by a few; a product of two that are not negative is not"
    )]
    pub fn quantile(&self, p: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 || p.is_nan() {
            return None;
        }
        let rank = ((p.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut below = 0u64;
        for (bucket, &within) in self.buckets.iter().enumerate() {
            if rank - below <= within {
                return Some(self.value(bucket, rank - below, within));
            }
            below = below.saturating_add(within);
        }
        Some(self.max)
    }

    /// The value of `rank` (from 1) among the `count` values of `bucket`, estimated.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate has fewer digits than 53 bits, and is between two numbers that fit"
    )]
    fn value(&self, bucket: usize, rank: u64, count: u64) -> u64 {
        let least = least(bucket);
        let (greatest, share) = if self::bucket(self.max) != bucket {
            (greatest(bucket), (rank as f64 - 0.5) / count as f64)
        } else if rank < count {
            (self.max, rank as f64 / count as f64)
        } else {
            return self.max;
        };
        let value = least as f64 * (greatest as f64 / least.max(1) as f64).powf(share);
        (value as u64).clamp(least, greatest)
    }

    /// Every bucket, the shortest first.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.buckets.iter().enumerate().map(|(index, &count)| Bucket {
            from_ns: least(index),
            le_ns: greatest(index).saturating_add(1),
            count,
        })
    }

    /// The buckets from the first to the last that counted something, empty ones between them included.
    pub fn occupied(&self) -> impl Iterator<Item = Bucket> + '_ {
        let first = self.buckets.iter().position(|&count| count > 0).unwrap_or(0);
        let end = top(&self.buckets).map_or(0, |top| top + 1);
        self.buckets().take(end).skip(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &ns in values {
            histogram.record(ns);
        }
        histogram
    }

    fn with_buckets(counts: &[(usize, u64)], max: u64) -> Histogram {
        let mut buckets = [0; BUCKETS];
        for &(index, count) in counts {
            buckets[index] = count;
        }
        Histogram::new(buckets, max, 0)
    }

    #[test]
    fn every_value_has_one_bucket() {
        for (ns, index) in [
            (0, 0),
            (1, 1),
            (2, 2),
            (3, 2),
            (4, 3),
            (1023, 10),
            (1024, 11),
            ((1 << 62) - 1, 62),
            (1 << 62, 63),
            (1 << 63, 63),
            (u64::MAX, 63),
        ] {
            assert_eq!(bucket(ns), index, "{ns}");
        }
        for index in 0..BUCKETS {
            assert_eq!((bucket(least(index)), bucket(greatest(index))), (index, index));
            assert!(index == 0 || least(index) == greatest(index - 1) + 1);
        }
        // Beyond the last there is none, and asking is no harm.
        assert_eq!((least(64), greatest(64)), (least(63), greatest(63)));
        const { assert!(bucket(1500) == 11) };
    }

    #[test]
    fn buckets_end_where_the_next_begins() {
        let histogram = of(&[0, 700, 1000, 1023, 1024, u64::MAX]);
        let all: Vec<Bucket> = histogram.buckets().collect();
        assert_eq!(all.len(), BUCKETS);
        assert!(all.windows(2).all(|pair| pair[0].le_ns == pair[1].from_ns));
        let bucket = |from_ns, le_ns, count| Bucket { from_ns, le_ns, count };
        assert_eq!(all[0], bucket(0, 1, 1));
        assert_eq!(all[10], bucket(512, 1024, 3));
        assert_eq!(all[11], bucket(1024, 2048, 1));
        assert_eq!(all[63], bucket(1 << 62, u64::MAX, 1));
        assert_eq!(all.iter().map(|bucket| bucket.count).sum::<u64>(), histogram.count());
    }

    #[test]
    fn occupied_ones_run_from_the_first_to_the_last() {
        let counts: Vec<(u64, u64)> = of(&[5, 40])
            .occupied()
            .map(|bucket| (bucket.from_ns, bucket.count))
            .collect();
        assert_eq!(counts, [(4, 1), (8, 0), (16, 0), (32, 1)]);
        assert_eq!(Histogram::default().occupied().count(), 0);
        assert_eq!(of(&[0]).occupied().count(), 1);
    }

    #[test]
    fn nothing_has_no_quantiles() {
        let mut nothing = Histogram::default();
        nothing.record_unknown();
        assert_eq!((nothing.quantile(0.5), nothing.max(), nothing.count()), (None, None, 0));
        assert_eq!(nothing.unknown(), 1);
        assert_eq!(of(&[1]).quantile(f64::NAN), None);
    }

    #[test]
    fn one_value_is_all_its_quantiles() {
        for ns in [0, 1, 1000, 1_234_567, u64::MAX] {
            let one = of(&[ns]);
            for p in [-1.0, 0.0, 0.5, 0.99, 1.0, 2.0] {
                assert_eq!(one.quantile(p), Some(ns));
            }
        }
    }

    #[test]
    fn quantiles_are_in_the_right_bucket_rise_and_never_pass_the_longest() {
        let mut values: Vec<u64> = (0..5000u64).map(|i| (i * i * 7919) % 90_000_000).collect();
        values.push(0);
        let histogram = of(&values);
        values.sort_unstable();
        let mut before = 0;
        for permille in 1..=1000u32 {
            let p = f64::from(permille) / 1000.0;
            let estimate = histogram.quantile(p).unwrap();
            let rank = (values.len() * permille as usize).div_ceil(1000);
            assert_eq!(bucket(estimate), bucket(values[rank - 1]), "{p}");
            assert!(estimate >= before && estimate <= histogram.max().unwrap());
            before = estimate;
        }
        assert_eq!(before, *values.last().unwrap());
    }

    #[test]
    fn values_spread_over_the_logarithm_are_found_within_a_few_percent() {
        let mut values: Vec<u64> = (0..10_000i32)
            .map(|i| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 us to 1 s")]
                let ns = 10f64.powf(3.0 + 6.0 * f64::from(i) / 10_000.0) as u64;
                ns
            })
            .collect();
        let histogram = of(&values);
        values.sort_unstable();
        for (p, rank) in [(0.5, 5000), (0.9, 9000), (0.99, 9900)] {
            let (estimate, exact) = (histogram.quantile(p).unwrap(), values[rank - 1]);
            assert!(estimate.abs_diff(exact) * 100 < exact * 3, "{p}: {estimate}, {exact}");
        }
    }

    #[test]
    fn merging_is_as_counting_together() {
        let mut one = of(&[3, 900]);
        let mut two = of(&[5, 70_000]);
        two.record_unknown();
        let mut together = of(&[3, 900, 5, 70_000]);
        together.record_unknown();
        one.merge(&two);
        assert_eq!(one, together);
        one.merge(&Histogram::default());
        assert_eq!(one, together);
        let mut empty = Histogram::default();
        empty.merge(&one);
        assert_eq!(empty, together);
    }

    #[test]
    fn a_bound_stays_a_bound_until_something_longer_is_measured() {
        let mut bound = with_buckets(&[(10, 1)], 0);
        assert_eq!((bound.max(), bound.max_is_exact()), (Some(1023), false));
        bound.merge(&of(&[600]));
        assert!(!bound.max_is_exact());
        bound.merge(&of(&[1023]));
        assert!(bound.max_is_exact());
        bound.merge(&with_buckets(&[(10, 1)], 0));
        assert_eq!((bound.max(), bound.max_is_exact()), (Some(1023), true));
        bound.merge(&with_buckets(&[(12, 1)], 0));
        assert_eq!((bound.max(), bound.max_is_exact()), (Some(4095), false));
        bound.record(5000);
        assert_eq!((bound.max(), bound.max_is_exact()), (Some(5000), true));
    }

    #[test]
    fn a_difference_has_the_values_since() {
        let earlier = of(&[100, 900]);
        let mut later = earlier;
        later.record(5000);
        later.record(110);
        later.record_unknown();
        let since = later.since(&earlier);
        assert_eq!(
            (since.count(), since.max(), since.max_is_exact()),
            (2, Some(5000), true)
        );
        assert_eq!(since.unknown(), 1);
        assert_eq!(since.quantile(0.1).map(bucket), Some(bucket(110)));
        // Of a first reading everything is since.
        assert_eq!(later.since(&Histogram::default()), later);
        assert_eq!(later.since(&later), Histogram::default());
    }

    #[test]
    fn the_longest_of_a_difference_is_a_bound_where_it_may_be_older() {
        let earlier = of(&[100, 5000]);
        let mut later = earlier;
        later.record(600);
        let since = later.since(&earlier);
        assert_eq!((since.max(), since.max_is_exact()), (Some(1023), false));
        assert!(since.quantile(0.99).unwrap() <= 1023);
        // The bucket of the longest grew, the longest did not: it may be the old one.
        later.record(4500);
        let since = later.since(&earlier);
        assert_eq!((since.max(), since.max_is_exact()), (Some(5000), false));
    }

    #[test]
    fn readings_that_do_not_fit_together_are_survived() {
        // The longest was read before, or after, the bucket it is in.
        assert_eq!(with_buckets(&[(4, 2)], 900).max(), Some(15));
        assert_eq!(with_buckets(&[(20, 2)], 900).max(), Some((1 << 20) - 1));
        assert_eq!(with_buckets(&[(20, 2)], 900).quantile(1.0), Some((1 << 20) - 1));
        assert_eq!(with_buckets(&[], 900).max(), None);
        let (small, large) = (of(&[5]), of(&[5, 5, 80]));
        assert_eq!(small.since(&large), Histogram::default());
        let full = with_buckets(&[(3, u64::MAX), (5, u64::MAX)], 31);
        let mut twice = full;
        twice.merge(&full);
        twice.record(6);
        assert_eq!(twice.count(), u64::MAX);
        assert_eq!(
            (twice.quantile(0.5).map(bucket), twice.quantile(0.0)),
            (Some(3), Some(4))
        );
        assert!(twice.quantile(1.0).unwrap() <= 31);
    }
}
