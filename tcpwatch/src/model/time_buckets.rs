//! A ring of time slots that counts events.

/// Counts of events in the last `N` slots of `SLOT_NS` nanoseconds each; both are at least 1.
///
/// The number of a slot is its time on a monotonic clock divided by `SLOT_NS`. Events may be added in any order. An event older
/// than the last `N` slots is not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeBuckets<const SLOT_NS: u64, const N: u64> {
    counts: Box<[u32]>,
    newest: u64,
}

impl<const SLOT_NS: u64, const N: u64> Default for TimeBuckets<SLOT_NS, N> {
    fn default() -> Self {
        Self {
            counts: (0..N).map(|_| 0).collect(),
            newest: 0,
        }
    }
}

impl<const SLOT_NS: u64, const N: u64> TimeBuckets<SLOT_NS, N> {
    /// Number of the slot that `monotonic_ns` is in.
    #[must_use]
    pub const fn slot(monotonic_ns: u64) -> u64 {
        monotonic_ns / SLOT_NS
    }

    /// Index of `slot` in the ring; `None` where it is not among the last `N`.
    fn index(&self, slot: u64) -> Option<usize> {
        let kept = slot <= self.newest && self.newest - slot < N;
        usize::try_from(slot % N).ok().filter(|_| kept)
    }

    /// Makes `slot` the newest, if it is newer, and empties the slots in between.
    fn advance(&mut self, slot: u64) {
        let passed = slot.saturating_sub(self.newest).min(N);
        self.newest = self.newest.max(slot);
        for back in 0..passed {
            self.store(slot - back, 0);
        }
    }

    fn store(&mut self, slot: u64, count: u32) {
        if let Some(cell) = self.index(slot).and_then(|index| self.counts.get_mut(index)) {
            *cell = count;
        }
    }

    /// Counts one event.
    pub fn add(&mut self, monotonic_ns: u64) {
        let slot = Self::slot(monotonic_ns);
        self.advance(slot);
        self.store(slot, self.get(slot).saturating_add(1));
    }

    /// Events in `slot`; 0 for a slot outside the ring.
    #[must_use]
    pub fn get(&self, slot: u64) -> u32 {
        let cell = self.index(slot).and_then(|index| self.counts.get(index));
        cell.copied().unwrap_or(0)
    }

    /// Events in the slots `first..end`.
    #[must_use]
    pub fn sum(&self, first: u64, end: u64) -> u64 {
        // The range may be huge; only slots in the ring have counts.
        let first = first.max(self.newest.saturating_add(1).saturating_sub(N));
        let end = end.min(self.newest.saturating_add(1));
        (first..end).map(|slot| u64::from(self.get(slot))).sum()
    }

    /// The newest slot that has been counted in; 0 before the first.
    #[must_use]
    pub const fn newest(&self) -> u64 {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Seconds = TimeBuckets<1_000_000_000, 4>;

    fn seconds(events: &[u64]) -> Seconds {
        let mut slots = Seconds::default();
        for &second in events {
            slots.add(second * 1_000_000_000 + 7);
        }
        slots
    }

    #[test]
    fn events_may_be_added_in_any_order() {
        let slots = seconds(&[100, 102, 101, 102, 103]);
        let counts: Vec<u32> = (99..105).map(|slot| slots.get(slot)).collect();
        assert_eq!(counts, [0, 1, 1, 2, 1, 0]);
        assert_eq!((slots.sum(100, 104), slots.sum(101, 103), slots.newest()), (5, 3, 103));
    }

    #[test]
    fn slots_older_than_the_ring_are_forgotten() {
        let mut slots = seconds(&[100, 101, 104]);
        assert_eq!((slots.get(100), slots.get(101), slots.sum(0, u64::MAX)), (0, 1, 2));
        slots.add(100);
        assert_eq!(slots.sum(0, u64::MAX), 2);
        slots.add(1_000_000_000_000);
        assert_eq!(slots.sum(0, u64::MAX), 1);
    }

    #[test]
    fn the_largest_and_smallest_times_are_accepted() {
        let mut slots = TimeBuckets::<1, 3>::default();
        slots.add(u64::MAX);
        slots.add(0);
        slots.add(u64::MAX);
        assert_eq!((slots.get(u64::MAX), slots.get(0)), (2, 0));
        assert_eq!(slots.sum(5, 2), 0);
    }
}
