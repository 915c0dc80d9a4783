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

    /// What is readable when a stack is there, since all before were taken.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's, and is open as long as what is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }

    /// Takes the next, if there is one: `each` is given what is told with it, and the stack from the stack pointer upwards.
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
