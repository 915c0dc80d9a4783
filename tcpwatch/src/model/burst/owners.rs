//! Openings of each owner, second by second.

use std::hash::Hash;
use std::ops::Range;

use hashbrown::HashMap;

use super::{KEPT, Seconds, usual};
use crate::model::real;

/// Owners remembered at most, about 400 bytes each.
const MOST: usize = 1024;

/// Openings of each owner in the last minute. Of more than [`MOST`] owners the half that opened fewest is evicted, and counted. One that
/// opened nothing for [`KEPT`] seconds expires.
#[derive(Debug)]
pub(super) struct Owners<K> {
    seconds: HashMap<K, Seconds>,
    most: usize,
    evicted: u64,
}

impl<K> Default for Owners<K> {
    fn default() -> Self {
        Self {
            seconds: HashMap::new(),
            most: MOST,
            evicted: 0,
        }
    }
}

impl<K: Clone + Ord + Hash> Owners<K> {
    /// `owner` opened a connection.
    pub(super) fn add(&mut self, owner: K, monotonic_ns: u64) {
        if self.seconds.len() >= self.most && !self.seconds.contains_key(&owner) {
            self.forget(Seconds::slot(monotonic_ns));
        }
        self.seconds.entry(owner).or_default().add(monotonic_ns);
    }

    /// Number of evicted owners.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Forgets the owners that opened nothing in the last minute before the second `now`.
    pub(super) fn expire(&mut self, now: u64) {
        self.seconds
            .retain(|_, opened| opened.newest().saturating_add(KEPT) >= now);
    }

    /// Makes room: the half that opened fewest in the last minute is forgotten; of equals, the one that has been idle longest.
    fn forget(&mut self, now: u64) {
        self.expire(now);
        if self.seconds.len() < self.most {
            return;
        }
        let opened = |seconds: &Seconds| seconds.sum(now.saturating_sub(KEPT), now.saturating_add(1));
        let rank = |(owner, seconds): (&K, &Seconds)| (opened(seconds), seconds.newest(), owner.clone());
        let mut ranks: Vec<(u64, u64, K)> = self.seconds.iter().map(rank).collect();
        ranks.sort_unstable();
        for (.., owner) in ranks.iter().take(ranks.len().div_ceil(2)) {
            self.seconds.remove(owner);
            self.evicted += 1;
        }
    }

    /// The owner of more than half of `burst` openings in `seconds`. Only openings over the owner's own usual rate count, which is the
    /// median of its seconds `before`.
    pub(super) fn most_of(&self, burst: f64, seconds: Range<u64>, before: Range<u64>) -> Option<K> {
        let over = |opened: &Seconds| {
            let usual = usual(opened, before.clone()).unwrap_or(0.0);
            real(opened.sum(seconds.start, seconds.end)) - usual * real(seconds.end.saturating_sub(seconds.start))
        };
        let all = self.seconds.iter().map(|(owner, opened)| (owner, over(opened)));
        let (owner, most) = all.max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| a.0.cmp(b.0)))?;
        (most * 2.0 > burst).then(|| owner.clone())
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
        assert_eq!(owners.most_of(100.0, 100..101, 0..100), Some('a'));
        assert_eq!(owners.most_of(102.0, 100..101, 0..100), None);
        assert_eq!(owners.most_of(100.0, 101..102, 0..101), None);
        assert_eq!(Owners::<char>::default().most_of(0.0, 0..1, 0..0), None);
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
        assert_eq!(owners.most_of(40.0, 100..101, 60..100), Some('b'));
        // Unless what was before is not the usual.
        assert_eq!(owners.most_of(40.0, 100..101, 100..100), Some('a'));
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
        assert_eq!(owners.most_of(4000.0, 100..101, 40..100), Some(0));
    }

    #[test]
    fn of_equals_the_same_one_is_always_forgotten() {
        for _ in 0..20 {
            let mut owners = Owners {
                most: 4,
                ..Owners::default()
            };
            for owner in ['a', 'b', 'c', 'd'] {
                owners.add(owner, 100 * S);
            }
            owners.add('e', 100 * S);
            let mut left: Vec<char> = owners.seconds.keys().copied().collect();
            left.sort_unstable();
            assert_eq!(left, ['c', 'd', 'e']);
            assert_eq!(owners.most_of(1.0, 100..101, 0..100), Some('e'));
        }
    }

    #[test]
    fn owners_expire_a_minute_and_a_half_after_they_opened_something() {
        let mut owners = Owners {
            most: 2,
            ..Owners::default()
        };
        owners.add('a', 100 * S);
        owners.add('b', 101 * S);
        owners.expire(100 + KEPT);
        assert_eq!(owners.seconds.len(), 2);
        // Where it makes room, nothing that counts is lost.
        owners.add('c', (101 + KEPT) * S);
        assert_eq!((owners.seconds.len(), owners.evicted()), (2, 0));
        owners.add('d', (101 + KEPT) * S);
        assert_eq!((owners.seconds.len(), owners.evicted()), (2, 1));
        owners.expire(500);
        assert_eq!((owners.seconds.len(), owners.evicted()), (0, 1));
    }

    #[test]
    fn any_time_is_survived() {
        let mut owners = Owners {
            most: 2,
            ..Owners::default()
        };
        for (owner, time) in [(1, u64::MAX), (2, 0), (3, u64::MAX), (4, 5 * S), (5, 0)] {
            owners.add(owner, time);
            let _ = owners.most_of(0.0, 0..u64::MAX, 0..7);
            let _ = owners.most_of(f64::INFINITY, 7..7, 0..0);
        }
        assert!(owners.seconds.len() <= 2);
    }
}
