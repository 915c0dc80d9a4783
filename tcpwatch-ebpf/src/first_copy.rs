//! Whether the first copy of the programs was skipped, as the second sees it.
//!
//! The kernel skips a `tp_btf` program that would run inside itself on a CPU. It counts the runs under way there (`bpf_prog.active`,
//! `__bpf_trace_run` in kernel/trace/bpf_trace.c). The kernel calls both copies for each event, one after the other. So the first was
//! skipped exactly where its count is not zero when the second is called, and the second handles the event.
//!
//! Since Linux 7.0 another thread may run between the two calls, and be in the first copy then. So there each copy also notes the last
//! event of each socket, and the second leaves alone what the first has noted: between the two calls nothing else happens to the
//! socket. Where the run that kept the first copy from an event ends between the two calls, nobody handles the event: it is counted as
//! missed.

use core::ptr;

use tcpwatch_common::ledger::COPIES;
use tcpwatch_common::names::FIRST_ENTRY;
use tcpwatch_common::params::LAST_EVENTS_BITS;

use crate::hook::{Hook, SECOND};
use crate::maps::{FIRST_COPY, LAST_EVENTS, STAGES_TYPED2};
use crate::params::param;
use crate::sock::probe;

/// What one CPU knows of the first copy.
#[repr(C)]
pub(crate) struct FirstCopy {
    /// Where the kernel keeps the count for this CPU; 0 until it is found.
    count: u64,
    /// Pointers as numbers: to this entry, and to two maps. The verifier lets a program store a pointer, but not compute with it.
    here: u64,
    entries: u64,
    stages: u64,
    /// The address of a socket, likewise, for each copy.
    sockets: [u64; COPIES as usize],
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

/// Whether this copy is the one that handles the event.
#[inline(always)]
pub(crate) fn is_ours<H: Hook>(hook: &H) -> bool {
    if H::COPY == SECOND && !is_running() {
        return false;
    }
    let was_noted = param!(PARAMS.preemptible) != 0 && note(hook);
    H::COPY != SECOND || !was_noted
}

/// Notes the event as the last one of its socket; whether it was noted already. Sockets whose addresses have the same hash share a
/// place.
#[inline(always)]
fn note<H: Hook>(hook: &H) -> bool {
    let Some(first) = FIRST_COPY.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry of this CPU. No run of the same copy interrupts this one here.
    let first = unsafe { &mut *first };
    let socket = number(&mut first.sockets[H::COPY as usize], hook.address() as *const u8);
    // Fibonacci hashing: the upper bits of the product.
    let place = socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - LAST_EVENTS_BITS);
    let Some(last) = LAST_EVENTS.get_ptr_mut(place as u32) else {
        return false;
    };
    let step = hook.step();
    // Addresses of the kernel differ in their lower 56 bits, and a state has 4.
    let event = socket << 8 | (step.from << 4 | step.to) as u64;
    // SAFETY: an aligned word of a map. Other CPUs write whole words too.
    unsafe {
        let was_noted = last.read_volatile() == event;
        last.write_volatile(event);
        was_noted
    }
}

/// Whether the first copy is running on this CPU.
#[inline(always)]
fn is_running() -> bool {
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
