//! Values that came lately, as many as there is room for.

use std::hash::Hash;

use hashbrown::HashSet;

/// Values that came lately: at least the last `capacity` different ones, and twice as many at most.
#[derive(Debug)]
pub(super) struct Recent<T> {
    capacity: usize,
    new: HashSet<T>,
    old: HashSet<T>,
}

impl<T: Eq + Hash> Recent<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            new: HashSet::new(),
            old: HashSet::new(),
        }
    }

    pub(super) fn insert(&mut self, value: T) {
        if self.new.len() >= self.capacity {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(value);
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        self.new.contains(value) || self.old.contains(value)
    }

    /// Removes `value`; whether it was there.
    pub(super) fn remove(&mut self, value: &T) -> bool {
        // It may be in both.
        self.new.remove(value) | self.old.remove(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_there_and_the_oldest_go() {
        let mut recent = Recent::new(3);
        (0..7).for_each(|value| recent.insert(value));
        let there: Vec<i32> = (0..7).filter(|value| recent.contains(value)).collect();
        assert_eq!(there, [3, 4, 5, 6]);
        assert!(recent.remove(&5) && !recent.remove(&5) && !recent.contains(&5));
    }

    #[test]
    fn a_value_of_two_generations_is_removed_from_both() {
        let mut recent = Recent::new(2);
        for value in [1, 2, 3, 1] {
            recent.insert(value);
        }
        assert!(recent.remove(&1) && !recent.contains(&1));
    }
}
