//! The ledger: what the kernel side counts for every transition, one copy a CPU.

use bytemuck::{Pod, Zeroable};

use crate::evidence::{ENDS, EndCount};

/// Cells a side of the transition matrix: the kernel's state numbers, rounded up to a power of two.
pub const STATES: usize = 16;

/// Copies of the programs, each with banks of its own: the second handles the events that the kernel skips in the first.
pub const COPIES: u32 = 2;
/// Runs of one copy that may be under way on a CPU at once: one in a task, and one in a softirq that interrupts it.
pub const LEVELS: u32 = 2;
/// Ledgers a CPU: one for each level of each copy, and one for the programs on other events. Runs that may interrupt each other
/// write different ledgers, so plain additions are enough; the last one is added to atomically.
pub const BANKS: u32 = COPIES * LEVELS + 1;

/// The counts of one bank of one CPU. The sum over all is the truth; the `sockets` of one may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ledger {
    /// Transitions within the filter, `moves[from][to]`.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets in each state, as moved by transitions, in two banks: a new count starts in the idle one.
    pub sockets: [[i64; STATES]; 2],
    /// Transitions of sockets within the filter, whatever their states.
    pub transitions: u64,
    /// Records for which there was room in the ring buffer.
    pub sent: u64,
    /// Records that found none.
    pub lost: u64,
    /// Transitions of sockets there was no room to remember (`optmem_max`; the classic hook's table full).
    pub unremembered: u64,
    /// Openings kept with their socket until the filter could be decided.
    pub held: u64,
    /// Those of them that were decided since.
    pub released: u64,
    /// Lives numbered on this CPU; see [`crate::Transition::id`].
    pub lives: u64,
    /// Owners there was no room to keep until their socket's next transition.
    pub unkept_owners: u64,
    /// Lengths of time there was no room to count, nor under their group's name nor any other.
    pub unmeasured: u64,
    /// Segments sent again: SYN, SYN-ACK, and any other.
    pub retransmits: [u64; 3],
    /// Stacks for which there was no room in their ring buffer.
    pub lost_stacks: u64,
    /// Resets that changed nothing they should have: there was no room for the amendment ([`crate::event::Amendment`]) in the ring
    /// buffer, or none for the state of the socket; or they interrupted another.
    pub missed_resets: u64,
    /// Ends there was no place to count in `ends`.
    pub uncounted_ends: u64,
    /// Events that the kernel skipped in the first copy and the second copy handled, before any filter.
    pub taken_over: u64,
    /// Events of runs that were nested deeper than [`LEVELS`].
    pub too_deep: u64,
    /// Connections ended, by what is known of it: one CPU's places are its own, in no order.
    pub ends: [EndCount; ENDS],
}

const _: () = assert!(size_of::<Ledger>() == 16 * 16 * 8 + 2 * 16 * 8 + 17 * 8 + ENDS * 16);

/// The count of sockets that is kept now, as the map of that name holds it: a number, and whether sockets are being marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u32);

impl Count {
    /// Set while sockets are being marked: only marks tell those counted already from those not yet.
    const MARKING: u32 = 1;

    /// The count after this one: every mark of this one is void, and sockets are being marked.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(((self.0 >> 1).wrapping_add(1) << 1) | Self::MARKING)
    }

    /// This count with every socket in it: transitions alone keep it from now on.
    #[must_use]
    pub const fn complete(self) -> Self {
        Self(self.0 & !Self::MARKING)
    }

    /// Whether sockets are being marked.
    #[inline(always)]
    #[must_use]
    pub const fn is_marking(self) -> bool {
        self.0 & Self::MARKING != 0
    }

    /// What a mark of this count says, to be told from older ones.
    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> u8 {
        (self.0 >> 1 & 0xff) as u8
    }

    /// The bank of [`Ledger::sockets`] it is kept in.
    #[inline(always)]
    #[must_use]
    pub const fn bank(self) -> usize {
        (self.0 >> 1 & 1) as usize
    }
}

/// What an iterator pass counted: the sockets it marked, or all it met, by state number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Pass {
    /// Full sockets.
    pub full: [u64; STATES],
    /// Request sockets (half-open).
    pub request: [u64; STATES],
    /// Timewait sockets, by their substate: `TIME_WAIT`, or `FIN_WAIT2`.
    pub timewait: [u64; STATES],
    /// Full sockets that took no mark, the kernel giving no room (`optmem_max`).
    pub refused: [u64; STATES],
}

/// Entry of the map of passes for plain counts; the others are the banks of marks.
pub const PLAIN_PASS: u32 = 2;

/// Words of 8 bytes in a [`Pass`].
pub const PASS_WORDS: usize = size_of::<Pass>() / 8;

impl Pass {
    /// Adds `other`'s counts to these.
    pub fn add(&mut self, other: &Self) {
        for state in 0..STATES {
            self.full[state] += other.full[state];
            self.request[state] += other.request[state];
            self.timewait[state] += other.timewait[state];
            self.refused[state] += other.refused[state];
        }
    }
}

impl Ledger {
    /// Adds `other`'s counts to these, wrapping (one CPU's part may wrap where the sum does not). Not its `ends`: all CPUs together may
    /// have more kinds of them than one ledger has places.
    pub fn add(&mut self, other: &Self) {
        for from in 0..STATES {
            for to in 0..STATES {
                self.moves[from][to] = self.moves[from][to].wrapping_add(other.moves[from][to]);
            }
        }
        for bank in 0..2 {
            for state in 0..STATES {
                self.sockets[bank][state] = self.sockets[bank][state].wrapping_add(other.sockets[bank][state]);
            }
        }
        self.transitions = self.transitions.wrapping_add(other.transitions);
        self.sent = self.sent.wrapping_add(other.sent);
        self.lost = self.lost.wrapping_add(other.lost);
        self.unremembered = self.unremembered.wrapping_add(other.unremembered);
        self.held = self.held.wrapping_add(other.held);
        self.released = self.released.wrapping_add(other.released);
        self.lives = self.lives.wrapping_add(other.lives);
        self.unkept_owners = self.unkept_owners.wrapping_add(other.unkept_owners);
        self.unmeasured = self.unmeasured.wrapping_add(other.unmeasured);
        for (mine, theirs) in self.retransmits.iter_mut().zip(other.retransmits) {
            *mine = mine.wrapping_add(theirs);
        }
        self.lost_stacks = self.lost_stacks.wrapping_add(other.lost_stacks);
        self.missed_resets = self.missed_resets.wrapping_add(other.missed_resets);
        self.uncounted_ends = self.uncounted_ends.wrapping_add(other.uncounted_ends);
        self.taken_over = self.taken_over.wrapping_add(other.taken_over);
        self.too_deep = self.too_deep.wrapping_add(other.too_deep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_alternate_between_the_banks_and_are_marked_then_complete() {
        let first = Count::default();
        assert_eq!((first.bank(), first.epoch(), first.is_marking()), (0, 0, false));
        let second = first.next();
        assert_eq!((second.bank(), second.epoch(), second.is_marking()), (1, 1, true));
        let complete = second.complete();
        assert_eq!(
            (complete.bank(), complete.epoch(), complete.is_marking()),
            (1, 1, false)
        );
        assert_eq!((complete.next().bank(), complete.next().epoch()), (0, 2));
        assert_eq!(Count(u32::MAX).next().epoch(), 0);
    }
}
