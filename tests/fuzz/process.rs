//! The files that /proc and /sys have of a process and of what it may use.

use std::num::NonZeroU32;
use std::path::Path;

use tcpwatch::sys::{cgroup, cpus, lockdown, memory_limit, pidns, procs, timens};

use crate::tree::{parts, with_tree};

/// The files. The cgroup is at the top of the hierarchy, or in `a` below it.
const FILES: [&str; 11] = [
    "proc/1/stat",
    "proc/1/comm",
    "proc/self/cgroup",
    "proc/self/mountinfo",
    "proc/self/status",
    "proc/self/timens_offsets",
    "sys/devices/system/cpu/possible",
    "sys/kernel/security/lockdown",
    "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.current",
    "sys/fs/cgroup/memory.stat",
];
/// The same files of v1, and of the cgroup below.
const LINKS: [(&str, &str); 6] = [
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/a/memory.max"),
    ("sys/fs/cgroup/memory.current", "sys/fs/cgroup/a/memory.current"),
    ("sys/fs/cgroup/memory.stat", "sys/fs/cgroup/a/memory.stat"),
    ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.limit_in_bytes"),
    ("sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory.usage_in_bytes"),
    ("proc/self/cgroup", "proc/1/cgroup"),
];

pub(crate) fn run(input: &[u8]) {
    with_tree!(
        |tree| LINKS.iter().for_each(|(file, other)| tree.link(file, other)),
        |tree| {
            let mut contents = parts(input, FILES.len());
            for name in FILES {
                tree.write(name, contents.next().unwrap_or_default());
            }
            read(tree.path());
        }
    );
}

/// Reads all files below `root`.
fn read(root: &Path) {
    let pid = NonZeroU32::MIN;
    if let Some(found) = procs::process(root, pid) {
        assert_eq!(found.pid, pid);
        assert!(found.comm.as_bytes().len() <= 16);
    }
    let _ = procs::has_ended(root, pid);
    let _ = procs::holders(root);
    let _ = procs::all_pids(root);
    let _ = cgroup::path(root, pid);
    let _ = memory_limit::available(root);
    let _ = pidns::other_than_first(root);
    let _ = (timens::monotonic_offset_ns(root), timens::boottime_offset_ns(root));
    let _ = lockdown::forbids_bpf_reads(root);
    if let Ok(cpus) = cpus::possible(root) {
        assert!(cpus > 0, "there is a CPU");
    }
}
