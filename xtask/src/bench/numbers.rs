//! Medians, and how far the samples scatter around them.

/// What a row of samples comes to. Without samples everything is NaN: unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct SampleStats {
    /// The middle one.
    pub(super) median: f64,
    /// How far from it the samples are, in the middle; the noise.
    pub(super) mad: f64,
    /// The least.
    pub(super) min: f64,
    /// The largest.
    pub(super) max: f64,
}

impl SampleStats {
    /// Sums up `samples`.
    pub(super) fn from_samples(samples: &[f64]) -> Self {
        let median = median(samples);
        let distances: Vec<f64> = samples.iter().map(|sample| (sample - median).abs()).collect();
        Self {
            median,
            mad: self::median(&distances),
            min: samples.iter().copied().fold(f64::NAN, f64::min),
            max: samples.iter().copied().fold(f64::NAN, f64::max),
        }
    }
}

/// The middle one of `samples`, or between the two in the middle; NaN where there is none.
pub(super) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.as_slice() {
        [] => f64::NAN,
        [.., _] if sorted.len() % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The range that has the median of what `samples` were taken from in it, with 98 % confidence; NaN where they are too few for that.
///
/// Each sample is above that median or below it with equal chances, whatever the noise looks like. So it is rare that no sample but the
/// least is below it.
pub(super) fn median_range(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len();
    // The chance that exactly so many of the samples are below the median, and that at most so many are.
    let mut exactly = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let (mut at_most, mut below) = (exactly, 0);
    let mut range = (f64::NAN, f64::NAN);
    while at_most <= 0.01 && below < count {
        range = (sorted[below], sorted[count - 1 - below]);
        exactly *= float((count - below) as u64) / float((below + 1) as u64);
        below += 1;
        at_most += exactly;
    }
    range
}

/// Sample by sample, what `combine` makes of the two: both were taken in the same round.
pub(super) fn paired(one: &[f64], other: &[f64], combine: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    one.iter()
        .zip(other)
        .map(|(&one, &other)| combine(one, other))
        .collect()
}

/// `number`, for arithmetic with samples.
#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^53")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::{SampleStats, median, median_range, paired};

    #[track_caller]
    fn assert_same(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} is not {other}");
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_same(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_same(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_same(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn one_wild_sample_moves_neither_the_median_nor_the_noise() {
        let summary = SampleStats::from_samples(&[10.0, 11.0, 12.0, 11.0, 900.0]);
        assert_same(summary.median, 11.0);
        assert_same(summary.mad, 1.0);
        assert_same(summary.min, 10.0);
        assert_same(summary.max, 900.0);
        assert!(SampleStats::from_samples(&[]).max.is_nan());
    }

    #[test]
    fn the_range_of_a_median_leaves_out_what_may_be_luck() {
        let samples: Vec<f64> = (1..=11).map(f64::from).collect();
        let (low, high) = median_range(&samples);
        assert_same(low, 2.0);
        assert_same(high, 10.0);
        let samples: Vec<f64> = (1..=25).map(f64::from).collect();
        assert_same(median_range(&samples).0, 7.0);
        assert_same(median_range(&samples[..7]).0, 1.0);
        assert!(median_range(&samples[..6]).0.is_nan());
        assert!(median_range(&[]).0.is_nan());
    }

    #[test]
    fn rounds_are_compared_with_themselves() {
        let ratios = paired(&[10.0, 40.0], &[5.0, 20.0, 1.0], |one, other| one / other);
        assert_eq!(ratios.len(), 2);
        assert_same(ratios[0], 2.0);
        assert_same(ratios[1], 2.0);
    }
}
