//! Copies and clears memory word by word. The compiler calls functions for plain copies, and their loops run byte by byte.

use core::ptr;

/// Writes zeros to `place`.
///
/// # Safety
/// Zeros are a `T`, and its size is a multiple of 8.
#[inline(always)]
pub(crate) unsafe fn clear<T>(place: &mut T) {
    const { assert!(size_of::<T>() % 8 == 0) };
    let words = ptr::from_mut(place).cast::<u64>();
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: it has that many words.
        unsafe { words.add(index).write_volatile(0) };
    }
}

/// Copies `from` to `to`, whose size is a multiple of 8.
#[inline(always)]
pub(crate) fn copy<T: Copy>(to: &mut T, from: &T) {
    const { assert!(size_of::<T>() % 8 == 0) };
    let (to, from) = (ptr::from_mut(to).cast::<u64>(), ptr::from_ref(from).cast::<u64>());
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: both have that many words.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
}

/// Writes four numbers.
#[inline(always)]
pub(crate) fn put(to: &mut [u32; 4], from: [u32; 4]) {
    for index in 0..4 {
        // SAFETY: a place of the array.
        unsafe { ptr::from_mut(&mut to[index]).write_volatile(from[index]) };
    }
}
