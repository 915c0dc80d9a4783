//! What /proc shows of a process: the BPF programs that it holds, and its memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
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

/// The most memory that the process has had, KiB.
pub(super) fn memory_kib(pid: Pid) -> Result<u64> {
    let path = folder(pid).join("status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok())
        .with_context(|| format!("{} has no VmHWM", path.display()))
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
    use super::{field, memory_kib};

    #[test]
    fn a_field_is_found_among_others() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t1200\nrun_cnt:\t12\n";
        assert_eq!(field(text, "run_cnt:"), Some(12));
        assert_eq!(field(text, "run_time_ns:"), Some(1200));
        assert_eq!(field(text, "link_id:"), None);
    }

    #[test]
    fn this_process_has_used_some_memory() {
        assert!(memory_kib(rustix::process::getpid()).unwrap() > 100);
    }
}
