//! Opens the map that programs which make code while they run may write of it (`/tmp/perf-PID.map`), if it is certainly their own.

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    CWD, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat, openat2,
};
use rustix::io::Errno;

use super::process::{is_same, reopened};
use crate::input::stacks::Unnamed;
use crate::symboliser::MapId;

/// The type of sysfs (`SYSFS_MAGIC`, include/uapi/linux/magic.h).
const SYSFS_MAGIC: FsWord = 0x6265_6572;

/// That of the process `pid` which began at `started`, under `root`; `None` where it has none, or is gone.
///
/// # Errors
/// What has its name may not be read, and why.
pub(super) fn open(root: &Path, pid: u32, started: u64) -> Result<Option<(MapId, OwnedFd)>, Unnamed> {
    let Some(found) = find(root, pid, started) else {
        return Ok(None);
    };
    let (uid, file) = found?;
    let stat = fstat(&file).map_err(|_| Unnamed::Unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Unnamed::MapNoFile);
    }
    // A file of root's that not everybody may read may have been mounted there, to be read by root.
    let is_roots = stat.st_uid == 0 && stat.st_mode & 0o004 != 0;
    if stat.st_uid != uid && !is_roots {
        return Err(Unnamed::MapOfOther);
    }
    let kind = fstatfs(&file).map_err(|_| Unnamed::Unreadable)?.f_type;
    if [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind) {
        return Err(Unnamed::MapNoFile);
    }
    let id = MapId {
        file: (stat.st_dev, stat.st_ino),
        size: stat.st_size.cast_unsigned(),
        changed: (stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(Some((id, reopened(&file).ok_or(Unnamed::Unreadable)?)))
}

/// The user of the process, and its map, which is not opened but held (`O_PATH`); `None` where there is none.
fn find(root: &Path, pid: u32, started: u64) -> Option<Result<(u32, OwnedFd), Unnamed>> {
    let number = NonZeroU32::new(pid)?;
    if !is_same(root, number, started) {
        return None;
    }
    let process = root.join(format!("proc/{pid}"));
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    // The effective one is the second (proc(5)).
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let uid = uid.split_ascii_whitespace().nth(1)?.parse().ok()?;
    // The number it has in its own pid namespace is the last.
    let own = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let own: u32 = own.split_ascii_whitespace().last()?.parse().ok()?;
    let its_root = openat(
        CWD,
        process.join("root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()?;
    // Whoever runs there made it: it may be a link, which is not followed, and what leads to it must not lead out.
    let held = openat2(
        its_root,
        format!("tmp/perf-{own}.map"),
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    match held {
        Err(Errno::NOENT | Errno::NOTDIR) => None,
        held => Some(held.map(|file| (uid, file)).map_err(|_| Unnamed::Unreadable)),
    }
}
