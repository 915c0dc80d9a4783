//! Lets the second copy of the programs detect whether the kernel skipped the first.
//!
//! The kernel skips a `tp_btf` program that is already running on the CPU. It counts the active runs there (`bpf_prog.active`,
//! `__bpf_trace_run` in kernel/trace/bpf_trace.c). For each event the kernel calls both copies, one after the other. So the
//! first copy was skipped exactly if its count is not zero when the second is called. The second copy then handles the event.
//!
//! Since Linux 7.0 another thread may run between the two calls, inside the first copy. So each copy also records the last
//! event of each socket, and the second copy ignores an event that the first recorded. Nothing else happens to the socket
//! between the two calls. If the run that blocked the first copy ends between the two calls, no copy handles the event, and it
//! counts as missed.

use core::ptr;

use tcpwatch_common::ledger::COPIES;
use tcpwatch_common::names::FIRST_ENTRY;
use tcpwatch_common::params::LAST_EVENTS_BITS;

use crate::hook::{Hook, SECOND};
use crate::maps::{FIRST_COPY, LAST_EVENTS, STAGES_TYPED2};
use crate::params::param;
use crate::sock::probe;

/// Data of one CPU about the first copy.
#[repr(C)]
pub(crate) struct FirstCopy {
    /// Address of the kernel's count for this CPU; 0 until it is found.
    count: u64,
    /// Pointers as numbers: to this entry and to two maps. The verifier lets a program store a pointer, but not compute with
    /// it.
    here: u64,
    entries: u64,
    stages: u64,
    /// The address of a socket as a number, for each copy.
    sockets: [u64; COPIES as usize],
}

/// Converts `pointer` to a number, through memory at `place`.
#[inline(always)]
fn number<T>(place: &mut u64, pointer: *const T) -> u64 {
    let place: *mut u64 = place;
    // SAFETY: a word of a map. Volatile, so that it is really stored and loaded.
    unsafe {
        place.write_volatile(pointer as u64);
        place.read_volatile()
    }
}

impl FirstCopy {
    /// Finds the address of the count of this CPU; 0 if it cannot be read. The distance between two per-CPU objects is the same
    /// on every CPU.
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

/// Whether this copy handles the event.
#[inline(always)]
pub(crate) fn is_ours<H: Hook>(hook: &H) -> bool {
    if H::COPY == SECOND && !is_running() {
        return false;
    }
    let was_noted = param!(PARAMS.preemptible) != 0 && note(hook);
    H::COPY != SECOND || !was_noted
}

/// Records the event as the last one of its socket. Returns whether it was already recorded. Sockets with the same hash share
/// an entry.
#[inline(always)]
fn note<H: Hook>(hook: &H) -> bool {
    let Some(first) = FIRST_COPY.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the entry of this CPU. No run of the same copy interrupts this one here.
    let first = unsafe { &mut *first };
    let socket = number(&mut first.sockets[H::COPY as usize], hook.address() as *const u8);
    // Fibonacci hashing uses the upper bits of the product.
    let place = socket.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - LAST_EVENTS_BITS);
    let Some(last) = LAST_EVENTS.get_ptr_mut(place as u32) else {
        return false;
    };
    let step = hook.step();
    // Kernel addresses differ in their lower 56 bits, and a state has 4 bits.
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
    // SAFETY: the entry of this CPU. An interrupting run writes the same numbers.
    let first = unsafe { &mut *first };
    if first.count == 0 {
        first.count = first.find();
    }
    first.count != 0 && probe::<u32>(first.count as *const u8, 0) != 0
}
