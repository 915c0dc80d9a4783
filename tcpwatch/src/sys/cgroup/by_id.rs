//! Finds a cgroup of the v2 hierarchy by its ID, also if no process is in it. The ID is part of the file handle of the
//! directory (`cgroup_id`, include/linux/cgroup.h; `FILEID_KERNFS`, include/linux/exportfs.h; `open_by_handle_at(2)`).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, fstat, fstatfs, openat, readlinkat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// `FILEID_KERNFS`, include/linux/exportfs.h.
const FILEID_KERNFS: i32 = 0xfe;
/// `CGROUP2_SUPER_MAGIC`, linux/magic.h.
const CGROUP2: u64 = 0x6367_7270;
/// Inode number of the root cgroup.
const UPPERMOST: u64 = 1;

/// A mount of the v2 hierarchy.
pub struct Hierarchy {
    top: OwnedFd,
    /// Path of `top` in the file system.
    place: Vec<u8>,
    /// The cgroup path of `top`, as in /proc/PID/cgroup; empty for `/`.
    above: Vec<u8>,
    /// Whether there is no v1 hierarchy, which may have a more specific path.
    alone: bool,
}

/// `struct file_handle` of a cgroup.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

impl Hierarchy {
    /// Opens the mounted hierarchy, from the mount table below `root`. If it is not mounted, creates a detached mount that ends
    /// with the returned value. `None` if both fail.
    #[must_use]
    pub fn open(root: &Path) -> Option<Self> {
        let ours = root.join("proc/thread-self");
        let cgroup = fs::read(ours.join("cgroup")).ok()?;
        let mut lines = cgroup.split_inclusive(|&byte| byte == b'\n');
        // Do not be the first to mount v2: /proc would show the hierarchy from then on, and no process is in a cgroup of it.
        if !lines.any(is_of_v2) {
            return None;
        }
        let table = fs::read(ours.join("mountinfo")).unwrap_or_default();
        let found = mounts(&table).find_map(|(above, place)| {
            let top = directory(&root.join(OsStr::from_bytes(&place).to_str()?.trim_start_matches('/')))?;
            Some((top, above))
        });
        let (top, above) = found.or_else(|| Some((detached().ok()?, Vec::new())))?;
        Some(Self {
            place: without_end(link(&top).ok()?),
            top,
            above,
            alone: cgroup.split_inclusive(|&byte| byte == b'\n').all(is_of_v2),
        })
    }

    /// The path of the cgroup `id`, equal to [`super::path`] of a process in it. `None` if the cgroup is removed, is outside of
    /// the mount, or may not be opened (`CAP_DAC_READ_SEARCH`); also for `/` if v1 is used too.
    #[must_use]
    pub fn path(&self, id: NonZeroU64) -> Option<String> {
        let found = link(&open_by_id(&self.top, id).ok()?).ok()?;
        let path = self.name(&found)?;
        (self.alone || path != b"/").then(|| String::from_utf8_lossy(&path).into_owned())
    }

    /// The cgroup path of the directory `found`; `None` if it is not below the mount.
    fn name(&self, found: &[u8]) -> Option<Vec<u8>> {
        let found = found.strip_suffix(super::DELETED).unwrap_or(found);
        let below = found.strip_prefix(self.place.as_slice())?;
        match [&self.above, below].concat() {
            path if path.is_empty() || path == b"/" => Some(b"/".to_vec()),
            path => (below.is_empty() || below.starts_with(b"/")).then_some(path),
        }
    }
}

/// Whether a line of /proc/PID/cgroup belongs to v2.
fn is_of_v2(line: &[u8]) -> bool {
    line.starts_with(b"0::")
}

/// The v2 mounts in a mount table: the cgroup at the top of each, and the mount point.
pub(in crate::sys) fn mounts(table: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    mounts_where(table, |kind, _| kind == b"cgroup2")
}

/// The mounts of the v1 hierarchy with `controller`, likewise.
pub(in crate::sys) fn mounts_of_v1(table: &[u8], controller: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    mounts_where(table, move |kind, options| {
        kind == b"cgroup" && options.split(|&byte| byte == b',').any(|one| one == controller)
    })
}

/// The mounts whose type and options `is_wanted` accepts.
///
/// A line is `ID PARENT DEVICE ROOT PLACE OPTIONS … - TYPE SOURCE OPTIONS` (proc(5), `mountinfo`).
fn mounts_where(table: &[u8], is_wanted: impl Fn(&[u8], &[u8]) -> bool) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    table.split(|&byte| byte == b'\n').filter_map(move |line| {
        let mut words = line.split(|&byte| byte == b' ');
        let (top, place) = (words.nth(3)?, words.next()?);
        let mut words = words.skip_while(|&word| word != b"-").skip(1);
        let (kind, options) = (words.next()?, words.nth(1).unwrap_or_default());
        is_wanted(kind, options).then(|| (without_end(unescaped(top)), unescaped(place)))
    })
}

/// Decodes the escapes of a mount table, such as `\040` for a space.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut parts = text.split(|&byte| byte == b'\\');
    let mut plain = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let code = part.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                plain.extend(&part[3..]);
            }
            None => plain.extend([b"\\", part].concat()),
        }
    }
    plain
}

/// `path` without a trailing slash.
fn without_end(mut path: Vec<u8>) -> Vec<u8> {
    path.pop_if(|&mut byte| byte == b'/');
    path
}

/// Opens the directory `path`, if it is in the v2 hierarchy. Something else may be mounted on it.
fn directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, path, flags, Mode::empty()).ok()?;
    let kind = fstatfs(&top).ok()?.f_type;
    (kind.cast_unsigned() == CGROUP2).then_some(top)
}

/// A detached mount of the hierarchy. It must show the root cgroup. In a container the mount may start at the container's
/// cgroup, and then cgroups outside of it would look as if they were inside.
fn detached() -> io::Result<OwnedFd> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let top = fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_RDONLY,
    )?;
    if fstat(&top)?.st_ino != UPPERMOST {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // The descriptor of the mount itself cannot be used to open file handles.
    Ok(openat(
        &top,
        ".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

/// Opens the directory of the cgroup `id` in the hierarchy of `top`.
fn open_by_id(top: &OwnedFd, id: NonZeroU64) -> io::Result<OwnedFd> {
    let mut handle = Handle {
        bytes: 8,
        kind: FILEID_KERNFS,
        id: id.get(),
    };
    // SAFETY: the handle has the kernel's layout and the stated eight bytes, and is not used after the call.
    let opened = unsafe {
        libc::open_by_handle_at(
            top.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_CLOEXEC,
        )
    };
    if opened < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(opened) })
}

/// The path of `file` in the file system.
fn link(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let link = readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    Ok(link.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hierarchy(place: &str, above: &str) -> Hierarchy {
        Hierarchy {
            top: fs::File::open("/").unwrap().into(),
            place: place.into(),
            above: above.into(),
            alone: true,
        }
    }

    #[test]
    fn a_path_is_what_is_below_the_mount() {
        for (place, above, found, path) in [
            ("/sys/fs/cgroup", "", "/sys/fs/cgroup/a/b c", Some("/a/b c")),
            ("/sys/fs/cgroup", "", "/sys/fs/cgroup", Some("/")),
            ("/sys/fs/cgroup", "", "/sys/fs/cgroup/a (deleted)", Some("/a")),
            ("/sys/fs/cgroup", "/..", "/sys/fs/cgroup/a", Some("/../a")),
            ("/sys/fs/cgroup", "/..", "/sys/fs/cgroup", Some("/..")),
            ("/sys/fs/cgroup", "/x", "/sys/fs/cgroup/a", Some("/x/a")),
            // What is out of the mount's reach has a path of its own.
            ("/sys/fs/cgroup", "", "/system.slice/a", None),
            ("/sys/fs/cgroup", "", "/sys/fs/cgroups", None),
            ("", "", "/a", Some("/a")),
            ("", "", "/", Some("/")),
        ] {
            let name = hierarchy(place, above).name(found.as_bytes());
            let name = name.map(|name| String::from_utf8(name).unwrap());
            assert_eq!(name.as_deref(), path, "{found} in {place}");
        }
    }

    #[test]
    fn mounts_of_v2_are_found_whatever_their_names() {
        let table = b"25 1 0:22 / /sys rw shared:7 - sysfs sysfs rw
30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 master:2 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
33 25 0:27 /../a /mnt/cgroup2\\040\\134x rw - cgroup2 none rw
garbage
34 25 0:27 / /mnt
";
        let found: Vec<_> = mounts(table).collect();
        let pair = |above: &str, place: &str| (above.into(), place.into());
        assert_eq!(
            found,
            [pair("", "/sys/fs/cgroup/unified"), pair("/../a", "/mnt/cgroup2 \\x")]
        );
        assert_eq!(unescaped(b"\\9\\040\\"), b"\\9 \\");
    }

    #[test]
    fn what_is_mounted_over_is_no_hierarchy() {
        let place = tempfile::tempdir().unwrap();
        assert!(directory(place.path()).is_none() && directory(&place.path().join("none")).is_none());
    }
}
