//! Thresholds that do not flap: what was found stays found until it is well below.

use std::hash::Hash;

use hashbrown::HashSet;

/// What was over its threshold in the frame before, and is in this one: no more than two frames have.
#[derive(Debug)]
pub(super) struct Hysteresis<K> {
    before: HashSet<K>,
    now: HashSet<K>,
}

impl<K> Default for Hysteresis<K> {
    fn default() -> Self {
        Self {
            before: HashSet::new(),
            now: HashSet::new(),
        }
    }
}

impl<K: Eq + Hash> Hysteresis<K> {
    /// Another frame begins. What is not asked about in one is forgotten.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }

    /// Whether the `value` of `key` is `from` or more, or was in the frame before and is still `until` or more.
    pub(super) fn holds(&mut self, key: K, value: f64, from: f64, until: f64) -> bool {
        let threshold = if self.before.contains(&key) { until } else { from };
        let holds = value >= threshold;
        if holds {
            self.now.insert(key);
        }
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_stays_until_it_is_well_below() {
        let mut held = Hysteresis::default();
        let mut holds = |value| {
            held.turn();
            held.holds('a', value, 0.9, 0.8)
        };
        let told = [0.89, 0.9, 0.85, 0.8, 0.79, 0.85, f64::NAN, 0.9].map(&mut holds);
        assert_eq!(told, [false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn what_was_not_asked_about_is_forgotten() {
        let mut held = Hysteresis::default();
        held.turn();
        assert!(held.holds('a', 1.0, 0.9, 0.8) && !held.holds('b', 0.85, 0.9, 0.8));
        held.turn();
        held.turn();
        assert!(!held.holds('a', 0.85, 0.9, 0.8));
    }
}
