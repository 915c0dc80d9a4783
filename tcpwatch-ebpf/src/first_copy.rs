//! Whether the first copy of the programs is running on this CPU, under the second.
//!
//! The kernel skips a `tp_btf` program that would run inside itself on a CPU. It counts the runs under way there (`bpf_prog.active`,
//! `__bpf_trace_run` in kernel/trace/bpf_trace.c). The kernel calls both copies for each event, one after the other. So the first was
//! skipped exactly where its count is not zero when the second is called, and the second handles the event.
//!
//! On preemptible kernels since Linux 7.0 another task may run between the two calls, and be in the first copy itself: an event may
//! then be handled twice, or missed. The next walk of the sockets puts the counts right.

use core::ptr;

use crate::maps::{FIRST_COPY, STAGES_TYPED2};
use crate::params::param;
use crate::sock::probe;
use tcpwatch_common::names::FIRST_ENTRY;

/// What one CPU knows of the first copy.
#[repr(C)]
pub(crate) struct FirstCopy {
    /// Where the kernel keeps the count for this CPU; 0 until it is found.
    count: u64,
    /// Pointers as numbers: to this entry, and to two maps. The verifier lets a program store a pointer, but not compute with it.
    here: u64,
    entries: u64,
    stages: u64,
}

/// The address `pointer` as a number, by way of `place`.
#[inline(always)]
fn number<T>(place: &mut u64, pointer: *const T) -> u64 {
    let place: *mut u64 = place;
    // SAFETY: a word of a map. Volatile, so that it is stored and loaded.
    unsafe {
        place.write_volatile(pointer as u64);
        place.read_volatile()
    }
}

impl FirstCopy {
    /// Finds the count of this CPU; 0 where it cannot be read. The distance between it and this entry is the same on every CPU, as
    /// between any two things that the kernel keeps for each CPU.
    #[inline(always)]
    fn find(&mut self) -> u64 {
        let values = param!(PARAMS.array_values);
        let own = ptr::from_ref(self);
        let here = number(&mut self.here, own);
        let entries = number(&mut self.entries, &raw const FIRST_COPY);
        let stages = number(&mut self.stages, &raw const STAGES_TYPED2);
        let of_all_cpus: u64 = probe(entries as *const u8, values);
        let first: u64 = probe(stages as *const u8, values + FIRST_ENTRY * 8);
        let count: u64 = probe(first as *const u8, param!(PARAMS.prog_active));
        if of_all_cpus == 0 || first == 0 || count == 0 {
            return 0;
        }
        here - of_all_cpus + count
    }
}

/// Whether the first copy is running on this CPU.
#[inline(always)]
pub(crate) fn is_running() -> bool {
    let Some(first) = FIRST_COPY.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry of this CPU. A run that interrupts this one writes the same numbers.
    let first = unsafe { &mut *first };
    if first.count == 0 {
        first.count = first.find();
    }
    first.count != 0 && probe::<u32>(first.count as *const u8, 0) != 0
}
