//! What is told of a connection at its end: whose it is, and how long it was in each state.

use tcpwatch_common::Owner;
use tcpwatch_common::event::spent_index;
use tcpwatch_common::ledger::STATES;

use crate::lives;
use crate::maps::{STORIES, STORIES_BY_ADDRESS};

/// One connection's story. The kernel charges it as it does a life, with 72 bytes of its own, and takes 192 for both.
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

/// Nothing to tell, where the stack has no room for it.
static NOTHING: Story = Story {
    spent_ns: [0; 8],
    owner: Owner::UNKNOWN,
    closer_pid: 0,
    reserved: 0,
    closer_comm: [0; 16],
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

/// The story kept with the typed socket `sk`, made where there is none and `create`; `None` where the kernel refuses.
#[inline(always)]
pub(crate) fn of_socket<'a>(sk: *const u8, create: bool) -> Option<&'a mut Story> {
    lives::stored(&STORIES, sk, create)
}

/// The story kept for the socket at `address`, made where there is none and `create`; `None` when the table is full.
#[inline(always)]
pub(crate) fn of_address<'a>(address: u64, create: bool) -> Option<&'a mut Story> {
    let mut story = STORIES_BY_ADDRESS.get_ptr_mut(&address);
    if story.is_none() && create {
        STORIES_BY_ADDRESS.insert(&address, &NOTHING, 0).ok()?;
        story = STORIES_BY_ADDRESS.get_ptr_mut(&address);
    }
    // SAFETY: nobody else uses the entry of a socket that is locked while this program runs for it.
    unsafe { story?.as_mut() }
}

/// Forgets the socket at `address`.
#[inline(always)]
pub(crate) fn forget_address(address: u64) {
    let _gone_already = STORIES_BY_ADDRESS.remove(&address);
}
