//! The only reader of clocks.
#![expect(clippy::disallowed_methods, reason = "this is the file where clocks are read")]

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

use crate::sys::timens;

/// What our `CLOCK_MONOTONIC` is ahead of the kernel's: nothing changes it once a process runs in its time namespace.
static AHEAD_NS: LazyLock<i64> = LazyLock::new(|| timens::monotonic_offset_ns(Path::new("/")));

/// The time of day, UTC.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time of day, ns since the Unix epoch.
#[must_use]
pub fn unix_ns() -> i64 {
    nanoseconds(ClockId::Realtime).cast_signed()
}

/// `CLOCK_MONOTONIC` in ns as the kernel has it, the kernel side's clock (`bpf_ktime_get_ns`), whatever our time namespace makes of it.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).wrapping_sub_signed(*AHEAD_NS)
}

/// `CLOCK_BOOTTIME` in ns, by which /proc tells when a process started; both are our time namespace's.
#[must_use]
pub fn boot_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// What to add to Unix time to get time since boot, ns. It changes as [`kernel_to_unix_ns`] does.
#[must_use]
pub fn unix_to_boot_ns() -> i64 {
    boot_ns().wrapping_sub(nanoseconds(ClockId::Realtime)).cast_signed()
}

/// What to add to the kernel side's time to get Unix time, ns. It changes when somebody sets the clock: read it often.
#[must_use]
pub fn kernel_to_unix_ns() -> i64 {
    // The two clocks cannot be read at once; what is read around the other bounds the error, and half of it is used.
    let before = monotonic_ns();
    let unix = nanoseconds(ClockId::Realtime);
    let after = monotonic_ns();
    unix.wrapping_sub(before + (after - before) / 2).cast_signed()
}

/// `clock` in ns.
fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
        .as_nanos()
        .try_into()
        .unwrap_or(u64::MAX)
}
