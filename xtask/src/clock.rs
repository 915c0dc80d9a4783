//! The only reader of clocks.
#![expect(clippy::disallowed_methods, reason = "this is the file where clocks are read")]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A point of the clock that never jumps, for measuring how long something took.
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// The time the calling thread has spent on a CPU, in the kernel too.
pub(crate) fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
