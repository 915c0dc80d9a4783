//! Who opened how many, second by second.

use std::hash::Hash;
use std::ops::Range;

use hashbrown::HashMap;

use super::baseline::{median, number};
use crate::model::time_buckets::TimeBuckets;

/// Owners remembered at most, about 300 bytes each.
const MOST: usize = 1024;

const KEPT: u64 = 64;

type Seconds = TimeBuckets<1_000_000_000, KEPT>;

/// Openings of each owner in the last minute.
#[derive(Debug)]
pub(super) struct Owners<K> {
    seconds: HashMap<K, Seconds>,
    most: usize,
}

impl<K> Default for Owners<K> {
    fn default() -> Self {
        Self {
            seconds: HashMap::new(),
            most: MOST,
        }
    }
}

impl<K: Copy + Eq + Hash> Owners<K> {
    /// `owner` opened a connection.
    pub(super) fn add(&mut self, owner: K, monotonic_ns: u64) {
        if self.seconds.len() >= self.most && !self.seconds.contains_key(&owner) {
            self.forget(Seconds::slot(monotonic_ns));
        }
        self.seconds.entry(owner).or_default().add(monotonic_ns);
    }

    /// Makes room: the half that opened fewest in the last minute is forgotten.
    fn forget(&mut self, now: u64) {
        let opened = |seconds: &Seconds| seconds.sum((now + 1).saturating_sub(KEPT), now + 1);
        let counts = self.seconds.iter().map(|(&owner, seconds)| (opened(seconds), owner));
        let mut counts: Vec<(u64, K)> = counts.collect();
        counts.sort_unstable_by_key(|&(count, _)| count);
        for (_, owner) in counts.iter().take(counts.len().div_ceil(2)) {
            self.seconds.remove(owner);
        }
    }

    /// Who opened more than half of `burst` connections, over what is usual for it, in `seconds` (of the clock).
    ///
    /// What is usual is the median of its seconds before, from the second `level_from` on.
    pub(super) fn most_of(&self, burst: u64, seconds: Range<u64>, level_from: u64) -> Option<K> {
        let before = level_from.max(seconds.end.saturating_sub(KEPT))..seconds.start;
        let length = number(seconds.end.saturating_sub(seconds.start));
        let over = |opened: &Seconds| {
            let usual = median(before.clone().map(|second| f64::from(opened.get(second))).collect());
            number(opened.sum(seconds.start, seconds.end)) - usual * length
        };
        let all = self.seconds.iter().map(|(&owner, opened)| (owner, over(opened)));
        let (owner, most) = all.max_by(|a, b| a.1.total_cmp(&b.1))?;
        (most * 2.0 > number(burst)).then_some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn most_is_more_than_half() {
        let mut owners = Owners::default();
        for event in 0..100 {
            owners.add(if event < 51 { 'a' } else { 'b' }, 100 * S + event);
        }
        assert_eq!(owners.most_of(100, 100..101, 0), Some('a'));
        assert_eq!(owners.most_of(102, 100..101, 0), None);
        assert_eq!(owners.most_of(100, 101..102, 0), None);
        assert_eq!(Owners::<char>::default().most_of(0, 0..1, 0), None);
    }

    #[test]
    fn who_always_opens_many_opened_no_more_in_a_burst() {
        let mut owners = Owners::default();
        for second in 60..101 {
            for event in 0..50 {
                owners.add('a', second * S + event);
            }
        }
        for event in 0..40 {
            owners.add('b', 100 * S + event);
        }
        assert_eq!(owners.most_of(40, 100..101, 60), Some('b'));
        // Unless what was before is not the usual.
        assert_eq!(owners.most_of(40, 100..101, 100), Some('a'));
    }

    #[test]
    fn those_who_open_few_are_forgotten() {
        let mut owners = Owners {
            most: 64,
            ..Owners::default()
        };
        for event in 0..10_000u64 {
            let time = 100 * S + event * 1000;
            owners.add(event + 1, time);
            if event % 4 == 0 {
                owners.add(0, time);
            }
            assert!(owners.seconds.len() <= 64);
        }
        assert_eq!(owners.most_of(4000, 100..101, 0), Some(0));
    }

    #[test]
    fn any_time_is_survived() {
        let mut owners = Owners {
            most: 2,
            ..Owners::default()
        };
        for (owner, time) in [(1, u64::MAX), (2, 0), (3, u64::MAX), (4, 5 * S), (5, 0)] {
            owners.add(owner, time);
            let _ = owners.most_of(0, 0..u64::MAX, 0);
            let _ = owners.most_of(u64::MAX, 7..7, u64::MAX);
        }
        assert!(owners.seconds.len() <= 2);
    }
}
