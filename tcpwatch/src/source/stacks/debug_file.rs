//! Opens the debug information that the host's packages installed for a build ID.

use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

/// Bytes of a build ID: a hash, of which the first names a directory.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=64;

/// `usr/lib/debug/.build-id/XX/YYYY.debug` under `root`: a regular file that root owns; `None` where there is none.
pub(super) fn open(root: &Path, build_id: &[u8]) -> Option<OwnedFd> {
    if !LENGTHS.contains(&build_id.len()) {
        return None;
    }
    let (first, rest) = build_id.split_first()?;
    let mut path = format!(".build-id/{first:02x}/");
    for byte in rest {
        let _ = write!(path, "{byte:02x}");
    }
    path += ".debug";
    let directory = root.join("usr/lib/debug");
    let directory = openat(
        CWD,
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    let file = openat2(
        directory,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
    .ok()?;
    let stat = fstat(&file).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (is_file && stat.st_uid == 0).then_some(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn only_what_root_installed_below_the_directory_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("usr/lib/debug/.build-id/ab");
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("cdef.debug"), "x").unwrap();
        symlink("cdef.debug", place.join("cd01.debug")).unwrap();
        symlink("/etc/passwd", place.join("cd02.debug")).unwrap();
        let is_opened = |id: &[u8]| open(root.path(), id).is_some();
        let is_root = rustix::process::getuid().is_root();
        for (id, expected) in [
            (&[0xab, 0xcd, 0xef][..], is_root),
            (&[0xab, 0xcd, 0x01], is_root),
            (&[0xab, 0xcd, 0x02], false),
            (&[0xab, 0xcd], false),
            (&[0xab], false),
            (&[], false),
            (&[0xab; 65], false),
        ] {
            assert_eq!(is_opened(id), expected, "{id:x?}");
        }
        if is_root {
            chown(place.join("cdef.debug"), Some(65534), None).unwrap();
            assert!(!is_opened(&[0xab, 0xcd, 0xef]));
        }
    }
}
