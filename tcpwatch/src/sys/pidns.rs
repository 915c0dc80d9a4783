//! The pid namespace tcpwatch runs in (`pid_namespaces(7)`).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Inode number of the first pid namespace, in which every process has a number (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const FIRST: u64 = 0xefff_fffc;

/// Inode number of our pid namespace, under `root`'s /proc, where it is not the first one; 0 where it is, or is unknown.
#[must_use]
pub fn other_than_first(root: &Path) -> u32 {
    let inode = fs::metadata(root.join("proc/self/ns/pid")).map_or(FIRST, |metadata| metadata.ino());
    if inode == FIRST {
        0
    } else {
        u32::try_from(inode).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proc_is_taken_for_the_first_namespace() {
        assert_eq!(other_than_first(tempfile::tempdir().unwrap().path()), 0);
    }
}
