//! A histogram of times. Its buckets are those of the BPF programs: 16 for each power of two.

pub use tcpwatch_common::histogram::{BUCKETS, bucket, greatest, least};

/// One bucket of a histogram, as machine output and views show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The shortest time in this bucket, ns.
    pub from_ns: u64,
    /// The longest time in this bucket, ns: `le` of Prometheus.
    pub le_ns: u64,
    /// Number of times in this bucket alone, not cumulative.
    pub count: u64,
}

/// Lengths of time, counted by [`bucket`].
///
/// Counts stay at their largest where they would overflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Number and count of each bucket that is not empty, in order.
    buckets: Vec<(u16, u64)>,
    unknown: u64,
}

impl Histogram {
    /// Counts a time of `ns`.
    pub fn record(&mut self, ns: u64) {
        self.add(bucket(ns), 1);
    }

    /// Counts an unknown time: its start was not seen.
    pub fn record_unknown(&mut self) {
        self.add_unknown(1);
    }

    /// Adds `count` times to a bucket. A number that is too large stands for the last bucket.
    pub fn add(&mut self, bucket: usize, count: u64) {
        if count == 0 {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer buckets")]
        let bucket = bucket.min(BUCKETS - 1) as u16;
        match self.buckets.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// Adds `count` unknown times.
    pub fn add_unknown(&mut self, count: u64) {
        self.unknown = self.unknown.saturating_add(count);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.add(usize::from(bucket), count);
        }
        self.add_unknown(other.unknown);
    }

    /// Number of known times.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, &(_, count)| sum.saturating_add(count))
    }

    /// Those whose start was not seen.
    #[must_use]
    pub const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Number of known and unknown times.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.count().saturating_add(self.unknown)
    }

    /// Number of buckets that are not empty.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.buckets.len()
    }

    /// The longest time, ns, within 3.1 %; `None` if there is no known time.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.buckets.last().map(|&(bucket, _)| middle(usize::from(bucket)))
    }

    /// The quantile `p` (0 to 1), ns, within 3.1 %. `None` if there is no known time, or `p` is not a number.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank out of more than 2^53 times may be off by a few; a product of two that are not negative is not"
    )]
    pub fn quantile(&self, p: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 || p.is_nan() {
            return None;
        }
        let rank = ((p.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut until = 0u64;
        for &(bucket, count) in &self.buckets {
            until = until.saturating_add(count);
            if rank <= until {
                return Some(middle(usize::from(bucket)));
            }
        }
        self.max()
    }

    /// The buckets that are not empty, in order.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> + '_ {
        self.buckets.iter().map(|&(bucket, count)| Bucket {
            from_ns: least(usize::from(bucket)),
            le_ns: greatest(usize::from(bucket)),
            count,
        })
    }

    /// The counts by powers of two, from the first power that is not empty to the last.
    #[must_use]
    pub fn powers(&self) -> Vec<Bucket> {
        let mut powers: Vec<Bucket> = Vec::new();
        for Bucket { from_ns, count, .. } in self.buckets() {
            while powers.last().is_none_or(|last| last.le_ns < from_ns) {
                let from_ns = match powers.last() {
                    Some(last) => last.le_ns + 1,
                    None => from_ns.checked_ilog2().map_or(0, |power| 1 << power),
                };
                powers.push(Bucket {
                    from_ns,
                    le_ns: from_ns + from_ns.saturating_sub(1),
                    count: 0,
                });
            }
            if let Some(last) = powers.last_mut() {
                last.count = last.count.saturating_add(count);
            }
        }
        powers
    }
}

/// Returns the harmonic mean of the ends of `bucket`, ns. Its relative error is the same at both ends, which is the least possible.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it has fewer digits than 53 bits, and is between two numbers that fit"
)]
fn middle(bucket: usize) -> u64 {
    let (least, greatest) = (least(bucket), greatest(bucket));
    if least == greatest {
        return least;
    }
    let (from, to) = (least as f64, greatest as f64);
    ((2.0 / (1.0 / from + 1.0 / to)).round() as u64).clamp(least, greatest)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(lengths: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for &ns in lengths {
            histogram.record(ns);
        }
        histogram
    }

    /// Lengths of any order of size alike.
    fn lengths() -> impl Strategy<Value = Vec<u64>> {
        vec((any::<u64>(), 0..64u32).prop_map(|(ns, shift)| ns >> shift), 1..200)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_thirty_second_of_the_exact_ones(mut lengths in lengths(), permille in 0..=1000u32) {
            let histogram = of(&lengths);
            lengths.sort_unstable();
            let rank = (lengths.len() * permille as usize).div_ceil(1000).max(1);
            let exact = lengths[rank - 1];
            let estimate = histogram.quantile(f64::from(permille) / 1000.0).unwrap();
            prop_assert!(estimate.abs_diff(exact) <= exact / 32, "{estimate} and {exact}");
            prop_assert!(histogram.max().unwrap() >= estimate);
        }

        #[test]
        fn merging_is_as_counting_together(one in lengths(), two in lengths()) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(merged, of(&[one, two].concat()));
        }

        #[test]
        fn powers_of_two_count_the_same(lengths in lengths()) {
            let histogram = of(&lengths);
            let powers = histogram.powers();
            for (at, power) in powers.iter().enumerate() {
                let within = lengths.iter().filter(|&&ns| ns >= power.from_ns && ns <= power.le_ns);
                prop_assert_eq!(power.count, within.count() as u64);
                prop_assert!(at == 0 || powers[at - 1].le_ns + 1 == power.from_ns);
                prop_assert!(power.from_ns == 0 || power.from_ns.is_power_of_two());
            }
            prop_assert_eq!(powers.iter().map(|power| power.count).sum::<u64>(), histogram.count());
        }
    }

    #[test]
    fn buckets_end_before_the_next_begins() {
        let histogram = of(&[0, 700, 703, 704, 1023, 1024, u64::MAX]);
        let bucket = |from_ns, le_ns, count| Bucket { from_ns, le_ns, count };
        let buckets: Vec<Bucket> = histogram.buckets().collect();
        assert_eq!(
            buckets,
            [
                bucket(0, 0, 1),
                bucket(672, 703, 2),
                bucket(704, 735, 1),
                bucket(992, 1023, 1),
                bucket(1024, 1087, 1),
                bucket(31 << 59, u64::MAX, 1),
            ]
        );
        assert_eq!(histogram.size(), 6);
    }

    #[test]
    fn powers_run_from_the_first_to_the_last() {
        let counts = |lengths: &[u64]| -> Vec<(u64, u64)> {
            let powers = of(lengths).powers();
            powers.iter().map(|bucket| (bucket.from_ns, bucket.count)).collect()
        };
        assert_eq!(counts(&[5, 40, 41]), [(4, 1), (8, 0), (16, 0), (32, 2)]);
        assert_eq!(counts(&[0, 3]), [(0, 1), (1, 0), (2, 1)]);
        assert_eq!(counts(&[]), []);
        assert_eq!(of(&[u64::MAX]).powers()[0].le_ns, u64::MAX);
    }

    #[test]
    fn nothing_has_no_quantiles() {
        let mut nothing = Histogram::default();
        nothing.record_unknown();
        assert_eq!((nothing.quantile(0.5), nothing.max(), nothing.count()), (None, None, 0));
        assert_eq!((nothing.unknown(), nothing.total(), nothing.size()), (1, 1, 0));
        assert_eq!(of(&[1]).quantile(f64::NAN), None);
    }

    #[test]
    fn any_number_is_survived() {
        let mut full = Histogram::default();
        full.add(3, u64::MAX);
        full.add(5, u64::MAX);
        full.add(usize::MAX, 1);
        full.add_unknown(u64::MAX);
        let mut twice = full.clone();
        twice.merge(&full);
        assert_eq!((twice.count(), twice.total()), (u64::MAX, u64::MAX));
        assert_eq!((twice.quantile(0.5), twice.quantile(-1.0)), (Some(3), Some(3)));
        assert_eq!(twice.max(), of(&[u64::MAX]).max());
    }
}
