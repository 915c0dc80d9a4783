//! What a group of sockets did since the watch began: how many left the state, and after what time.

use crate::input::owner::Owner;

/// Sockets that left a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Closings {
    /// Those that had been in it for less time than makes a socket stuck.
    pub prompt: u64,
    /// The longest of these, ns.
    pub longest_prompt_ns: u64,
    /// Those that had been in it for that time or longer.
    pub late: u64,
    /// The shortest and the longest of these, ns; of one that was in it before the watch began, the time it was at least.
    pub late_ns: Option<[u64; 2]>,
    /// Those of which nobody knows after what time, for they were in it before the watch began and left it before they were seen; or
    /// how, for the socket did not tell.
    pub unknown: u64,
    /// Those that the kernel ended, which is no closing: a reset came, nobody answered, or an administrator said so.
    pub ended: u64,
}

impl Closings {
    /// Counts one that was in the state for `dwell_ns`, where `older_ns` makes it stuck.
    pub fn add(&mut self, dwell_ns: Option<u64>, older_ns: u64) {
        match dwell_ns {
            None => self.unknown += 1,
            Some(ns) if ns < older_ns => {
                self.prompt += 1;
                self.longest_prompt_ns = self.longest_prompt_ns.max(ns);
            }
            Some(ns) => {
                self.late += 1;
                let [shortest, longest] = self.late_ns.unwrap_or([ns, ns]);
                self.late_ns = Some([shortest.min(ns), longest.max(ns)]);
            }
        }
    }
}

/// The past of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// Sockets in the state when the watch began.
    pub(super) first: u64,
    /// Most stuck sockets there were in any look.
    pub(super) peak: u64,
    /// Late closings before that look.
    pub(super) late_at_peak: u64,
    /// Those that left.
    pub(super) closings: Closings,
    /// Whose the last of those was.
    pub(super) owner: Option<Owner>,
    /// Since when it is whole, ns (`CLOCK_MONOTONIC`); 0 for the beginning of the watch.
    pub(super) since_ns: u64,
}

impl History {
    /// Takes the number of stuck sockets of a look.
    pub(super) fn stuck(&mut self, sockets: u64) {
        if sockets >= self.peak {
            (self.peak, self.late_at_peak) = (sockets, self.closings.late);
        }
    }

    /// Late closings since there were most stuck sockets.
    pub(super) fn late_since_peak(&self) -> u64 {
        self.closings.late.saturating_sub(self.late_at_peak)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closings_are_told_apart_by_their_time() {
        let mut closings = Closings::default();
        for dwell_ns in [Some(3), Some(10), None, Some(25), Some(12), Some(9)] {
            closings.add(dwell_ns, 10);
        }
        let expected = Closings {
            prompt: 2,
            longest_prompt_ns: 9,
            late: 3,
            late_ns: Some([10, 25]),
            unknown: 1,
            ended: 0,
        };
        assert_eq!(closings, expected);
    }

    #[test]
    fn closings_since_the_peak_are_those_after_its_last_look() {
        let mut history = History::default();
        history.closings.add(Some(10), 10);
        history.stuck(5);
        history.closings.add(Some(10), 10);
        history.stuck(5);
        history.closings.add(Some(10), 10);
        history.closings.add(Some(10), 10);
        history.stuck(3);
        assert_eq!((history.peak, history.late_since_peak()), (5, 2));
    }
}
