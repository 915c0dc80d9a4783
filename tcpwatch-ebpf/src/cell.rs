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

/// `BPF_ATOMIC | BPF_ADD`, which every kernel has; the compiler offers atomics for newer instruction sets alone.
#[inline(always)]
pub(crate) fn add_atomically(cell: *mut u64, by: u64) {
    // SAFETY: the cell is aligned and in a map, as the verifier proves.
    unsafe { asm!("lock *(u64 *)({cell} + 0) += {by}", cell = in(reg) cell, by = in(reg) by) };
}
