//! What is usual, and what is over it.

/// Seconds the usual must be known from.
const SECONDS_MIN: usize = 10;

/// How many of the usual distances a second must be over the usual.
const DISTANCES: f64 = 6.0;

/// And by how many openings at least.
const MARGIN_MIN: f64 = 30.0;

/// The median of the distances from the median, times this, is the standard deviation of what is normally distributed.
const NORMAL: f64 = 1.4826;

/// Openings a second that are usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Baseline {
    /// The median of the seconds.
    per_s: f64,
    /// How far seconds usually are from it.
    distance: f64,
    /// By how much more is a burst.
    margin: f64,
}

impl Baseline {
    /// Of the openings in each of some seconds; `None` where these are too few to tell.
    pub(super) fn of(seconds: Vec<u64>) -> Option<Self> {
        if seconds.len() < SECONDS_MIN {
            return None;
        }
        let seconds: Vec<f64> = seconds.into_iter().map(number).collect();
        let per_s = median(seconds.clone());
        let distance = median(seconds.into_iter().map(|second| (second - per_s).abs()).collect());
        // Events at random times alone make a distance of the root (Poisson).
        let distance = (NORMAL * distance).max(per_s.sqrt());
        Some(Self {
            per_s,
            distance,
            margin: (DISTANCES * distance).max(MARGIN_MIN),
        })
    }

    /// Whether a second with so many is the beginning of a burst.
    pub(super) fn is_burst(&self, opened: u64) -> bool {
        number(opened) > self.per_s + self.margin
    }

    /// Whether one may be part of a burst that began.
    pub(super) fn is_hot(&self, opened: u64) -> bool {
        number(opened) > self.per_s + self.margin / 2.0
    }

    /// The first and the last of `slots`, `per_second` of them a second, between which most is over the usual.
    ///
    /// A slot costs the usual and half of the margin, so that what is at the ends has to be worth its time. Where the usual
    /// itself comes and goes by chance, some of it may seem to: then a slot costs a quarter of the burst, up to what chance
    /// never makes.
    pub(super) fn extent(&self, slots: &[u32], per_second: u64) -> Option<(usize, usize)> {
        let cost = |over: f64| (self.per_s + over) / number(per_second);
        let (first, last) = largest_sum(slots, cost(self.margin / 2.0))?;
        let slots = slots.get(first..=last)?;
        let mean = number(self.excess(slots, per_second).0) * number(per_second) / number(slots.len() as u64);
        let over = (mean / 4.0).min(2.0 * DISTANCES * self.distance).max(self.margin / 2.0);
        let (later, last) = largest_sum(slots, cost(over))?;
        Some((first + later, first + last))
    }

    /// How many are over the usual in all `slots`, and in the second of them that has most.
    pub(super) fn excess(&self, slots: &[u32], per_second: u64) -> (u64, u64) {
        let usual = self.per_s / number(per_second);
        let over: Vec<f64> = slots.iter().map(|&opened| f64::from(opened) - usual).collect();
        let per_second = usize::try_from(per_second).unwrap_or(usize::MAX);
        let (mut second, mut peak) = (0.0, 0.0f64);
        for (index, slot) in over.iter().enumerate() {
            let gone = index.checked_sub(per_second).and_then(|gone| over.get(gone));
            second += slot - gone.unwrap_or(&0.0);
            peak = peak.max(second);
        }
        (count(over.iter().sum()), count(peak))
    }
}

/// The first and the last of the `slots` whose sum is the largest, each less `cost` (Kadane).
fn largest_sum(slots: &[u32], cost: f64) -> Option<(usize, usize)> {
    let (mut best, mut extent) = (0.0, None);
    let (mut sum, mut first) = (0.0, 0);
    for (index, &opened) in slots.iter().enumerate() {
        if sum <= 0.0 {
            (sum, first) = (0.0, index);
        }
        sum += f64::from(opened) - cost;
        if sum > best {
            best = sum;
            extent = Some((first, index));
        }
    }
    extent
}

/// The one in the middle, or between the two there; 0 of none.
pub(super) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "nobody opens 2^53 connections in a minute")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A number that was reckoned as a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below none is none, and the counts it is made of are no larger than 2^53"
)]
fn count(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "medians of whole numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![9.0, 1.0, 2.0, 4.0]), 3.0);
    }

    #[test]
    fn few_seconds_are_no_level() {
        assert_eq!(Baseline::of(vec![5; 9]), None);
        assert!(Baseline::of(vec![5; 10]).is_some());
    }

    #[test]
    fn a_burst_before_does_not_move_it() {
        let mut seconds = vec![0; 40];
        seconds.extend([3000; 15]);
        let level = Baseline::of(seconds).unwrap();
        assert_eq!((level.per_s, level.margin), (0.0, 30.0));
        assert!(level.is_burst(31) && !level.is_burst(30));
        assert!(level.is_hot(16) && !level.is_hot(15));
    }

    #[test]
    fn the_margin_is_what_chance_makes_at_least() {
        let level = Baseline::of(vec![400; 60]).unwrap();
        assert_eq!((level.per_s, level.margin), (400.0, 120.0));
        // And more where seconds differ by more.
        let uneven = (0..60).map(|second| 300 + 200 * (second % 2)).collect();
        assert!((Baseline::of(uneven).unwrap().margin - 6.0 * 148.26).abs() < 0.01);
    }

    #[test]
    fn an_extent_begins_and_ends_with_what_is_over() {
        let level = Baseline::of(vec![0; 10]).unwrap();
        let slots = [0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 9, 0, 0, 8, 0, 0, 0];
        assert_eq!(level.extent(&slots, 100), Some((9, 13)));
        assert_eq!(level.excess(&slots[9..=13], 100), (22, 22));
        assert_eq!(level.excess(&slots[9..=13], 2), (22, 14));
        assert_eq!(level.extent(&[0; 5], 100), None);
        assert_eq!((level.extent(&[], 100), level.excess(&[], 100)), (None, (0, 0)));
    }

    #[test]
    fn the_usual_is_taken_off() {
        let level = Baseline::of(vec![200; 10]).unwrap();
        let mut slots = vec![2; 300];
        slots[100..200].fill(12);
        assert_eq!(level.extent(&slots, 100), Some((100, 199)));
        assert_eq!(level.excess(&slots[100..200], 100), (1000, 1000));
        assert_eq!(level.excess(&slots[90..210], 100), (1000, 1000));
    }
}
