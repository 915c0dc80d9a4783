//! Ends that may still be amended, held back for a moment, and all that comes after them: what is told is told in order.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use tcpwatch_common::Evidence;

use super::ending::{self, Ending, Reasons};
use crate::event::{Event, Life};

/// How long an end that is not final is held back, ns: a close that resets announces both in one system call.
const HOLD_NS: i64 = 20_000_000;
/// Records held back at most; of more, the oldest are told as they are.
const MOST: usize = 65_536;

/// What may end.
pub trait Ends {
    /// When it happened, ns since the Unix epoch.
    fn unix_ns(&self) -> i64;
    /// Number of the life.
    fn id(&self) -> Option<NonZeroU64>;
    /// What is known of the end, if it is one.
    fn evidence(&mut self) -> Option<&mut Evidence>;
}

impl Ends for Event {
    fn unix_ns(&self) -> i64 {
        self.unix_ns
    }

    fn id(&self) -> Option<NonZeroU64> {
        self.id
    }

    fn evidence(&mut self) -> Option<&mut Evidence> {
        self.evidence.as_mut()
    }
}

impl Ends for Life {
    fn unix_ns(&self) -> i64 {
        self.last.unix_ns
    }

    fn id(&self) -> Option<NonZeroU64> {
        self.last.id
    }

    fn evidence(&mut self) -> Option<&mut Evidence> {
        self.last.evidence.as_mut()
    }
}

/// Records in the order they came, those in front waiting for what may be added to them.
#[derive(Debug)]
pub struct Pending<T> {
    reasons: Reasons,
    queue: VecDeque<Held<T>>,
    /// Resets not heard of, as counted before any record yet to come was made; `None` where resets are not watched.
    before: Option<u64>,
    /// The same, now.
    unheard: Option<u64>,
}

/// A record held back.
#[derive(Debug)]
struct Held<T> {
    record: T,
    /// Resets not heard of, as counted before it was made.
    before: Option<u64>,
}

impl<T: Ends> Pending<T> {
    /// Nothing held back; `reasons` reads the kernel's numbers. `unheard` counts the resets not heard of so far; `None` where
    /// resets are not watched.
    #[must_use]
    pub fn new(reasons: Reasons, unheard: Option<u64>) -> Self {
        Self {
            reasons,
            queue: VecDeque::new(),
            before: unheard,
            unheard,
        }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: T) {
        let before = self.before;
        self.queue.push_back(Held { record, before });
    }

    /// Takes the number of resets not heard of, as it is after the stream was read; `emptied` says whether all was read that there
    /// was. What is read next was made after that, and so after the number before this one was taken.
    pub fn unheard(&mut self, resets: Option<u64>, emptied: bool) {
        if emptied {
            self.before = self.unheard;
        }
        self.unheard = resets;
    }

    /// Replaces what is known of the end of the life `id`, if it is held back.
    pub fn amend(&mut self, id: NonZeroU64, now: Evidence) {
        let mut records = self.queue.iter_mut().rev().map(|held| &mut held.record);
        if let Some(evidence) = records.find(|record| record.id() == Some(id)).and_then(Ends::evidence) {
            *evidence = now;
        }
    }

    /// Whether nothing is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next record that nothing will be added to, or that has waited long enough at `unix_ns`, and how it ended if it did.
    /// `settle` adds what is to be found out elsewhere, and says whether that is over.
    pub fn next(&mut self, unix_ns: i64, settle: impl FnOnce(&mut T) -> bool) -> Option<(T, Option<Ending>)> {
        let may_wait = self.queue.len() <= MOST;
        let front = &mut self.queue.front_mut()?.record;
        // A clock that jumps ends the waiting, whichever way.
        let waited = unix_ns.saturating_sub(front.unix_ns()).unsigned_abs() > HOLD_NS.unsigned_abs();
        let may_change = front.evidence().is_some_and(|evidence| !ending::is_final(*evidence));
        if (may_change && !waited || !settle(front)) && may_wait {
            return None;
        }
        let Held { mut record, before } = self.queue.pop_front()?;
        let heard = before.is_some() && before == self.unheard;
        let ended = record
            .evidence()
            .map(|evidence| ending::decide(*evidence, &self.reasons, heard));
        Some((record, ended))
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::evidence::{DEAD, KNOWN, RESET_AFTER, RESET_SENT};

    use super::*;

    struct Item(i64, u64, Option<Evidence>);

    impl Ends for Item {
        fn unix_ns(&self) -> i64 {
            self.0
        }

        fn id(&self) -> Option<NonZeroU64> {
            NonZeroU64::new(self.1)
        }

        fn evidence(&mut self) -> Option<&mut Evidence> {
            self.2.as_mut()
        }
    }

    /// The next, of which there is nothing to find out.
    fn told(pending: &mut Pending<Item>, unix_ns: i64) -> Option<(Item, Option<Ending>)> {
        pending.next(unix_ns, |_| true)
    }

    fn open_end(flags: u16) -> Evidence {
        Evidence {
            flags: KNOWN | flags,
            from: 1,
            shutdown: 3,
            ..Evidence::default()
        }
    }

    #[test]
    fn an_end_waits_for_its_reset_and_the_others_behind_it() {
        let mut pending = Pending::new(Reasons::default(), Some(0));
        pending.push(Item(0, 1, None));
        pending.push(Item(1, 2, Some(open_end(0))));
        pending.push(Item(2, 3, None));
        assert_eq!(
            told(&mut pending, 3).map(|(item, ended)| (item.1, ended)),
            Some((1, None))
        );
        assert!(told(&mut pending, 3).is_none());
        pending.amend(NonZeroU64::new(2).unwrap(), open_end(RESET_SENT | RESET_AFTER));
        let (item, ended) = told(&mut pending, 3).unwrap();
        assert_eq!((item.1, ended), (2, Some(Ending::ResetByUs)));
        assert_eq!(told(&mut pending, 3).map(|(item, _)| item.1), Some(3));
        assert!(told(&mut pending, 3).is_none());
    }

    #[test]
    fn what_is_found_out_elsewhere_is_waited_for() {
        let mut pending = Pending::new(Reasons::default(), None);
        pending.push(Item(0, 1, None));
        pending.push(Item(1, 2, None));
        assert!(
            pending.next(i64::MAX, |item| item.1 == 2).is_none(),
            "the first comes first"
        );
        let found = pending.next(2, |item| {
            item.1 = 9;
            true
        });
        assert_eq!(found.map(|(item, _)| item.1), Some(9));
        assert!(!pending.is_empty() && told(&mut pending, 2).is_some() && pending.is_empty());
        for id in 1..=MOST as u64 + 1 {
            pending.push(Item(1, id, None));
        }
        assert!(pending.next(2, |_| false).is_some() && pending.next(2, |_| false).is_none());
    }

    #[test]
    fn a_reset_not_heard_of_may_be_that_of_any_end_held_then() {
        let closed_first = Evidence {
            flags: KNOWN | DEAD,
            from: 5,
            ..Evidence::default()
        };
        let ended = |resets: [Option<u64>; 4]| {
            let mut pending = Pending::new(Reasons::default(), resets[0]);
            for reading in &resets[1..] {
                pending.push(Item(0, 1, Some(closed_first)));
                pending.unheard(*reading, true);
            }
            [0, 1, 2].map(|_| told(&mut pending, i64::MAX).and_then(|(_, ended)| ended))
        };
        let (known, unknown) = (Some(Ending::ClosedFirst), Some(Ending::Unknown));
        assert_eq!(ended([Some(3); 4]), [known; 3]);
        // It may have been missed before the second reading, and so after the second record was made.
        let one = [Some(3), Some(3), Some(4), Some(4)];
        assert_eq!(ended(one), [unknown, unknown, unknown]);
        let one = [Some(3), Some(4), Some(4), Some(4)];
        assert_eq!(ended(one), [unknown, unknown, known]);
        assert_eq!(ended([None; 4]), [unknown; 3], "nobody watches");
    }

    #[test]
    fn nothing_waits_for_ever_whatever_the_clock_does() {
        for later in [HOLD_NS + 2, -HOLD_NS * 9, i64::MAX, i64::MIN] {
            let mut pending = Pending::new(Reasons::default(), Some(0));
            pending.push(Item(1, 2, Some(open_end(0))));
            assert!(told(&mut pending, 2).is_none());
            assert_eq!(told(&mut pending, later).unwrap().1, Some(Ending::Unknown));
        }
        let mut pending = Pending::new(Reasons::default(), Some(0));
        for id in 1..=MOST as u64 + 1 {
            pending.push(Item(1, id, Some(open_end(0))));
        }
        assert!(told(&mut pending, 2).is_some() && told(&mut pending, 2).is_none());
    }
}
