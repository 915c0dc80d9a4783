//! The other threads of a process. If the first thread has exited, only they show the process's files (proc(5): `task`).

use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, RawDir};
use rustix::path::Arg;

use super::holders::{directory, number};

/// The maximum number of threads to return. Any live thread will do; some may be exiting.
const MOST: usize = 8;
/// Bytes of directory entries to read.
const NAMES: usize = 1024;

/// Some threads of the process `pid` under `root`, without the first.
#[must_use]
pub fn other_threads(root: &Path, pid: NonZeroU32) -> Vec<NonZeroU32> {
    list_threads_except(CWD, root.join(format!("proc/{pid}/task")), pid)
}

/// The same for the directory `path`, relative to `at`.
pub(super) fn list_threads_except(at: impl AsFd, path: impl Arg, pid: NonZeroU32) -> Vec<NonZeroU32> {
    let mut threads = Vec::new();
    let Ok(task) = directory(at, path) else { return threads };
    let mut names = [MaybeUninit::uninit(); NAMES];
    let mut entries = RawDir::new(&task, &mut names);
    while let Some(Ok(entry)) = entries.next()
        && threads.len() < MOST
    {
        let thread = number(entry.file_name().to_bytes()).and_then(NonZeroU32::new);
        threads.extend(thread.filter(|&thread| thread != pid));
    }
    threads
}
