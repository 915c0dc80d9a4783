//! The threads of a process beside its first: where that has ended, they alone show what the process has (proc(5): `task`).

use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, RawDir};
use rustix::path::Arg;

use super::{directory, number};

/// Threads that are told at most: any will do, but one that is just ending.
const MOST: usize = 8;
/// Bytes of names read.
const NAMES: usize = 1024;

/// Some threads of the process `pid` under `root`, but not the first.
#[must_use]
pub fn other_threads(root: &Path, pid: NonZeroU32) -> Vec<NonZeroU32> {
    in_directory(CWD, root.join(format!("proc/{pid}/task")), pid)
}

/// The same of the directory `path`, which is relative to `at`.
pub(super) fn in_directory(at: impl AsFd, path: impl Arg, pid: NonZeroU32) -> Vec<NonZeroU32> {
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
