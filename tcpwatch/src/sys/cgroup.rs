//! The cgroup of a process (cgroups(7), "/proc files"; `proc_cgroup_show`, kernel/cgroup/cgroup.c).

pub(super) mod by_id;

use std::fs;
use std::num::NonZeroU32;
use std::path::Path;

pub use by_id::Hierarchy;

/// The v1 hierarchies with the most specific paths, best first: the one of systemd, then the ones that every runtime uses.
const TELLING: [&str; 4] = ["name=systemd", "memory", "pids", "cpu"];

/// The kernel appends this to the path of a removed cgroup.
const DELETED: &[u8] = b" (deleted)";

/// The cgroup path of process `pid`, as seen from the cgroup namespace of tcpwatch (`/..` leads out of it), with U+FFFD for
/// invalid UTF-8. `None` if the process does not exist or may not be read.
///
/// This is the path in v2, unless it is `/` and a v1 hierarchy is more specific: on a host with both, v2 is often unused.
#[must_use]
pub fn path(root: &Path, pid: NonZeroU32) -> Option<String> {
    let text = fs::read(root.join(format!("proc/{pid}/cgroup"))).ok()?;
    most_telling(&text).map(|path| String::from_utf8_lossy(path).into_owned())
}

/// The most specific path of the lines `ID:CONTROLLERS:PATH` (`0::PATH` for v2); `None` if there are no lines.
fn most_telling(text: &[u8]) -> Option<&[u8]> {
    let lines: Vec<(&[u8], &[u8])> = text
        .split(|&byte| byte == b'\n')
        .filter_map(|line| {
            let mut parts = line.splitn(3, |&byte| byte == b':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            // A zombie may be in a removed cgroup.
            Some((controllers, path.strip_suffix(DELETED).unwrap_or(path)))
        })
        .collect();
    let of = |wanted: &[u8]| {
        let mut with = lines
            .iter()
            .filter(|(controllers, _)| controllers.split(|&byte| byte == b',').any(|one| one == wanted));
        with.next().map(|&(_, path)| path)
    };
    let telling = TELLING.iter().filter_map(|name| of(name.as_bytes()));
    let mut best_first = of(b"")
        .into_iter()
        .chain(telling)
        .chain(lines.iter().map(|&(_, path)| path));
    best_first
        .find(|&path| path != b"/")
        .or_else(|| lines.first().map(|&(_, path)| path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(text: &str) -> Option<&str> {
        most_telling(text.as_bytes()).map(|path| std::str::from_utf8(path).unwrap())
    }

    #[test]
    fn v2_is_the_one_to_show_unless_v1_says_more() {
        for (text, path) in [
            ("0::/system.slice/nginx.service\n", "/system.slice/nginx.service"),
            ("0::/\n", "/"),
            ("0::/../x:y z\n", "/../x:y z"),
            ("4:memory:/docker/a\n1:name=systemd:/b\n0::/c\n", "/c"),
            ("4:memory:/docker/a\n1:name=systemd:/b\n0::/\n", "/b"),
            (
                "9:name=systemd:/\n8:pids:/\n4:memory:/process_api/x\n0::/\n",
                "/process_api/x",
            ),
            ("3:pids:/p\n2:cpu,cpuacct:/c\n1:name=systemd:/\n", "/p"),
            ("2:cpuacct,cpu:/c\n1:name=systemd:/\n", "/c"),
            ("2:cpuset:/c\n1:name=systemd:/\n", "/c"),
            ("2:cpuset:/\n1:name=systemd:/\n", "/"),
            ("0::/gone (deleted)\n", "/gone"),
        ] {
            assert_eq!(telling(text), Some(path), "{text}");
        }
    }

    #[test]
    fn what_is_no_cgroup_is_unknown() {
        for text in ["", "\n\n", "0", "0:", "nonsense\n"] {
            assert_eq!(telling(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_file_of_the_process_is_read() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/7")).unwrap();
        fs::write(root.path().join("proc/7/cgroup"), b"0::/a\xff\x1b\n").unwrap();
        let of = |pid| path(root.path(), NonZeroU32::new(pid).unwrap());
        assert_eq!(of(7).as_deref(), Some("/a\u{fffd}\x1b"));
        assert_eq!(of(8), None);
    }
}
