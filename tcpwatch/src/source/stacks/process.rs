//! What code a process has mapped, and from which files.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use tcpwatch_common::StackHead;

use super::files::{FileKey, Files};
use crate::input::stacks::Why;
use crate::symboliser::{Answer, Found};
use crate::sys::{procs, timens};

/// Mappings of code that are kept of one process.
const MAPPINGS_MAX: usize = 16_384;
/// Bytes of its maps that are read: some 100 for each of the mappings that a process may have by default (`vm.max_map_count`).
const MAPS_MAX: u64 = 8 << 20;

/// A process, as its maps were at one moment.
pub(super) struct Process {
    /// A number of its own, as its maps are now.
    pub(super) number: u32,
    /// When it began, as the kernel side tells.
    started: u64,
    /// How often it had become another program.
    execs: u32,
    /// When they were read, on the kernel side's clock in ns.
    pub(super) read_ns: u64,
    /// The thread by which /proc shows them: the first or, where that has ended, another.
    thread: NonZeroU32,
    mappings: Vec<Mapping>,
}

/// A piece of memory with code in it.
struct Mapping {
    start: u64,
    end: u64,
    /// Which byte of the file it begins with.
    offset: u64,
    /// `None` for one that is no file's.
    file: Option<Mapped>,
}

/// A file that is mapped.
struct Mapped {
    /// Without its path.
    name: Vec<u8>,
    /// Its number, found when it is asked for, which most never are.
    number: Option<Result<u32, Why>>,
}

impl Process {
    /// Reads the maps of the process `head` is of, under `root`, and calls them `number`.
    pub(super) fn read(root: &Path, head: &StackHead, number: u32, now_ns: u64) -> Result<Self, Why> {
        let pid = NonZeroU32::new(head.owner.pid).ok_or(Why::Unreadable)?;
        let (thread, maps) = maps(root, pid)?;
        let mappings: Vec<Mapping> = maps
            .split(|&byte| byte == b'\n')
            .filter_map(Mapping::parse)
            .take(MAPPINGS_MAX)
            .collect();
        if mappings.is_empty() || !is_same(root, pid, head.started) {
            return Err(Why::ProcessGone);
        }
        Ok(Self {
            number,
            started: head.started,
            execs: head.execs,
            read_ns: now_ns,
            thread,
            mappings,
        })
    }

    /// Whether `head` is of this process, running the program that it ran.
    pub(super) fn is_of(&self, head: &StackHead) -> bool {
        (self.started, self.execs) == (head.started, head.execs)
    }

    /// Whether there is code at `address`.
    pub(super) fn has(&self, address: u64) -> bool {
        self.at(address).is_some()
    }

    /// What is mapped at `address` of the process, and its file.
    pub(super) fn mapping(&mut self, root: &Path, address: u64, files: &mut Files) -> Answer {
        let index = self.at(address).ok_or(Why::Undecided)?;
        let mapping = &mut self.mappings[index];
        let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
        let found = |file| Found {
            start,
            end,
            offset,
            file,
        };
        let Some(mapped) = &mut mapping.file else {
            return Err(Why::Anonymous);
        };
        if let Some(number) = mapped.number
            && let Some(file) = files.descriptor(number?)
        {
            return Ok((found(number?), file));
        }
        // Not by its name: that may be another file's by now, or in another mount namespace.
        let path = root.join(format!("proc/{}/map_files/{start:x}-{end:x}", self.thread));
        let held = hold(&path).ok_or(Why::Unreadable);
        let got = held.and_then(|(key, held)| files.get(key, &mapped.name, || reopened(&held)));
        mapped.number = Some(got.as_ref().map(|(number, _)| *number).map_err(|why| *why));
        got.map(|(number, file)| (found(number), file))
    }

    fn at(&self, address: u64) -> Option<usize> {
        // The kernel tells them in order.
        let index = self
            .mappings
            .partition_point(|mapping| mapping.start <= address)
            .checked_sub(1)?;
        (address < self.mappings[index].end).then_some(index)
    }
}

/// What /proc tells of the memory of `pid`, and of which thread it is asked for it: of one that has ended there is nothing to tell.
fn maps(root: &Path, pid: NonZeroU32) -> Result<(NonZeroU32, Vec<u8>), Why> {
    let read = |thread: NonZeroU32| {
        let mut maps = Vec::new();
        let file = File::open(root.join(format!("proc/{thread}/maps")))?;
        file.take(MAPS_MAX).read_to_end(&mut maps)?;
        Ok::<_, io::Error>(maps)
    };
    let first = read(pid).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Why::Unreadable,
        _ => Why::ProcessGone,
    })?;
    if !first.is_empty() {
        return Ok((pid, first));
    }
    let mut others = procs::other_threads(root, pid).into_iter();
    others
        .find_map(|thread| Some((thread, read(thread).ok().filter(|maps| !maps.is_empty())?)))
        .ok_or(Why::ProcessGone)
}

/// Takes hold of the file at `path` without opening it, since to open a device may do something; `None` if it is no regular file.
fn hold(path: &Path) -> Option<(FileKey, OwnedFd)> {
    let held = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&held).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file.then(|| (FileKey::from_stat(&stat), held))
}

/// Opens the very file that `held` holds: what is at its path may be another one by now.
pub(super) fn reopened(held: &OwnedFd) -> Option<OwnedFd> {
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    openat(CWD, path, flags, Mode::empty()).ok()
}

/// Whether the process `pid` is the one that began at `started`, and no other that has its number now.
pub(super) fn is_same(root: &Path, pid: NonZeroU32, started: u64) -> bool {
    /// /proc tells it by the tick.
    const TICK_NS: u64 = 10_000_000;
    let begun = started.saturating_add_signed(timens::boottime_offset_ns(root));
    procs::process(root, pid)
        .is_some_and(|process| (process.start_ns..process.start_ns.saturating_add(TICK_NS)).contains(&begun))
}

impl Mapping {
    /// Reads `START-END PERMISSIONS OFFSET DEVICE INODE NAME` (proc(5)); `None` for what is no code.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.splitn(6, |&byte| byte == b' ');
        let mut text = || std::str::from_utf8(words.next()?).ok();
        let (start, end) = text()?.split_once('-')?;
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let (start, end) = (hex(start)?, hex(end)?);
        if text()?.as_bytes().get(2) != Some(&b'x') {
            return None;
        }
        let offset = hex(text()?)?;
        let _device = text()?;
        let is_file = text()? != "0";
        let name = words.next().unwrap_or_default().trim_ascii_start();
        Some(Self {
            start,
            end,
            offset,
            file: is_file.then(|| Mapped {
                name: base_name(name).to_vec(),
                number: None,
            }),
        })
    }
}

/// The last part of a path, without what the kernel says of a file that has no path any more.
fn base_name(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let code = b"5626ea55d000-5626ea562000 r-xp 00002000 fe:00 1312     /usr/bin/a b (deleted)";
        let mapping = Mapping::parse(code).unwrap();
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset),
            (0x5626_ea55_d000, 0x5626_ea56_2000, 0x2000)
        );
        assert_eq!(mapping.file.unwrap().name, b"a b");
        let anonymous = b"7ffff7fc0000-7ffff7fc1000 rwxp 00000000 00:00 0 ";
        assert!(Mapping::parse(anonymous).unwrap().file.is_none());
        let vdso = b"7ffcd35b3000-7ffcd35b5000 r-xp 00000000 00:00 0                          [vdso]";
        assert!(Mapping::parse(vdso).unwrap().file.is_none());
        let data = b"5626ea55b000-5626ea55d000 rw-p 00000000 fe:00 1312     /usr/bin/cat";
        assert!(Mapping::parse(data).is_none());
        for garbage in [&b""[..], b"x", b"1-2", b"1-2 r-xp", b"z-2 r-xp 0 0 0 a"] {
            assert!(Mapping::parse(garbage).is_none());
        }
    }
}
