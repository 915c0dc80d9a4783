//! Reads records from the ring buffer.

use std::io;

use aya::maps::{MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::clock;
use crate::input::Record;

/// The reading end of the ring buffer. Needs a tokio runtime.
pub struct Stream {
    ring: AsyncFd<RingBuf<MapData>>,
    undecoded: u64,
}

impl Stream {
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        // SAFETY: the ring buffer owns its descriptor, and the registration owns the ring buffer.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?;
        Ok(Self { ring, undecoded: 0 })
    }

    /// Waits until a part of the ring buffer is filled. The kernel side does not wake the reader for fewer records, so also
    /// read on a timer.
    ///
    /// # Errors
    /// The poll fails.
    pub async fn filled(&self) -> io::Result<()> {
        self.ring.readable().await?.clear_ready();
        Ok(())
    }

    /// Takes the available records, at most `most`. Returns their number.
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

    /// Number of records that could not be decoded. They are lost.
    #[must_use]
    pub fn undecoded(&self) -> u64 {
        self.undecoded
    }
}
