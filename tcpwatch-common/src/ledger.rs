//! The ledger: counters that the BPF programs update at every transition, separate for each CPU.

use bytemuck::{Pod, Zeroable};

use crate::evidence::{ENDS, EndCount};

/// Rows and columns of the transition matrix: the kernel's state numbers, rounded up to a power of two.
pub const STATES: usize = 16;

/// Copies of the programs, with separate banks. The second copy handles events for which the kernel skips the first.
pub const COPIES: u32 = 2;
/// Runs of one copy that can be active on a CPU at once: one in a task, and one in a softirq that interrupts it.
pub const LEVELS: u32 = 2;
/// Ledgers of a CPU: one for each level of each copy, and one for the programs on other events. Runs that may interrupt each
/// other write different ledgers, so plain additions are enough. The last ledger needs atomic additions.
pub const BANKS: u32 = COPIES * LEVELS + 1;

/// The counts of one bank of one CPU. Only the sum over all banks is meaningful; `sockets` of one bank may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ledger {
    /// Transitions that match the filter, `moves[from][to]`.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets in each state, changed by transitions, in two banks. A new count starts in the idle bank.
    pub sockets: [[i64; STATES]; 2],
    /// Transitions of sockets that match the filter, in any states.
    pub transitions: u64,
    /// Records written to the ring buffer.
    pub sent: u64,
    /// Records lost because the ring buffer was full.
    pub lost: u64,
    /// Transitions of sockets without room for their state (`optmem_max`, or the table of the classic hook was full).
    pub unremembered: u64,
    /// Openings held back until the filter can be decided.
    pub held: u64,
    /// Held-back openings that were decided since.
    pub released: u64,
    /// Connections numbered on this CPU; see [`crate::Transition::id`].
    pub lives: u64,
    /// Accepting processes lost because the map of accepted sockets was full.
    pub unkept_owners: u64,
    /// Waits for `accept()` that are not measured: there was no room for the time of their start.
    pub unmeasured: u64,
    /// Retransmitted segments: SYN, SYN-ACK, and all others.
    pub retransmits: [u64; 3],
    /// User stacks lost because their ring buffer was full.
    pub lost_stacks: u64,
    /// Missed resets: no room for the amendment ([`crate::record::Amendment`]) in the ring buffer, no room for the state of the
    /// socket, or the reset interrupted another one.
    pub missed_resets: u64,
    /// Endings without room in `ends`.
    pub uncounted_ends: u64,
    /// Events that the second copy handled because the kernel skipped the first, before any filter.
    pub taken_over: u64,
    /// Events of runs that were nested deeper than [`LEVELS`].
    pub too_deep: u64,
    /// Finished connections, by evidence. Each CPU has its own entries, in any order.
    pub ends: [EndCount; ENDS],
}

const _: () = assert!(size_of::<Ledger>() == 16 * 16 * 8 + 2 * 16 * 8 + 17 * 8 + ENDS * 16);

/// The current count of sockets, as stored in the map `COUNT`: its number, and whether sockets are being marked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count(pub u32);

impl Count {
    /// Set while sockets are being marked. Only a mark then shows whether a socket is already counted.
    const MARKING: u32 = 1;

    /// The next count: all marks of this one become void, and sockets are being marked.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(((self.0 >> 1).wrapping_add(1) << 1) | Self::MARKING)
    }

    /// This count after all sockets are in it. Transitions alone keep it from now on.
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

    /// The value of a mark of this count, different from older counts.
    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> u8 {
        (self.0 >> 1 & 0xff) as u8
    }

    /// The bank of [`Ledger::sockets`] for this count.
    #[inline(always)]
    #[must_use]
    pub const fn bank(self) -> usize {
        (self.0 >> 1 & 1) as usize
    }
}

/// The result of an iterator pass, by state number: the sockets that it marked, or all sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Pass {
    /// Full sockets.
    pub full: [u64; STATES],
    /// Request sockets (half-open).
    pub request: [u64; STATES],
    /// Timewait sockets, by substate: `TIME_WAIT` or `FIN_WAIT2`.
    pub timewait: [u64; STATES],
    /// Full sockets without a mark, because the kernel had no room for it (`optmem_max`).
    pub refused: [u64; STATES],
}

/// Index in the map of passes for plain counts. The other entries are the banks of marks.
pub const PLAIN_PASS: u32 = 2;

/// Words of 8 bytes in a [`Pass`].
pub const PASS_WORDS: usize = size_of::<Pass>() / 8;

impl Pass {
    /// Adds the counts of `other`.
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
    /// Adds the counts of `other`, wrapping, because one CPU's part may wrap where the sum does not. Leaves out `ends`: all
    /// CPUs together may have more kinds of endings than one ledger has entries.
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
