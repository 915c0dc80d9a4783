//! A limit of memory: an allocation beyond it ends the program, and libFuzzer keeps the input.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be allocated at once. Inputs have 1 MiB at most, and parsers read sections of ELF files of 64 MiB.
const MOST: usize = 256 << 20;

/// The system's allocator, with the limit.
struct Limited;

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Bytes that are allocated.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// Counts `bytes` more.
fn add(bytes: usize) {
    let before = ALLOCATED.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) > MOST {
        // There is no memory to panic with.
        let _ = rustix::io::write(rustix::stdio::stderr(), b"the input takes more than 256 MiB\n");
        std::process::abort();
    }
}

// SAFETY: all calls are passed on to the system's allocator.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        add(bytes);
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(place, layout, bytes) }
    }
}
