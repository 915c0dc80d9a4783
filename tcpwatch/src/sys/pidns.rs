//! The PID namespace of /proc (`pid_namespaces(7)`): usually the one of tcpwatch, but a process can enter a PID namespace
//! without its /proc.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Inode number of the initial PID namespace, in which every process has a PID (`PROC_PID_INIT_INO`,
/// `include/linux/proc_ns.h`).
const FIRST: u64 = 0xefff_fffc;

/// Not the inode number of any namespace.
const NONE: u32 = u32::MAX;

/// Inode number of the PID namespace of /proc below `root`; 0 if it is the initial namespace or unknown.
#[must_use]
pub fn other_than_first(root: &Path) -> u32 {
    let proc = root.join("proc");
    let ours = proc.join("self");
    let lives_there = |process: &Path| pid_count(process).is_none_or(|numbers| numbers == 1);
    let inode = if lives_there(&ours) {
        inode(&ours).unwrap_or(FIRST)
    } else {
        // /proc shows an outer namespace. Processes with only one PID are in that namespace too.
        let entries = fs::read_dir(&proc).into_iter().flatten().flatten();
        let mut processes = entries
            .map(|entry| entry.path())
            .filter(|path| pid_count(path) == Some(1));
        let Some(found) = processes.find_map(|process| inode(&process)) else {
            return NONE;
        };
        found
    };
    if inode == FIRST {
        0
    } else {
        u32::try_from(inode).unwrap_or(NONE)
    }
}

/// Inode number of the PID namespace of the process at `path`; `None` if it may not be read.
fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path.join("ns/pid")).ok().map(|metadata| metadata.ino())
}

/// How many PIDs the process at `path` has: one for each namespace from the one of /proc to its own (`NSpid`, proc(5)).
fn pid_count(path: &Path) -> Option<usize> {
    let status = fs::read_to_string(path.join("status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(numbers.split_ascii_whitespace().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process with these numbers; the inode number of its namespace.
    fn process(root: &Path, pid: &str, numbers: &str) -> u32 {
        let directory = root.join("proc").join(pid);
        fs::create_dir_all(directory.join("ns")).unwrap();
        fs::write(directory.join("status"), format!("Name:\tcat\nNSpid:\t{numbers}\n")).unwrap();
        fs::write(directory.join("ns/pid"), "").unwrap();
        u32::try_from(inode(&directory).unwrap()).unwrap_or(NONE)
    }

    #[test]
    fn no_proc_is_taken_for_the_first_namespace() {
        assert_eq!(other_than_first(tempfile::tempdir().unwrap().path()), 0);
    }

    #[test]
    fn a_process_with_one_pid_is_in_the_namespace_of_proc() {
        let root = tempfile::tempdir().unwrap();
        let ours = process(root.path(), "self", "812");
        process(root.path(), "1", "1");
        assert_eq!(other_than_first(root.path()), ours);
    }

    #[test]
    fn an_outer_proc_is_that_of_its_processes() {
        let root = tempfile::tempdir().unwrap();
        process(root.path(), "self", "812\t2");
        process(root.path(), "811", "811\t1");
        assert_eq!(other_than_first(root.path()), NONE, "who lives there may not be asked");
        let theirs = process(root.path(), "700", "700");
        assert_eq!(other_than_first(root.path()), theirs);
    }
}
