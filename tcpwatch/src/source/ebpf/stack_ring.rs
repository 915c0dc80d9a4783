//! The ring buffer of user stacks.

use std::os::fd::{AsRawFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};
use tcpwatch_common::StackHead;

/// The reading end of the ring buffer of stacks.
pub struct StackRing(RingBuf<MapData>);

impl StackRing {
    pub(super) fn new(ring: RingBuf<MapData>) -> Self {
        Self(ring)
    }

    /// The descriptor to poll. It becomes readable when there is a new stack and all earlier stacks were taken.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to the ring, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }

    /// Takes the next stack, if any. Calls `each` with its head and its bytes from the stack pointer upwards.
    pub fn next<T>(&mut self, each: impl FnOnce(&StackHead, &[u8]) -> T) -> Option<T> {
        loop {
            let item = self.0.next()?;
            let Some((head, stack)) = item.split_at_checked(size_of::<StackHead>()) else {
                continue;
            };
            let head: StackHead = bytemuck::pod_read_unaligned(head);
            let Some(stack) = stack.get(..head.copied as usize) else {
                continue;
            };
            return Some(each(&head, stack));
        }
    }
}
