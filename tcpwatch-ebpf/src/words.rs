//! Copies and clears memory word by word. For plain copies the compiler calls functions that loop byte by byte.

use core::ptr;

/// Writes zeros to `place`.
///
/// # Safety
/// Zeros must be a valid `T`, and its size must be a multiple of 8.
#[inline(always)]
pub(crate) unsafe fn clear<T>(place: &mut T) {
    const { assert!(size_of::<T>() % 8 == 0) };
    let words = ptr::from_mut(place).cast::<u64>();
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: the value has that many words.
        unsafe { words.add(index).write_volatile(0) };
    }
}

/// Copies `from` to `to`. The size is a multiple of 8.
#[inline(always)]
pub(crate) fn copy<T: Copy>(to: &mut T, from: &T) {
    const { assert!(size_of::<T>() % 8 == 0) };
    let (to, from) = (ptr::from_mut(to).cast::<u64>(), ptr::from_ref(from).cast::<u64>());
    for index in 0..size_of::<T>() / 8 {
        // SAFETY: both values have that many words.
        unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
    }
}

/// Writes four numbers.
#[inline(always)]
pub(crate) fn put(to: &mut [u32; 4], from: [u32; 4]) {
    for index in 0..4 {
        // SAFETY: the index is within the array.
        unsafe { ptr::from_mut(&mut to[index]).write_volatile(from[index]) };
    }
}
