//! Adding to a cell of the ledger.

use core::arch::asm;

use crate::params::param;

/// Adds one to `cell`.
#[inline(always)]
pub(crate) fn bump(cell: &mut u64) {
    if param!(PARAMS.nests) != 0 {
        add_atomically(cell, 1);
    } else {
        *cell += 1;
    }
}

/// Adds `by` to `cell`.
#[inline(always)]
pub(crate) fn shift(cell: &mut i64, by: i64) {
    if param!(PARAMS.nests) != 0 {
        add_atomically((cell as *mut i64).cast(), by as u64);
    } else {
        *cell += by;
    }
}

/// Adds `by` to a word that other CPUs add to, wrapping.
#[inline(always)]
pub(crate) fn add_word_atomically(word: &mut u32, by: u32) {
    let word: *mut u32 = word;
    // SAFETY: the word is aligned and in a map, as the verifier proves.
    unsafe { asm!("lock *(u32 *)({word} + 0) += {by}", word = in(reg) word, by = in(reg) by as u64) };
}

/// `BPF_ATOMIC | BPF_ADD`, which every kernel has; the compiler offers atomics for newer instruction sets alone.
#[inline(always)]
pub(crate) fn add_atomically(cell: *mut u64, by: u64) {
    // SAFETY: the cell is aligned and in a map, as the verifier proves.
    unsafe { asm!("lock *(u64 *)({cell} + 0) += {by}", cell = in(reg) cell, by = in(reg) by) };
}
