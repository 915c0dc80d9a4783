//! Reads clocks. No other module does.
#![expect(clippy::disallowed_methods, reason = "this is the file where clocks are read")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::sys::timens;

/// How far `CLOCK_MONOTONIC` of this time namespace is ahead of the kernel's, ns. It is fixed once a process runs in the
/// namespace.
static AHEAD_NS: LazyLock<i64> = LazyLock::new(|| timens::monotonic_offset_ns(Path::new("/")));

/// Wall-clock time, UTC.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Wall-clock time, ns since the Unix epoch.
#[must_use]
pub fn unix_ns() -> i64 {
    nanoseconds(ClockId::Realtime).cast_signed()
}

/// `CLOCK_MONOTONIC` of the kernel in ns (`bpf_ktime_get_ns`), without the offset of this time namespace.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).wrapping_sub_signed(*AHEAD_NS)
}

/// CPU time of the calling thread, ns (`CLOCK_THREAD_CPUTIME_ID`).
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// `CLOCK_BOOTTIME` in ns. Start times of processes in /proc use the same clock, also in a time namespace.
#[must_use]
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// The offset from Unix time to time since boot, ns. It changes like [`kernel_to_unix_ns`].
#[must_use]
pub fn unix_to_boot_ns() -> i64 {
    boot_ns().wrapping_sub(nanoseconds(ClockId::Realtime)).cast_signed()
}

/// The offset from the kernel's monotonic time to Unix time, ns. It changes when the wall clock is set, so read it often.
#[must_use]
pub fn kernel_to_unix_ns() -> i64 {
    // The two clocks cannot be read at the same moment. Read the monotonic clock before and after, and use the middle.
    let before = monotonic_ns();
    let unix = nanoseconds(ClockId::Realtime);
    let after = monotonic_ns();
    unix.wrapping_sub(before + (after - before) / 2).cast_signed()
}

/// Reads `clock`, in ns.
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
        .as_nanos()
        .try_into()
        .unwrap_or(u64::MAX)
}
