//! The only reader of clocks.
#![expect(clippy::disallowed_methods, reason = "this is the file where clocks are read")]

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Pid;
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

/// The time that all threads of the process `pid` have spent on a CPU, those that have ended too.
pub(crate) fn process_cpu(pid: Pid) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: the pointer is to a variable of the type that clock_getcpuclockid(3) writes.
    let error = unsafe { libc::clock_getcpuclockid(pid.as_raw_nonzero().get(), &raw mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a variable of the type that clock_gettime(2) writes.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::{process_cpu, thread_cpu};

    #[test]
    fn the_cpu_time_of_a_process_has_that_of_its_threads_in_it() {
        let thread = thread_cpu();
        assert!(process_cpu(getpid()).unwrap() >= thread);
    }
}
