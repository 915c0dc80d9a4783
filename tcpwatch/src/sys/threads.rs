//! Starts threads. If the kernel refuses a thread, it is an error, not a panic.

use std::io;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

use anyhow::{Result, anyhow};
use rustix::io::Errno;

use super::host_root::why;

/// Starts a thread with the name `name`.
///
/// # Errors
/// One line: the limit of processes is reached, or another error of the kernel.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new()
        .name(name.into())
        .spawn(work)
        .map_err(|error| cannot_start(&error))
}

/// Starts a thread with the name `name` that ends before `scope`.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    Builder::new()
        .name(name.into())
        .spawn_scoped(scope, work)
        .map_err(|error| cannot_start(&error))
}

/// Why a thread cannot be started.
fn cannot_start(error: &io::Error) -> anyhow::Error {
    // pthread_create(3) returns EAGAIN for each of these limits.
    if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) {
        return anyhow!(
            "cannot start a thread: the limit of processes is reached; try a higher pids.max of the cgroup, or ulimit -u"
        );
    }
    anyhow!("cannot start a thread: {}", why(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_cannot_be_started_is_one_line_that_names_the_limit() {
        let error = cannot_start(&Errno::AGAIN.into()).to_string();
        assert!(error.contains("pids.max") && error.contains("ulimit -u"), "{error}");
        let error = cannot_start(&Errno::NOMEM.into()).to_string();
        assert_eq!(error, "cannot start a thread: Cannot allocate memory");
    }

    #[test]
    fn a_thread_has_its_name_and_gives_its_result() {
        let name = || std::thread::current().name().map(str::to_owned);
        assert_eq!(spawn("scan", name).unwrap().join().unwrap().as_deref(), Some("scan"));
        let scoped = std::thread::scope(|scope| spawn_scoped(scope, "netns", name).unwrap().join().unwrap());
        assert_eq!(scoped.as_deref(), Some("netns"));
    }
}
