//! The stream of records.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;
use crate::input::Record;

/// The reading end of the ring buffer. Made within a tokio runtime.
pub struct Stream {
    ring: AsyncFd<RingBuf<MapData>>,
    undecoded: u64,
}

impl Stream {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring buffer owns its descriptor, and what is registered owns the ring buffer: they go together.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring, undecoded: 0 })
    }

    /// Waits until the kernel side says that a share of the ring is filled. It does not say so for less: come by on a
    /// timer as well.
    ///
    /// # Errors
    /// The poll fails.
    pub async fn filled(&self) -> io::Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes what is there, at most `most` records; how many there were.
    pub fn drain(&mut self, most: usize, mut each: impl FnMut(Record)) -> usize {
        let to_unix_ns = clock::kernel_to_unix_ns();
        let ring = self.ring.get_mut();
        let mut taken = 0;
        while taken < most
            && let Some(item) = ring.next()
        {
            taken += 1;
            match Record::decode(&item, to_unix_ns) {
                Some(record) => each(record),
                None => self.undecoded += 1,
            }
        }
        taken
    }

    /// Records that could not be read: lost, too.
    #[must_use]
    pub fn undecoded(&self) -> u64 {
        self.undecoded
    }
}
