//! The ledger: what the kernel side counts for every transition, one copy a CPU.

use bytemuck::{Pod, Zeroable};

/// Cells a side of the transition matrix: the kernel's state numbers, rounded up to a power of two.
pub const STATES: usize = 16;

/// One CPU's counts. The sum over the CPUs is the truth; one CPU's `sockets` may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ledger {
    /// Transitions within the filter, `moves[from][to]`.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets in each state, as moved by transitions, in two banks: a new count starts in the idle one.
    pub sockets: [[i64; STATES]; 2],
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Transitions of sockets there was no room to remember (`optmem_max`; the classic hook's table full).
    pub unmarked: u64,
    /// Openings kept with their socket until the filter could be decided.
    pub held: u64,
    /// Lives numbered on this CPU; see [`crate::Transition::id`].
    pub lives: u64,
}

const _: () = assert!(size_of::<Ledger>() == 16 * 16 * 8 + 2 * 16 * 8 + 4 * 8);

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
    /// Full sockets that could not be marked, the kernel giving no storage.
    pub unmarked: u64,
}

/// Words of 8 bytes in a [`Pass`].
pub const PASS_WORDS: usize = size_of::<Pass>() / 8;

impl Ledger {
    /// Adds `other`'s counts to these, wrapping (one CPU's part may wrap where the sum does not).
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
        self.lost = self.lost.wrapping_add(other.lost);
        self.unmarked = self.unmarked.wrapping_add(other.unmarked);
        self.held = self.held.wrapping_add(other.held);
        self.lives = self.lives.wrapping_add(other.lives);
    }
}
