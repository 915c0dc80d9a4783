//! The open descriptors of processes, and their limits.

use std::num::NonZeroU32;

use super::host_root::HostRoot;

/// Processes with fewer descriptors are ignored. A process that opens no more files may set its limit below its current number.
const FEW: u64 = 100;

/// The descriptors of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// The process.
    pub pid: NonZeroU32,
    /// Number of open descriptors.
    pub open: u64,
    /// The soft limit (`RLIMIT_NOFILE`, getrlimit(2)).
    pub limit: u64,
}

/// The processes with 100 or more descriptors and a readable limit, in any order; `None` if no process is visible.
#[must_use]
pub fn many(tree: &HostRoot) -> Option<Vec<Use>> {
    let names = tree.names("proc").ok()?;
    let pids = names
        .iter()
        .filter_map(|name| name.to_str()?.parse::<NonZeroU32>().ok());
    let mut pids = pids.peekable();
    pids.peek()?;
    let found = pids.filter_map(|pid| {
        let open = tree.count(&format!("proc/{pid}/fd")).filter(|&open| open >= FEW)?;
        let limit = soft(&tree.text(&format!("proc/{pid}/limits")).ok()?)?;
        Some(Use { pid, open, limit })
    });
    Some(found.collect())
}

/// Parses `Max open files 1024 524288 files` (`proc_pid_limits`, fs/proc/base.c).
fn soft(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
            Max processes             96365                96365                processes \n\
            Max open files            1024                 524288               files     \n";
        assert_eq!(soft(text), Some(1024));
        for bad in [
            "",
            "Max open files",
            "Max open files unlimited 5 files",
            "Max open files -1",
            "\0",
        ] {
            assert_eq!(soft(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn our_own_are_counted() {
        let files: Vec<File> = (0..150).map(|_| File::open("/dev/null").unwrap()).collect();
        let found = many(&HostRoot::open(Path::new("/")).unwrap()).unwrap();
        let own = found
            .iter()
            .find(|found| found.pid.get() == std::process::id())
            .unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!(Some(own.limit), limit.current);
        // Other tests open and close files meanwhile.
        assert!((150..10_000).contains(&own.open), "{own:?}");
        drop(files);
    }

    #[test]
    fn those_of_a_copied_tree_are_its_names() {
        let root = tempfile::tempdir().unwrap();
        let tree = HostRoot::open(root.path()).unwrap();
        assert_eq!(many(&tree), None);
        for (pid, descriptors) in [(7, 100), (8, 99)] {
            let process = root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("limits"), "Max open files 101 4096 files\n").unwrap();
            for descriptor in 0..descriptors {
                fs::write(process.join(format!("fd/{descriptor}")), "").unwrap();
            }
        }
        let seven = Use {
            pid: NonZeroU32::new(7).unwrap(),
            open: 100,
            limit: 101,
        };
        assert_eq!(many(&tree), Some(vec![seven]));
        fs::remove_file(root.path().join("proc/7/limits")).unwrap();
        assert_eq!(many(&tree), Some(vec![]));
    }
}
