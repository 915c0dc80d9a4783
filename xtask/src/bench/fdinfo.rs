//! What /proc tells of a process: which BPF programs it holds, and the CPU time it has used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Pid;

/// How often a BPF program ran, and for how long altogether; counted while statistics are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The kernel's number of it.
    pub(super) id: u64,
    /// Runs.
    pub(super) count: u64,
    /// Nanoseconds.
    pub(super) ns: u64,
}

/// BPF links the process holds: one a program it has attached.
pub(super) fn links(pid: Pid) -> usize {
    texts(pid).filter(|text| field(text, "link_id:").is_some()).count()
}

/// The BPF programs that the process holds.
pub(super) fn programs(pid: Pid) -> Vec<Program> {
    texts(pid)
        .filter_map(|text| {
            Some(Program {
                id: field(&text, "prog_id:")?,
                count: field(&text, "run_cnt:")?,
                ns: field(&text, "run_time_ns:")?,
            })
        })
        .collect()
}

/// CPU time of all its threads that live.
pub(super) fn cpu(pid: Pid) -> Result<Duration> {
    let tasks = folder(pid).join("task");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {}", tasks.display()))? {
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let ns = text.split(' ').next().and_then(|word| word.parse().ok());
        total += Duration::from_nanos(ns.context("cannot read schedstat: it begins with no number")?);
    }
    if total.is_zero() {
        bail!("no thread in {} tells its CPU time", tasks.display());
    }
    Ok(total)
}

fn folder(pid: Pid) -> PathBuf {
    Path::new("/proc").join(pid.as_raw_nonzero().to_string())
}

/// What is said of each of its descriptors; those that go meanwhile are left out.
fn texts(pid: Pid) -> impl Iterator<Item = String> {
    fs::read_dir(folder(pid).join("fdinfo"))
        .into_iter()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
}

/// The number after `name`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{cpu, field};

    #[test]
    fn a_field_is_found_among_others() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1200\nrun_cnt:\t12\n";
        assert_eq!(field(text, "run_cnt:"), Some(12));
        assert_eq!(field(text, "run_time_ns:"), Some(1200));
        assert_eq!(field(text, "link_id:"), None);
    }

    #[test]
    fn this_process_has_used_some_cpu() {
        assert!(cpu(rustix::process::getpid()).unwrap().as_nanos() > 0);
    }
}
