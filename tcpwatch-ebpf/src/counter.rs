//! Adds to counters in maps.

use core::arch::asm;

/// Adds one to `counter`. No other run may write it meanwhile.
#[inline(always)]
pub(crate) fn inc(counter: &mut u64) {
    *counter += 1;
}

/// Adds `by` to a word that other CPUs also change, wrapping.
#[inline(always)]
pub(crate) fn add_word_atomically(word: &mut u32, by: u32) {
    let word: *mut u32 = word;
    // SAFETY: the word is aligned and in a map, as the verifier proves.
    unsafe { asm!("lock *(u32 *)({word} + 0) += {by}", word = in(reg) word, by = in(reg) by as u64) };
}

/// Adds `by` to `counter`, which interrupting runs also change. Every kernel has `BPF_ATOMIC | BPF_ADD`, but the compiler has
/// atomics only for newer instruction sets.
#[inline(always)]
pub(crate) fn add_atomically(counter: *mut u64, by: u64) {
    // SAFETY: the counter is aligned and in a map, as the verifier proves.
    unsafe { asm!("lock *(u64 *)({counter} + 0) += {by}", counter = in(reg) counter, by = in(reg) by) };
}
