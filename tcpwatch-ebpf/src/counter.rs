//! Adds to counters in maps.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};

/// Adds one to `counter`. No other run may write it meanwhile.
#[inline(always)]
pub(crate) fn inc(counter: &Cell<u64>) {
    add(counter, 1);
}

/// Adds `by` to `counter`, wrapping. No other run may write it meanwhile.
#[inline(always)]
pub(crate) fn add(counter: &Cell<u64>, by: i64) {
    counter.set(counter.get().wrapping_add_signed(by));
}

/// A number in a map that other runs read and write too: whole, or by adding to it. Every kernel has `BPF_ATOMIC | BPF_ADD`, but
/// the compiler has atomics only for newer instruction sets.
#[repr(transparent)]
pub(crate) struct Shared<T>(UnsafeCell<T>);

impl<T: Copy> Shared<T> {
    /// The number at `place`.
    ///
    /// # Safety
    /// The verifier proves that it is an aligned number of a map. While this is used, no program reaches it in another way.
    #[inline(always)]
    pub(crate) unsafe fn at<'a>(place: *mut T) -> &'a Self {
        // SAFETY: the caller guarantees this; both types have the same representation.
        unsafe { &*place.cast() }
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        // SAFETY: a number of a map, read whole.
        unsafe { self.0.get().read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: T) {
        // SAFETY: a number of a map, written whole.
        unsafe { self.0.get().write_volatile(value) };
    }
}

impl Shared<u64> {
    /// Adds `by`, wrapping.
    #[inline(always)]
    pub(crate) fn add(&self, by: u64) {
        // SAFETY: the number is aligned and in a map, as the verifier proves.
        unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) self.0.get(), by = in(reg) by) };
    }
}

impl Shared<u32> {
    /// Adds `by`, wrapping.
    #[inline(always)]
    pub(crate) fn add(&self, by: u32) {
        // SAFETY: the number is aligned and in a map, as the verifier proves.
        unsafe { asm!("lock *(u32 *)({counter} + 0) += {by}", counter = in(reg) self.0.get(), by = in(reg) by as u64) };
    }
}
