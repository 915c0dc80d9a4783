//! The memory that the cgroup limits still allow this process (Documentation/admin-guide/cgroup-v2.rst, `memory.max`).

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::cgroup::by_id::{mounts, mounts_of_v1};

/// From this value on, a v1 limit means no limit: the kernel shows its largest number.
const V1_UNLIMITED: u64 = 1 << 62;

/// The files of a memory controller.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// The lines of `memory.stat` that count memory which the kernel can reclaim.
    reclaimable: &'static [&'static str],
}

const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    reclaimable: &["active_file", "inactive_file", "slab_reclaimable"],
};
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    reclaimable: &["total_active_file", "total_inactive_file"],
};

/// The memory in bytes that this process may still take, by the tightest limit of its cgroup and the cgroups above. The page
/// cache counts as free. `None` if no limit is visible; `root` is `/`.
#[must_use]
pub fn available(root: &Path) -> Option<u64> {
    let ours = root.join("proc/self");
    let cgroups = fs::read(ours.join("cgroup")).ok()?;
    let table = fs::read(ours.join("mountinfo")).ok()?;
    let (path, files, mut places) = match path_of(&cgroups, b"memory") {
        Some(path) => (path, &V1, mounts_of_v1(&table, b"memory").collect::<Vec<_>>()),
        None => (path_of(&cgroups, b"")?, &V2, mounts(&table).collect()),
    };
    // Prefer the mount that shows the largest part of the hierarchy: it shows the most limits.
    places.sort_by_key(|(top, _)| top.len());
    let (top, below) = places.iter().find_map(|(top, place)| {
        let below = path.strip_prefix(top.as_slice())?;
        (below.is_empty() || below.starts_with(b"/")).then(|| (inside(root, place), below))
    })?;
    let lowest = inside(&top, below);
    let levels = lowest.ancestors().take_while(|level| level.starts_with(&top));
    levels.filter_map(|level| room(level, files)).min()
}

/// The cgroup path in the hierarchy with `controller` (empty for v2), from lines `ID:CONTROLLERS:PATH`.
fn path_of<'a>(cgroups: &'a [u8], controller: &[u8]) -> Option<&'a [u8]> {
    cgroups.split(|&byte| byte == b'\n').find_map(|line| {
        let mut parts = line.splitn(3, |&byte| byte == b':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let mut controllers = controllers.split(|&byte| byte == b',');
        controllers.any(|one| one == controller).then_some(path)
    })
}

/// The absolute path `path` below `root`.
fn inside(root: &Path, path: &[u8]) -> PathBuf {
    let start = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
    root.join(OsStr::from_bytes(&path[start..]))
}

/// The bytes left below the limit of the cgroup at `level`; `None` if it has no limit.
fn room(level: &Path, files: &Files) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(level.join(file)).ok();
    let number = |file: &str| read(file)?.trim().parse::<u64>().ok();
    // Without a limit the file has `max`, which is not a number.
    let limit = number(files.limit).filter(|&limit| limit < V1_UNLIMITED)?;
    let stat = read("memory.stat").unwrap_or_default();
    let counts = stat.lines().filter_map(|line| line.split_once(' '));
    let reclaimable = counts.filter(|(name, _)| files.reclaimable.contains(name));
    let reclaimable = reclaimable.filter_map(|(_, bytes)| bytes.parse::<u64>().ok());
    let reclaimable = reclaimable.fold(0, u64::saturating_add);
    let used = number(files.used)?.saturating_sub(reclaimable);
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2_MOUNT: &str = "31 30 0:27 / /sys/fs/cgroup rw shared:10 - cgroup2 cgroup2 rw\n";
    const V1_MOUNT: &str = "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                            34 30 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                            31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    /// A tree with these files, and what is available in it.
    fn available_in(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let own = [("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mountinfo)];
        for (path, text) in own.iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        available(root.path())
    }

    #[test]
    fn the_tightest_limit_above_a_process_counts() {
        let files = [
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "400000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "900000\n"),
            ("sys/fs/cgroup/a/b/memory.current", "100000\n"),
            ("sys/fs/cgroup/a/b/c/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/c/memory.current", "50000\n"),
            ("sys/fs/cgroup/other/memory.max", "1\n"),
            ("sys/fs/cgroup/other/memory.current", "1\n"),
        ];
        assert_eq!(available_in("0::/a/b/c\n", V2_MOUNT, &files), Some(600_000));
        assert_eq!(available_in("0::/other\n", V2_MOUNT, &files), Some(0));
    }

    #[test]
    fn page_cache_is_no_use_of_memory() {
        let files = [
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "900000\n"),
            (
                "sys/fs/cgroup/a/memory.stat",
                "anon 5\nfile 800000\nshmem 7\ninactive_file 500000\nactive_file 200000\nslab_reclaimable 50000\n",
            ),
        ];
        assert_eq!(available_in("0::/a\n", V2_MOUNT, &files), Some(850_000));
    }

    #[test]
    fn no_number_is_too_large_to_add() {
        let stat = format!("active_file {0}\ninactive_file {0}\n", u64::MAX);
        let files = [
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/memory.current", "900000\n"),
            ("sys/fs/cgroup/a/memory.stat", &stat),
        ];
        assert_eq!(available_in("0::/a\n", V2_MOUNT, &files), Some(1_000_000));
    }

    #[test]
    fn v1_counts_where_it_has_the_memory_controller() {
        let cgroup = "4:memory:/a\n1:name=systemd:/x\n0::/y\n";
        let files = [
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1500000\n"),
            (
                "sys/fs/cgroup/memory/a/memory.stat",
                "cache 9\ntotal_inactive_file 100000\n",
            ),
            ("sys/fs/cgroup/unified/y/memory.max", "1\n"),
        ];
        assert_eq!(available_in(cgroup, V1_MOUNT, &files), Some(600_000));
        assert_eq!(available_in("4:memory:/\n0::/y\n", V1_MOUNT, &files), None);
    }

    #[test]
    fn a_mount_may_show_a_part_of_the_hierarchy() {
        let mount = V1_MOUNT.replacen("0:29 /", "0:29 /docker/1234", 1);
        let files = [
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500000\n"),
        ];
        assert_eq!(available_in("4:memory:/docker/1234\n", &mount, &files), Some(1_500_000));
        assert_eq!(
            available_in("4:memory:/docker/12345\n", &mount, &files),
            None,
            "another cgroup"
        );
    }

    #[test]
    fn a_host_without_a_limit_has_none() {
        let unlimited = [
            ("sys/fs/cgroup/a/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.current", "400000\n"),
        ];
        assert_eq!(available_in("0::/a\n", V2_MOUNT, &unlimited), None);
        assert_eq!(available_in("0::/\n", V2_MOUNT, &[]), None);
        assert_eq!(available_in("", "", &[]), None);
        assert_eq!(available_in("0::/a\n", "", &unlimited), None, "it is not mounted");
        let odd = [("sys/fs/cgroup/a/memory.max", "odd\n")];
        assert_eq!(available_in("0::/a\n", V2_MOUNT, &odd), None);
        assert_eq!(available(tempfile::tempdir().unwrap().path()), None);
    }
}
