//! Records that something may be added to, held back for a moment, and all that came after them: they are shown in order.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;
use tcpwatch_common::Evidence;

use super::ending::{self, Ending};
use crate::input::owner::Owner;
use crate::input::reset_reasons::Reasons;
use crate::input::{Connection, Event};

/// How long an end that is not final is held back, ns: a close that resets announces both in one system call.
const RESET_WAIT_NS: u64 = 20_000_000;
/// How long a record without an owner is held back, ns: longer than the answer may take.
const OWNER_WAIT_NS: u64 = 15_000_000_000;
/// Records held back at most; of more, the oldest are shown as they are.
const MOST: usize = 65_536;

/// What is held back: a transition, or a finished connection.
pub trait Held {
    /// The transition; of a connection, the last.
    fn event(&self) -> &Event;
    /// The same, to add to what is known of it.
    fn event_mut(&mut self) -> &mut Event;
}

impl Held for Event {
    fn event(&self) -> &Event {
        self
    }

    fn event_mut(&mut self) -> &mut Event {
        self
    }
}

impl Held for Connection {
    fn event(&self) -> &Event {
        &self.last
    }

    fn event_mut(&mut self) -> &mut Event {
        &mut self.last
    }
}

/// Records in the order they came, those in front waiting for what may be added to them.
#[derive(Debug)]
pub struct Holdback<T> {
    reasons: Reasons,
    queue: VecDeque<Waiting<T>>,
    /// Records that were taken out so far: the place of one in the queue is its number less this.
    taken: u64,
    /// The numbers of the records that ask for the holder of a socket, in order.
    asking: HashMap<NonZeroU32, VecDeque<u64>>,
    /// Whether the owners of records are asked for that nobody saw.
    asks_owners: bool,
    /// Resets that were missed, as counted before any record yet to come was made; `None` where resets are not watched.
    before: Option<u64>,
    /// The same, now.
    missed: Option<u64>,
}

/// A record held back.
#[derive(Debug)]
struct Waiting<T> {
    record: T,
    /// The socket whose holder is asked for.
    asks: Option<NonZeroU32>,
    /// Resets that were missed, as counted before it was made.
    before: Option<u64>,
}

impl<T: Held> Holdback<T> {
    /// Nothing held back; `reasons` reads the kernel's numbers. `missed` counts the resets missed so far; `None` where resets are
    /// not watched.
    #[must_use]
    pub fn new(reasons: Reasons, missed: Option<u64>, asks_owners: bool) -> Self {
        Self {
            reasons,
            queue: VecDeque::new(),
            taken: 0,
            asking: HashMap::new(),
            asks_owners,
            before: missed,
            missed,
        }
    }

    /// Takes the next record.
    pub fn push(&mut self, record: T) {
        let asks = record.event().asks_owner().filter(|_| self.asks_owners);
        let before = self.before;
        if let Some(inode) = asks {
            let number = self.taken + self.queue.len() as u64;
            self.asking.entry(inode).or_default().push_back(number);
        }
        self.queue.push_back(Waiting { record, asks, before });
    }

    /// Takes the number of missed resets, as it is after the stream was read; `emptied` says whether all was read that there was.
    /// What is read next was made after that, and so after the number before this one was taken.
    pub fn missed_resets(&mut self, resets: Option<u64>, emptied: bool) {
        if emptied {
            self.before = self.missed;
        }
        self.missed = resets;
    }

    /// Replaces what is known of the end of the life `id`, if it is held back.
    pub fn amend(&mut self, id: NonZeroU64, now: Evidence) {
        let mut events = self.queue.iter_mut().rev().map(|waiting| waiting.record.event_mut());
        let event = events.find(|event| event.id == Some(id));
        if let Some(evidence) = event.and_then(|event| event.evidence.as_mut()) {
            *evidence = now;
        }
    }

    /// Takes the answer to the first record that asks who holds the socket `inode`.
    pub fn owner(&mut self, inode: NonZeroU32, owner: Option<Owner>) {
        let place = self
            .stop_asking(inode)
            .and_then(|number| number.checked_sub(self.taken));
        let place = place.and_then(|place| usize::try_from(place).ok());
        if let Some(waiting) = place.and_then(|place| self.queue.get_mut(place)) {
            waiting.asks = None;
            waiting.record.event_mut().owner = owner;
        }
    }

    /// Takes out the first record that asks for `inode`; its number.
    fn stop_asking(&mut self, inode: NonZeroU32) -> Option<u64> {
        let numbers = self.asking.get_mut(&inode)?;
        let first = numbers.pop_front();
        if numbers.is_empty() {
            self.asking.remove(&inode);
        }
        first
    }

    /// Whether nothing is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next record that nothing will be added to, or that has waited long enough at `monotonic_ns`, and how it ended if it did.
    pub fn next(&mut self, monotonic_ns: u64) -> Option<(T, Option<Ending>)> {
        let may_wait = self.queue.len() <= MOST;
        let front = self.queue.front()?;
        let event = front.record.event();
        let waited_ns = monotonic_ns.saturating_sub(event.monotonic_ns);
        let may_change = event.evidence.is_some_and(|evidence| !ending::is_final(evidence));
        let waits = may_change && waited_ns <= RESET_WAIT_NS || front.asks.is_some() && waited_ns <= OWNER_WAIT_NS;
        if waits && may_wait {
            return None;
        }
        let Waiting { record, asks, before } = self.queue.pop_front()?;
        if let Some(inode) = asks {
            self.stop_asking(inode);
        }
        self.taken += 1;
        let heard = before.is_some() && before == self.missed;
        let evidence = record.event().evidence;
        let ended = evidence.map(|evidence| ending::decide(evidence, &self.reasons, heard));
        Some((record, ended))
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::evidence::{DEAD, KNOWN, RESET_AFTER, RESET_SENT};

    use super::*;
    use crate::input::owner::tests::owner;

    fn holdback(missed: Option<u64>) -> Holdback<Event> {
        Holdback::new(Reasons::default(), missed, true)
    }

    /// A record of the life `id`.
    fn record(monotonic_ns: u64, id: u64, evidence: Option<Evidence>) -> Event {
        Event {
            monotonic_ns,
            id: NonZeroU64::new(id),
            evidence,
            ..Event::between(TcpState::Established, TcpState::CloseWait)
        }
    }

    /// One of which the holder of the socket 100 is asked for.
    fn asking(monotonic_ns: u64, id: u64) -> Event {
        Event {
            inode: NonZeroU32::new(100),
            ..record(monotonic_ns, id, None)
        }
    }

    fn id(shown: Option<(Event, Option<Ending>)>) -> Option<u64> {
        shown.and_then(|(event, _)| event.id).map(NonZeroU64::get)
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
        let mut holdback = holdback(Some(0));
        holdback.push(record(0, 1, None));
        holdback.push(record(1, 2, Some(open_end(0))));
        holdback.push(record(2, 3, None));
        assert_eq!(id(holdback.next(3)), Some(1));
        assert_eq!(id(holdback.next(3)), None);
        holdback.amend(NonZeroU64::new(2).unwrap(), open_end(RESET_SENT | RESET_AFTER));
        let (event, ended) = holdback.next(3).unwrap();
        assert_eq!((id(Some((event, ended))), ended), (Some(2), Some(Ending::ResetByUs)));
        assert_eq!(id(holdback.next(3)), Some(3));
        assert_eq!(id(holdback.next(3)), None);
    }

    #[test]
    fn each_record_waits_for_its_own_answer() {
        let mut holdback = holdback(None);
        holdback.push(asking(0, 1));
        holdback.push(asking(1, 2));
        holdback.push(record(2, 3, None));
        let socket = NonZeroU32::new(100).unwrap();
        assert_eq!(id(holdback.next(2)), None, "the first comes first");
        holdback.owner(NonZeroU32::new(7).unwrap(), None);
        assert_eq!(id(holdback.next(2)), None, "it is the answer to another");
        let nginx = Some(owner(7, "nginx"));
        holdback.owner(socket, nginx);
        assert_eq!(holdback.next(2).map(|(event, _)| event.owner), Some(nginx));
        assert_eq!(id(holdback.next(2)), None, "the second has its own");
        holdback.owner(socket, None);
        assert_eq!((id(holdback.next(2)), id(holdback.next(2))), (Some(2), Some(3)));
        assert!(holdback.is_empty());
    }

    #[test]
    fn where_nobody_asks_nobody_waits() {
        let mut holdback = Holdback::new(Reasons::default(), None, false);
        holdback.push(asking(0, 1));
        assert_eq!(id(holdback.next(0)), Some(1));
    }

    #[test]
    fn a_missed_reset_may_be_that_of_any_end_held_then() {
        let closed_first = Evidence {
            flags: KNOWN | DEAD,
            from: 5,
            ..Evidence::default()
        };
        let ended = |resets: [Option<u64>; 4]| {
            let mut holdback = holdback(resets[0]);
            for reading in &resets[1..] {
                holdback.push(record(0, 1, Some(closed_first)));
                holdback.missed_resets(*reading, true);
            }
            [0, 1, 2].map(|_| holdback.next(u64::MAX).and_then(|(_, ended)| ended))
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
    fn nothing_waits_for_ever() {
        let mut held = holdback(Some(0));
        held.push(record(1, 2, Some(open_end(0))));
        held.push(asking(1, 3));
        assert_eq!(id(held.next(2)), None);
        assert_eq!(held.next(RESET_WAIT_NS + 2).unwrap().1, Some(Ending::Unknown));
        assert_eq!(id(held.next(RESET_WAIT_NS + 2)), None);
        assert_eq!(id(held.next(OWNER_WAIT_NS + 2)), Some(3));
        for more in 1..=MOST as u64 + 1 {
            held.push(asking(1, more));
        }
        assert_eq!((id(held.next(2)), id(held.next(2))), (Some(1), None));
    }
}
