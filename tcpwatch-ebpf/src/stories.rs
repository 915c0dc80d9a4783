//! What is told of a connection at its end: whose it is, and how long it was in each state.

use tcpwatch_common::Owner;
use tcpwatch_common::event::spent_index;
use tcpwatch_common::ledger::STATES;

use crate::lives::{self, Life};

/// One connection's story. With its life and 72 bytes of the kernel's own it takes 256.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Story {
    /// Time spent in each state, ns ([`tcpwatch_common::event::SPENT`]).
    pub(crate) spent_ns: [u64; 8],
    /// Whose it is.
    pub(crate) owner: Owner,
    /// Who closed it, where that is another process; 0 for none.
    pub(crate) closer_pid: u32,
    /// Padding.
    pub(crate) reserved: u32,
    /// Its name.
    pub(crate) closer_comm: [u8; 16],
}

const _: () = assert!(size_of::<Story>() == 120);

/// A life with its story.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Told {
    pub(crate) life: Life,
    pub(crate) story: Story,
}

/// Nothing to tell, where the stack has no room for it.
pub(crate) static NOTHING: Told = Told {
    life: lives::UNKNOWN,
    story: Story {
        spent_ns: [0; 8],
        owner: Owner::UNKNOWN,
        closer_pid: 0,
        reserved: 0,
        closer_comm: [0; 16],
    },
};

impl Story {
    /// Starts another life's.
    #[inline(always)]
    pub(crate) fn begin(&mut self) {
        // SAFETY: what is initialised may be written again, and zeros are a story.
        unsafe { lives::zeros::<Self>(&mut *core::ptr::from_mut(self).cast()) };
    }

    /// Adds `ns` to the time spent in the state of number `state`.
    #[inline(always)]
    pub(crate) fn spend(&mut self, state: u32, ns: u64) {
        if (state as usize) < STATES
            && let Some(place) = spent_index(state as u8)
        {
            self.spent_ns[place & 7] += ns;
        }
    }
}
