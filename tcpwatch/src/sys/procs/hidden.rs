//! Whether /proc hides the processes of other users (proc(5), `hidepid`; `has_pid_permissions`, fs/proc/base.c).

use std::fs;
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::holders::number;

/// The PIDs of all processes under `root`; `None` if /proc hides some, or cannot be read.
#[must_use]
pub fn all_pids(root: &Path) -> Option<Vec<NonZeroU32>> {
    let entries = fs::read_dir(root.join("proc")).ok()?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| NonZeroU32::new(number(name.as_bytes())?));
    (!hides_processes(root)).then(|| pids.collect())
}

/// Whether /proc hides processes from this process.
///
/// Every PID namespace has a process 1. If it is not visible, other processes are hidden too. If it is visible and belongs to
/// another user, all are visible. If it belongs to this user, as in a container, the mount options decide. Root sees all
/// processes.
#[must_use]
pub(super) fn hides_processes(root: &Path) -> bool {
    let user = rustix::process::geteuid();
    match fs::metadata(root.join("proc/1")) {
        Err(_) => true,
        Ok(first) if first.uid() != user.as_raw() || user.is_root() => false,
        Ok(_) => fs::read_to_string(root.join("proc/self/mountinfo")).is_ok_and(|text| mounts_hidden(&text)),
    }
}

/// Whether the mount table `text` has a /proc that hides processes: `hidepid=2` or 4, since Linux 5.8 by name.
///
/// A line is `ID PARENT DEVICE ROOT PLACE OPTIONS … - TYPE SOURCE OPTIONS`; the last mount on a mount point counts.
fn mounts_hidden(text: &str) -> bool {
    let options = text.lines().rev().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let (place, mut words) = (mount.split(' ').nth(4)?, filesystem.split(' '));
        (place == "/proc" && words.next() == Some("proc")).then(|| words.nth(1))?
    });
    let hiding = ["hidepid=2", "hidepid=4", "hidepid=invisible", "hidepid=ptraceable"];
    options.is_some_and(|options| options.split(',').any(|option| hiding.contains(&option)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_on_proc_decides() {
        let table = |options: &[&str]| {
            let lines = options
                .iter()
                .map(|options| format!("22 27 0:21 / /proc rw,relatime shared:5 - proc proc {options}\n"));
            format!(
                "21 27 0:20 / /sys rw - sysfs sysfs rw,hidepid=2\n{}30 27 0:30 / /x/proc rw - proc proc rw,hidepid=2\n",
                lines.collect::<String>()
            )
        };
        for options in [
            "rw,hidepid=2",
            "rw,gid=9,hidepid=invisible",
            "rw,hidepid=4",
            "rw,hidepid=ptraceable",
        ] {
            assert!(mounts_hidden(&table(&[options])), "{options}");
            assert!(mounts_hidden(&table(&["rw", options])) && !mounts_hidden(&table(&[options, "rw"])));
        }
        for options in [
            "rw",
            "rw,hidepid=1",
            "rw,hidepid=noaccess",
            "rw,hidepid=0",
            "rw,hidepid=off",
        ] {
            assert!(!mounts_hidden(&table(&[options])), "{options}");
        }
        assert!(!mounts_hidden(&table(&[])) && !mounts_hidden("") && !mounts_hidden("garbage - proc\n"));
    }

    #[test]
    fn without_a_first_process_others_are_hidden_too() {
        let root = tempfile::tempdir().unwrap();
        assert!(hides_processes(root.path()));
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        assert!(!hides_processes(root.path()), "no mount table says so");
    }
}
