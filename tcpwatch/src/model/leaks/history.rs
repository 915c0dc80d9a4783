//! What a group of sockets did since the watch began: how many were closed, after what time, and how their number grew.

use super::verdict::Growth;
use crate::input::owner::Owner;

/// Sockets that left a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closings {
    /// Those closed before they were stuck.
    pub prompt: u64,
    /// The longest time that one of these was in the state, ns.
    pub longest_prompt_ns: u64,
    /// Those closed after they were stuck.
    pub late: u64,
    /// The shortest and the longest time of these, ns; at least that, of one that was there before the watch began, or in which data
    /// moved.
    pub late_ns: Option<[u64; 2]>,
    /// When the last of these was closed, ns (`CLOCK_MONOTONIC`).
    pub last_late_ns: Option<u64>,
    /// Those that left the state in an unknown way, or after an unknown time.
    pub unknown: u64,
    /// Those that the kernel ended, which is no close: a reset came, nobody answered, or an administrator did it.
    pub ended: u64,
}

impl Closings {
    /// The longest time after which a stuck socket was closed, ns; 0 where none was.
    #[must_use]
    pub fn slowest_ns(&self) -> u64 {
        self.late_ns.map_or(0, |[_, slowest]| slowest)
    }

    /// Counts a close at `at_ns` after `dwell_ns` in the state, where `older_ns` makes a socket stuck.
    pub fn add(&mut self, dwell_ns: u64, at_ns: u64, older_ns: u64) {
        if dwell_ns < older_ns {
            self.prompt += 1;
            self.longest_prompt_ns = self.longest_prompt_ns.max(dwell_ns);
        } else {
            self.late += 1;
            let [shortest, longest] = self.late_ns.unwrap_or([dwell_ns; 2]);
            self.late_ns = Some([shortest.min(dwell_ns), longest.max(dwell_ns)]);
            self.last_late_ns = self.last_late_ns.max(Some(at_ns));
        }
    }
}

/// The past of a group. Times are `CLOCK_MONOTONIC`, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Sockets in the state when the watch began, where that is known.
    pub(super) first: Option<u64>,
    pub(super) closings: Closings,
    /// The owner of the last that left.
    pub(super) owner: Option<Owner>,
    /// Since when all closes are known; 0 for the beginning of the watch.
    pub(super) since_ns: u64,
    /// When something happened last: histories without sockets expire.
    pub(super) used_ns: u64,
    /// The most stuck sockets of any scan; 0 once there was none for a whole window.
    peak: u64,
    /// When there were stuck sockets last.
    stuck_ns: u64,
    /// When the number grew last, and since when it had kept growing.
    grew_ns: u64,
    growing_ns: u64,
    scanned_ns: u64,
}

impl History {
    /// Nothing known until `forgot_ns`, when the past of some group was evicted, maybe of this one; 0 for never.
    pub(super) fn new(forgot_ns: u64) -> Self {
        Self {
            since_ns: forgot_ns,
            first: (forgot_ns == 0).then_some(0),
            ..Self::default()
        }
    }

    /// Takes the number of stuck sockets that the scan at `now_ns` found; how it grew.
    pub(super) fn count_stuck(&mut self, sockets: u64, now_ns: u64, window_ns: u64) -> Option<Growth> {
        if now_ns.saturating_sub(self.stuck_ns) >= window_ns && self.stuck_ns != self.scanned_ns {
            self.peak = 0;
        }
        if sockets > self.peak {
            // What grew between two scans grew at some time between them.
            let has_paused = now_ns.saturating_sub(self.grew_ns) > window_ns && self.grew_ns != self.scanned_ns;
            if self.peak == 0 || has_paused {
                self.growing_ns = now_ns;
            }
            (self.peak, self.grew_ns) = (sockets, now_ns);
        }
        if sockets > 0 {
            self.stuck_ns = now_ns;
        }
        self.scanned_ns = now_ns;
        (self.peak > 0).then(|| Growth {
            last_ns: now_ns.saturating_sub(self.grew_ns),
            lasted_ns: self.grew_ns.saturating_sub(self.growing_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closings_are_told_apart_by_their_time() {
        let mut closings = Closings::default();
        for (at_ns, dwell_ns) in [(100, 3), (110, 10), (130, 25), (120, 12), (140, 9)] {
            closings.add(dwell_ns, at_ns, 10);
        }
        let expected = Closings {
            prompt: 2,
            longest_prompt_ns: 9,
            late: 3,
            late_ns: Some([10, 25]),
            last_late_ns: Some(130),
            ..Closings::default()
        };
        assert_eq!(closings, expected);
    }

    #[test]
    fn growth_is_above_the_highest_number_and_pauses_end_it() {
        let mut history = History::default();
        let mut count = |now_ns, sockets| {
            let growth = history.count_stuck(sockets, now_ns, 100);
            growth.map(|growth| (growth.last_ns, growth.lasted_ns))
        };
        assert_eq!(count(1_000, 0), None);
        assert_eq!(count(1_010, 5), Some((0, 0)));
        assert_eq!(count(1_060, 4), Some((50, 0)), "fewer is no growth");
        assert_eq!(count(1_070, 5), Some((60, 0)), "nor is as many again");
        assert_eq!(count(1_090, 6), Some((0, 80)));
        assert_eq!(count(1_190, 7), Some((0, 180)));
        assert_eq!(count(1_240, 7), Some((50, 180)));
        assert_eq!(count(1_291, 8), Some((0, 0)), "it had paused for a whole window");
        assert_eq!(count(1_491, 9), Some((0, 200)), "no scan was between");
        assert_eq!(count(1_540, 0), Some((49, 200)));
        assert_eq!(count(1_591, 0), None, "there was none for a window");
        assert_eq!(count(1_600, 1), Some((0, 0)));
    }
}
