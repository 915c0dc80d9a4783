//! Holds records back until no later fact can change them, and keeps their order.
//!
//! A close that resets announces the end first and the reset a moment later. The owner of a socket is looked up in /proc,
//! which takes time.

use std::collections::VecDeque;
use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;
use tcpwatch_common::Evidence;

use super::ending::{self, Ending};
use super::trace::TraceRecord;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::reset_reasons::Reasons;

/// How much older than what is known a record must be before no reset can follow, ns. The kernel announces both in one system call, but a
/// virtual CPU may be stopped between them.
const RESET_WAIT_NS: u64 = 50_000_000;
/// How long a record waits for its owner or a cgroup, ns: longer than a look-up in /proc may take.
pub(super) const OWNER_WAIT_NS: u64 = 15_000_000_000;
/// Records held back at most when they are released. Beyond that, the oldest are released as they are, each with the reason why its owner
/// is unknown.
pub(super) const CAPACITY: usize = 65_536;

/// A queue of records in order of arrival. The first may wait for a reset or for its owner; all others wait behind it. The queue has
/// [`CAPACITY`] records at most, and those of one batch of the source, 1,024. Each waits for [`OWNER_WAIT_NS`] at most, or until what came
/// with it is read.
#[derive(Debug)]
pub struct Holdback<T> {
    reasons: Reasons,
    queue: VecDeque<HeldRecord<T>>,
    /// Records released so far. The number of a record less this is its index in the queue.
    released: u64,
    /// Numbers of the records in the queue that wait for the owner of a socket, by its inode number, oldest first.
    awaiting_owner: HashMap<NonZeroU32, VecDeque<u64>>,
    /// Whether records without an owner wait for one.
    waits_for_owners: bool,
    /// Missed resets, counted before any record still to come was made; `None` where resets are not watched.
    missed_before: Option<u64>,
    /// Missed resets by the latest count.
    missed_now: Option<u64>,
}

/// A record that is held back no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Released<T> {
    /// The record.
    pub record: T,
    /// How its connection ended, if it did.
    pub ending: Option<Ending>,
    /// Why its owner is unknown, if it is.
    pub unknown: Option<UnknownOwner>,
}

/// A record held back.
#[derive(Debug)]
struct HeldRecord<T> {
    record: T,
    /// Inode number of the socket, where the record waits for its owner.
    awaits_owner_of: Option<NonZeroU32>,
    /// Why its owner is unknown.
    unknown: Option<UnknownOwner>,
    /// Missed resets, counted before the record was made.
    missed_before: Option<u64>,
}

impl<T: TraceRecord> Holdback<T> {
    /// An empty queue. `reasons` decodes the kernel's reset reasons. `missed_resets` is the number missed so far; `None` where
    /// resets are not watched.
    #[must_use]
    pub fn new(reasons: Reasons, missed_resets: Option<u64>, waits_for_owners: bool) -> Self {
        Self {
            reasons,
            queue: VecDeque::new(),
            released: 0,
            awaiting_owner: HashMap::new(),
            waits_for_owners,
            missed_before: missed_resets,
            missed_now: missed_resets,
        }
    }

    /// Appends a record.
    pub fn push(&mut self, record: T) {
        let awaits_owner_of = record.event().asks_owner().filter(|_| self.waits_for_owners);
        if let Some(inode) = awaits_owner_of {
            let number = self.released + self.queue.len() as u64;
            self.awaiting_owner.entry(inode).or_default().push_back(number);
        }
        let unknown = match (record.event().owner, record.event().inode) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(UnknownOwner::NotScanned),
            (None, None) => Some(UnknownOwner::NoDescriptor),
        };
        self.queue.push_back(HeldRecord {
            record,
            awaits_owner_of,
            unknown,
            missed_before: self.missed_before,
        });
    }

    /// Takes the number of missed resets, counted after the stream was read. `emptied` is whether the stream was read to its end.
    pub fn set_missed_resets(&mut self, resets: Option<u64>, emptied: bool) {
        if emptied {
            // A record read later was made after the stream ran empty, and so after the previous count.
            self.missed_before = self.missed_now;
        }
        self.missed_now = resets;
    }

    /// Replaces the evidence of how connection `id` ended, if its record is still held back.
    pub fn amend(&mut self, id: NonZeroU64, amended: Evidence) {
        let mut events = self.queue.iter_mut().rev().map(|entry| entry.record.event_mut());
        let event = events.find(|event| event.id == Some(id));
        if let Some(evidence) = event.and_then(|event| event.evidence.as_mut()) {
            *evidence = amended;
        }
    }

    /// Sets the owner of the oldest record that waits for the owner of socket `inode`, or why it is unknown.
    pub fn set_owner(&mut self, inode: NonZeroU32, owner: Result<Owner, UnknownOwner>) {
        let number = self.pop_awaiting(inode);
        let index = number.and_then(|number| usize::try_from(number.checked_sub(self.released)?).ok());
        if let Some(entry) = index.and_then(|index| self.queue.get_mut(index)) {
            entry.awaits_owner_of = None;
            entry.record.event_mut().owner = owner.ok();
            entry.unknown = owner.err();
        }
    }

    /// Ends the wait of the oldest record that waits for the owner of socket `inode`; returns its number.
    fn pop_awaiting(&mut self, inode: NonZeroU32) -> Option<u64> {
        let numbers = self.awaiting_owner.get_mut(&inode)?;
        let oldest = numbers.pop_front();
        if numbers.is_empty() {
            self.awaiting_owner.remove(&inode);
        }
        oldest
    }

    /// Number of records that wait for an owner.
    #[cfg(test)]
    pub(crate) fn awaiting_owner(&self) -> usize {
        self.awaiting_owner.values().map(VecDeque::len).sum()
    }

    /// Whether no record is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a record of `monotonic_ns` or before is held back.
    #[must_use]
    pub fn holds_until(&self, monotonic_ns: u64) -> bool {
        let mut times = self.queue.iter().map(|entry| entry.record.event().monotonic_ns);
        times.any(|ns| ns <= monotonic_ns)
    }

    /// Releases the first record if nothing can change it any more, or if its wait is over. It waits for a reset as long as records of
    /// that time may still be unread: all those made until `known_ns` are known. For all else it waits until `monotonic_ns`, which is now.
    /// `has_cgroups` is whether the cgroups of the processes of a record are known.
    pub fn pop(&mut self, monotonic_ns: u64, known_ns: u64, has_cgroups: impl Fn(&T) -> bool) -> Option<Released<T>> {
        let may_wait = self.queue.len() <= CAPACITY;
        let first = self.queue.front()?;
        let event = first.record.event();
        let [waited_ns, known_for_ns] = [monotonic_ns, known_ns].map(|ns| ns.saturating_sub(event.monotonic_ns));
        let may_change = event.evidence.is_some_and(|evidence| !ending::is_final(evidence));
        let asks = || first.awaits_owner_of.is_some() || !has_cgroups(&first.record);
        let waits = may_change && known_for_ns <= RESET_WAIT_NS || waited_ns <= OWNER_WAIT_NS && asks();
        if waits && may_wait {
            return None;
        }
        let entry = self.queue.pop_front()?;
        if let Some(inode) = entry.awaits_owner_of {
            self.pop_awaiting(inode);
        }
        self.released += 1;
        let all_resets_seen = entry.missed_before.is_some() && entry.missed_before == self.missed_now;
        let evidence = entry.record.event().evidence;
        Some(Released {
            ending: evidence.map(|evidence| ending::classify(evidence, &self.reasons, all_resets_seen)),
            unknown: entry.unknown,
            record: entry.record,
        })
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::evidence::{DEAD, KNOWN, RESET_AFTER, RESET_SENT};

    use super::*;
    use crate::input::Transition;
    use crate::input::owner::tests::owner;

    fn holdback(missed: Option<u64>) -> Holdback<Transition> {
        Holdback::new(Reasons::default(), missed, true)
    }

    /// A transition of connection `id`.
    fn record(monotonic_ns: u64, id: u64, evidence: Option<Evidence>) -> Transition {
        Transition {
            monotonic_ns,
            id: NonZeroU64::new(id),
            evidence,
            ..Transition::between(TcpState::Established, TcpState::CloseWait)
        }
    }

    /// A transition of connection `id` that waits for the owner of socket 100.
    fn ownerless(monotonic_ns: u64, id: u64) -> Transition {
        Transition {
            inode: NonZeroU32::new(100),
            ..record(monotonic_ns, id, None)
        }
    }

    fn id(shown: Option<Released<Transition>>) -> Option<u64> {
        shown.and_then(|shown| shown.record.id).map(NonZeroU64::get)
    }

    /// The next record at `monotonic_ns`, where all cgroups are known.
    fn pop(holdback: &mut Holdback<Transition>, monotonic_ns: u64) -> Option<Released<Transition>> {
        holdback.pop(monotonic_ns, monotonic_ns, |_| true)
    }

    fn not_final(flags: u16) -> Evidence {
        Evidence {
            flags: KNOWN | flags,
            from: 1,
            shutdown: 3,
            ..Evidence::default()
        }
    }

    #[test]
    fn an_end_waits_for_its_reset_and_later_records_wait_behind_it() {
        let mut holdback = holdback(Some(0));
        holdback.push(record(0, 1, None));
        holdback.push(record(1, 2, Some(not_final(0))));
        holdback.push(record(2, 3, None));
        assert_eq!(id(pop(&mut holdback, 3)), Some(1));
        assert_eq!(id(pop(&mut holdback, 3)), None);
        holdback.amend(NonZeroU64::new(2).unwrap(), not_final(RESET_SENT | RESET_AFTER));
        let shown = pop(&mut holdback, 3).unwrap();
        assert_eq!((id(Some(shown)), shown.ending), (Some(2), Some(Ending::ResetByUs)));
        assert_eq!(id(pop(&mut holdback, 3)), Some(3));
        assert_eq!(id(pop(&mut holdback, 3)), None);
    }

    #[test]
    fn each_record_waits_for_the_owner_of_its_socket() {
        let mut holdback = holdback(None);
        holdback.push(ownerless(0, 1));
        holdback.push(ownerless(1, 2));
        holdback.push(record(2, 3, None));
        let socket = NonZeroU32::new(100).unwrap();
        assert_eq!(id(pop(&mut holdback, 2)), None, "the first comes first");
        let nobody = Err(UnknownOwner::Exited);
        holdback.set_owner(NonZeroU32::new(7).unwrap(), nobody);
        assert_eq!(id(pop(&mut holdback, 2)), None, "it is the answer to another");
        let nginx = owner(7, "nginx");
        holdback.set_owner(socket, Ok(nginx));
        let owners = |shown: Option<Released<Transition>>| shown.map(|shown| (shown.record.owner, shown.unknown));
        assert_eq!(owners(pop(&mut holdback, 2)), Some((Some(nginx), None)));
        assert_eq!(id(pop(&mut holdback, 2)), None, "the second has its own");
        holdback.set_owner(socket, nobody);
        assert_eq!(owners(pop(&mut holdback, 2)), Some((None, Some(UnknownOwner::Exited))));
        assert_eq!(
            owners(pop(&mut holdback, 2)),
            Some((None, Some(UnknownOwner::NoDescriptor))),
            "it has no inode"
        );
        assert!(holdback.is_empty());
    }

    #[test]
    fn a_record_waits_for_the_cgroup_of_its_process_but_not_for_ever() {
        let mut holdback = holdback(None);
        holdback.push(record(0, 1, None));
        assert_eq!(id(holdback.pop(OWNER_WAIT_NS, OWNER_WAIT_NS, |_| false)), None);
        assert_eq!(id(holdback.pop(OWNER_WAIT_NS, OWNER_WAIT_NS, |_| true)), Some(1));
        holdback.push(record(0, 2, None));
        assert_eq!(
            id(holdback.pop(OWNER_WAIT_NS + 1, OWNER_WAIT_NS + 1, |_| false)),
            Some(2)
        );
    }

    #[test]
    fn no_record_waits_for_an_owner_unless_owners_are_needed() {
        let mut holdback = Holdback::new(Reasons::default(), None, false);
        holdback.push(ownerless(0, 1));
        assert_eq!(id(pop(&mut holdback, 0)), Some(1));
    }

    #[test]
    fn a_missed_reset_makes_every_end_that_it_may_belong_to_unknown() {
        let closed_first = Evidence {
            flags: KNOWN | DEAD,
            from: 5,
            ..Evidence::default()
        };
        let endings = |resets: [Option<u64>; 4]| {
            let mut holdback = holdback(resets[0]);
            for reading in &resets[1..] {
                holdback.push(record(0, 1, Some(closed_first)));
                holdback.set_missed_resets(*reading, true);
            }
            [0, 1, 2].map(|_| pop(&mut holdback, u64::MAX).and_then(|shown| shown.ending))
        };
        let (known, unknown) = (Some(Ending::ClosedFirst), Some(Ending::Unknown));
        assert_eq!(endings([Some(3); 4]), [known; 3]);
        // The reset may have been missed after the second record was made, before the second count.
        let one = [Some(3), Some(3), Some(4), Some(4)];
        assert_eq!(endings(one), [unknown, unknown, unknown]);
        let one = [Some(3), Some(4), Some(4), Some(4)];
        assert_eq!(endings(one), [unknown, unknown, known]);
        assert_eq!(endings([None; 4]), [unknown; 3], "resets are not watched");
    }

    #[test]
    fn every_wait_ends() {
        let mut held = holdback(Some(0));
        held.push(record(1, 2, Some(not_final(0))));
        held.push(ownerless(1, 3));
        assert_eq!(id(pop(&mut held, 2)), None);
        assert_eq!(pop(&mut held, RESET_WAIT_NS + 2).unwrap().ending, Some(Ending::Unknown));
        assert_eq!(id(pop(&mut held, RESET_WAIT_NS + 2)), None);
        assert_eq!(id(pop(&mut held, OWNER_WAIT_NS + 2)), Some(3));
        for more in 1..=CAPACITY as u64 + 1 {
            held.push(ownerless(1, more));
        }
        assert_eq!((id(pop(&mut held, 2)), id(pop(&mut held, 2))), (Some(1), None));
    }
}
