//! Whether the first copy of the programs was skipped, as the second sees it.
//!
//! The kernel skips a `tp_btf` program that would run inside itself on a CPU. It counts the runs under way there (`bpf_prog.active`,
//! `__bpf_trace_run` in kernel/trace/bpf_trace.c). The kernel calls both copies for each event, one after the other. So the first was
//! skipped exactly where its count is not zero when the second is called, and the second handles the event.
//!
//! Since Linux 7.0 another thread may run between the two calls, and be in the first copy then. So there the copies also note the
//! event that each thread had last, and the second leaves alone what the first noted. Where the run that kept the first from the event
//! ends between the two calls, nobody handles it: it is counted as missed.

use core::ptr;

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tcpwatch_common::names::FIRST_ENTRY;

use crate::hook::{Hook, SECOND};
use crate::maps::{FIRST_COPY, LAST_EVENTS, STAGES_TYPED2};
use crate::params::param;
use crate::sock::probe;
use crate::step::Step;

/// Threads whose last event is kept; a power of two. Those whose numbers differ by a multiple of it share a place.
pub(crate) const THREADS: u32 = 4096;

/// The last event of a thread.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct LastEvent {
    /// Address of the socket.
    socket: u64,
    /// `from << 4 | to`.
    step: u64,
}

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

/// Whether this copy is the one that handles the event.
#[inline(always)]
pub(crate) fn is_ours<H: Hook>(hook: &H) -> bool {
    if H::COPY == SECOND && !is_running() {
        return false;
    }
    param!(PARAMS.preempted) == 0 || note(hook.address(), hook.step()) || H::COPY != SECOND
}

/// Notes that `step` of the socket at `address` is the last event of this thread; whether it was not noted before.
#[inline(always)]
fn note(address: u64, step: Step) -> bool {
    // The number of the thread is in the lower half.
    let thread = bpf_get_current_pid_tgid() as u32;
    let Some(last) = LAST_EVENTS.get_ptr_mut(thread & (THREADS - 1)) else {
        return true;
    };
    // SAFETY: a place of the map. What interrupts this writes another event there, whole, or before or after these.
    let last = unsafe { &mut *last };
    let known = *last;
    let event = LastEvent {
        socket: number(&mut last.socket, address as *const u8),
        step: (step.from << 4 | step.to) as u64,
    };
    last.step = event.step;
    event.socket != known.socket || event.step != known.step
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
