//! Thresholds that do not flap: what was found stays found until it is well below them.

use std::hash::Hash;

use hashbrown::HashSet;

/// The part of a threshold at which what was found before is found still: a number that varies by a tenth around a threshold changes
/// nothing.
const EASED: f64 = 0.8;

/// What was found in the frame before, and in this one: no more than two frames have.
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

    /// Whether `found` is true of `key`. It gets the slack of its thresholds, all of which are eased where it was true in the frame before.
    pub(super) fn holds(&mut self, key: K, found: impl FnOnce(Slack) -> bool) -> bool {
        let holds = found(Slack(if self.before.contains(&key) { EASED } else { 1.0 }));
        if holds {
            self.now.insert(key);
        }
        holds
    }
}

/// How far thresholds are eased: 1 is not at all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slack(f64);

impl Slack {
    /// Whether `value` is as great as `threshold`, or greater.
    pub(super) fn reaches(self, value: f64, threshold: f64) -> bool {
        value >= threshold * self.0
    }

    /// Whether `value` is less than `threshold`.
    pub(super) fn is_below(self, value: f64, threshold: f64) -> bool {
        value < threshold / self.0
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
            held.holds('a', |slack| slack.reaches(value, 100.0))
        };
        let found = [99.0, 100.0, 90.0, 80.0, 79.0, 90.0, f64::NAN, 100.0].map(&mut holds);
        assert_eq!(found, [false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn all_thresholds_of_a_key_are_eased_together() {
        let mut held = Hysteresis::default();
        let mut holds = |count, part, age| {
            held.turn();
            held.holds((), |slack| {
                slack.reaches(count, 10.0) && slack.reaches(part, 0.5) && slack.is_below(age, 100.0)
            })
        };
        assert!(!holds(10.0, 0.45, 90.0) && !holds(10.0, 0.5, 110.0));
        assert!(holds(10.0, 0.5, 90.0) && holds(9.0, 0.45, 110.0));
        assert!(!holds(10.0, 0.5, 126.0) && !holds(9.0, 0.5, 90.0));
    }

    #[test]
    fn what_was_not_asked_about_is_forgotten() {
        let mut held = Hysteresis::default();
        let eased = |slack: Slack| slack.reaches(85.0, 100.0);
        held.turn();
        assert!(held.holds('a', |_| true) && !held.holds('b', eased));
        held.turn();
        held.turn();
        assert!(!held.holds('a', eased));
    }
}
