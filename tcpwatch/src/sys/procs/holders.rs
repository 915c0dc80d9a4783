//! The sockets that each process holds open: `/proc/PID/fd/N` is a link to `socket:[INODE]` (proc(5)).

use std::fmt::Write;
use std::mem::MaybeUninit;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::Errno;
use rustix::path::Arg;

use super::threads::other_threads;
use super::{hidden, process, threads};

/// The maximum number of stored socket descriptors, 12 bytes each.
const HOLDS_MAX: usize = 1_000_000;
/// Bytes of directory entries to read at a time.
const NAMES: usize = 8 << 10;
/// Size of the longest link to a socket, `socket:[4294967295]`, plus one byte to detect longer links, which are no sockets.
const LINK: usize = 21;

/// A descriptor that holds a socket open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// Inode number of the socket (`idiag_inode`, `linux/inet_diag.h`), unique among open sockets.
    pub inode: NonZeroU32,
    /// The process ID.
    pub pid: NonZeroU32,
    /// The descriptor in that process.
    pub fd: u32,
}

impl Hold {
    /// Whether the process under `root` still has the same socket behind the same descriptor.
    #[must_use]
    pub fn is_there(&self, root: &Path) -> bool {
        let Self { inode, pid, fd } = self;
        let leads_there = |link: String| socket(CWD, root.join(link)).is_ok_and(|found| found == Some(*inode));
        leads_there(format!("proc/{pid}/fd/{fd}"))
            || other_threads(root, *pid)
                .iter()
                .any(|thread| leads_there(format!("proc/{pid}/task/{thread}/fd/{fd}")))
    }
}

/// The holders of all sockets, from one scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders {
    /// Sorted by inode, process and descriptor.
    holds: Vec<Hold>,
    /// Number of processes whose descriptors may not be read, without kernel threads and dead processes, which have none.
    pub unreadable: usize,
    /// Whether /proc hides the processes of other users, so that their number is unknown.
    pub hidden: bool,
    /// Number of socket descriptors beyond the first million, which are not stored.
    pub left_out: u64,
}

impl Holders {
    /// The descriptors that hold the socket `inode`, sorted by process and descriptor.
    #[must_use]
    pub fn descriptors_of(&self, inode: NonZeroU32) -> &[Hold] {
        let start = self.holds.partition_point(|hold| hold.inode < inode);
        let length = self.holds[start..].partition_point(|hold| hold.inode == inode);
        &self.holds[start..start + length]
    }

    /// All socket descriptors, sorted by inode, process and descriptor. The sockets may have any protocol.
    #[must_use]
    pub fn all(&self) -> &[Hold] {
        &self.holds
    }
}

/// Reads the descriptors of every process under `root` once. A process that exits meanwhile holds nothing. Not read:
/// descriptors that a thread does not share with the first thread of its process (`unshare(CLONE_FILES)`).
///
/// # Errors
/// The path and the error of open(2) or getdents(2) for /proc itself.
pub fn holders(root: &Path) -> anyhow::Result<Holders> {
    let path = root.join("proc");
    let all = directory(CWD, &path).with_context(|| path.display().to_string())?;
    let mut scan = Scan::new(HOLDS_MAX);
    let mut names = [MaybeUninit::uninit(); NAMES];
    let mut entries = RawDir::new(&all, &mut names);
    while let Some(entry) = entries.next() {
        let entry = entry.with_context(|| path.display().to_string())?;
        if let Some(pid) = number(entry.file_name().to_bytes()).and_then(NonZeroU32::new) {
            scan.scan_process(&all, pid)
                .with_context(|| path.join(pid.to_string()).display().to_string())?;
        }
    }
    scan.holds.sort_unstable();
    Ok(Holders {
        holds: scan.holds,
        unreadable: scan.unreadable,
        hidden: hidden::hides_processes(root),
        left_out: scan.left_out,
    })
}

/// The state of a scan.
struct Scan {
    holds: Vec<Hold>,
    most: usize,
    left_out: u64,
    unreadable: usize,
    /// A reused buffer for file names, to avoid an allocation for each process.
    path: String,
}

impl Scan {
    fn new(most: usize) -> Self {
        Self {
            holds: Vec::new(),
            most,
            left_out: 0,
            unreadable: 0,
            path: String::new(),
        }
    }

    /// Reads the descriptors of the process `pid` in the open /proc directory `all`.
    ///
    /// # Errors
    /// No descriptor is left for reading; the process may hold sockets.
    fn scan_process(&mut self, all: &OwnedFd, pid: NonZeroU32) -> rustix::io::Result<()> {
        match self.read(all, pid, "fd") {
            Ok(0) => self.scan_other_threads(all, pid),
            Ok(_) => {}
            Err(errno) if is_gone(errno) => {}
            Err(errno @ (Errno::MFILE | Errno::NFILE)) => return Err(errno),
            Err(_) if self.holds_nothing(all, pid) => self.scan_other_threads(all, pid),
            Err(_) => self.unreadable += 1,
        }
        Ok(())
    }

    /// Reads the descriptors of `pid` through its other threads. The first thread shows none if it has exited (`pthread_exit()`
    /// in `main()`).
    fn scan_other_threads(&mut self, all: &OwnedFd, pid: NonZeroU32) {
        for thread in threads::list_threads_except(all, self.name(pid, "task"), pid) {
            match self.read(all, pid, &format!("task/{thread}/fd")) {
                Ok(0) => {}
                Ok(_) => return,
                Err(errno) if is_gone(errno) => {}
                Err(_) => {
                    self.unreadable += 1;
                    return;
                }
            }
        }
    }

    /// Reads the links of all descriptors in the directory `folder` of `pid`. Returns their number.
    fn read(&mut self, all: &OwnedFd, pid: NonZeroU32, folder: &str) -> rustix::io::Result<usize> {
        let descriptors = directory(all, self.name(pid, folder))?;
        let mut count = 0;
        let mut names = [MaybeUninit::uninit(); NAMES];
        let mut entries = RawDir::new(&descriptors, &mut names);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let Some(fd) = number(entry.file_name().to_bytes()) else {
                continue;
            };
            count += 1;
            match socket(&descriptors, entry.file_name()) {
                Ok(Some(inode)) if self.holds.len() < self.most => self.holds.push(Hold { inode, pid, fd }),
                Ok(Some(_)) => self.left_out += 1,
                // Reading the links needs CAP_SYS_PTRACE; listing the names does not.
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(errno),
                // Not a socket, or closed meanwhile.
                Ok(None) | Err(_) => {}
            }
        }
        Ok(count)
    }

    /// Whether the first thread of `pid`, whose descriptors may not be read, can have none.
    fn holds_nothing(&mut self, all: &OwnedFd, pid: NonZeroU32) -> bool {
        let mut stat = [0; 1024];
        let read = openat(
            all,
            self.name(pid, "stat"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .and_then(|file| rustix::io::read(&file, &mut stat));
        match read {
            Ok(length) => process::holds_nothing(&stat[..length]),
            Err(errno) => is_gone(errno),
        }
    }

    /// Builds the path `PID/FILE`.
    fn name(&mut self, pid: NonZeroU32, file: &str) -> &str {
        self.path.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.path, "{pid}/{file}");
        &self.path
    }
}

/// Whether /proc returns `errno` for a process that has exited.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH)
}

/// Opens a directory to read the names in it.
pub(super) fn directory(at: impl AsFd, path: impl Arg) -> rustix::io::Result<OwnedFd> {
    openat(
        at,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// The socket behind the descriptor `name` in the directory `descriptors`; `None` if it is not a socket.
fn socket(descriptors: impl AsFd, name: impl Arg) -> rustix::io::Result<Option<NonZeroU32>> {
    let mut room = [MaybeUninit::uninit(); LINK];
    let (link, _) = readlinkat_raw(descriptors, name, &mut room)?;
    Ok(link
        .strip_prefix(b"socket:[")
        .and_then(|rest| rest.strip_suffix(b"]"))
        .and_then(number)
        .and_then(NonZeroU32::new))
}

/// Parses a decimal number without a sign; `None` for anything else.
pub(super) fn number(digits: &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))?;
    }
    (!digits.is_empty()).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of processes with links as descriptors.
    fn tree(processes: &[(u32, &[(&str, &str)])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        for (pid, descriptors) in processes {
            let fd = root.path().join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&fd).unwrap();
            for (name, link) in *descriptors {
                symlink(link, fd.join(name)).unwrap();
            }
        }
        root
    }

    fn of(holders: &Holders, inode: u32) -> Vec<(u32, u32)> {
        let holds = holders.descriptors_of(NonZeroU32::new(inode).unwrap());
        holds.iter().map(|hold| (hold.pid.get(), hold.fd)).collect()
    }

    #[test]
    fn sockets_are_found_with_all_who_hold_them() {
        let root = tree(&[
            (
                812,
                &[
                    ("0", "/dev/null"),
                    ("6", "socket:[4294967295]"),
                    ("7", "socket:[9]"),
                    ("10", "socket:[9]"),
                ],
            ),
            (
                90,
                &[("3", "socket:[9]"), ("4", "pipe:[9]"), ("5", "anon_inode:[eventpoll]")],
            ),
            (5, &[("1", "socket:[10]")]),
        ]);
        fs::create_dir_all(root.path().join("proc/self/fd")).unwrap();
        symlink("socket:[11]", root.path().join("proc/self/fd/0")).unwrap();
        let found = holders(root.path()).unwrap();
        assert_eq!(of(&found, 9), [(90, 3), (812, 7), (812, 10)]);
        assert_eq!(of(&found, u32::MAX), [(812, 6)]);
        assert_eq!(
            (of(&found, 10), of(&found, 11), of(&found, 8)),
            (vec![(5, 1)], vec![], vec![])
        );
        assert_eq!(found.all().len(), 5);
        assert_eq!((found.unreadable, found.hidden, found.left_out), (0, false, 0));
    }

    #[test]
    fn garbage_is_no_socket() {
        let links = [
            "socket:[]",
            "socket:[0]",
            "socket:[9",
            "socket:[9]x",
            "socket:[-1]",
            "socket:[4294967296]",
        ];
        let more = [
            "socket:[99999999999999999999]",
            "/socket:[9]",
            "socket:[9] (deleted)",
            "xocket:[9]",
            "]",
        ];
        let names: Vec<String> = (0..links.len() + more.len()).map(|name| name.to_string()).collect();
        let mut descriptors: Vec<(&str, &str)> = names
            .iter()
            .map(String::as_str)
            .zip(links.into_iter().chain(more))
            .collect();
        descriptors.extend([("x", "socket:[9]"), ("-1", "socket:[9]"), ("4294967296", "socket:[9]")]);
        let found = holders(tree(&[(7, &descriptors)]).path()).unwrap();
        assert_eq!(found.all(), []);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_rest_counted() {
        let root = tree(&[(
            7,
            &[
                ("0", "socket:[1]"),
                ("1", "socket:[2]"),
                ("2", "socket:[3]"),
                ("3", "/x"),
            ],
        )]);
        let all = directory(CWD, root.path().join("proc")).unwrap();
        let mut scan = Scan::new(2);
        scan.scan_process(&all, NonZeroU32::new(7).unwrap()).unwrap();
        assert_eq!((scan.holds.len(), scan.left_out, scan.unreadable), (2, 1, 0));
    }

    #[test]
    fn a_process_that_vanishes_is_no_error_and_one_that_hides_is_counted() {
        let root = tree(&[(7, &[("0", "socket:[1]")])]);
        let file = |path: &str, text: &str| {
            let path = root.path().join("proc").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // No directory of descriptors, as of one that ended; and what cannot be read, here for being no directory.
        file("8/comm", "gone\n");
        file("9/fd", "");
        file(
            "9/stat",
            "9 (nginx) S 2 0 0 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5 0\n",
        );
        file("10/fd", "");
        file(
            "10/stat",
            "10 (kthread) S 2 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 5 0\n",
        );
        let found = holders(root.path()).unwrap();
        assert_eq!((found.all().len(), found.unreadable), (1, 1));
    }

    #[test]
    fn where_the_first_thread_has_ended_another_shows_what_there_is() {
        let root = tree(&[(7, &[]), (9, &[])]);
        let file = |path: &str, text: &str| {
            let path = root.path().join("proc").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        // One is ending too, and shows nothing any more.
        for thread in ["7/task/7/fd", "7/task/8/fd", "7/task/12/fd", "9/task/9/fd"] {
            fs::create_dir_all(root.path().join("proc").join(thread)).unwrap();
        }
        file("7/task/10/comm", "a\n");
        symlink("socket:[9]", root.path().join("proc/7/task/12/fd/3")).unwrap();
        // Its first thread cannot be read, as another user's is: that it has ended is known.
        for (path, text) in [
            ("11/fd", ""),
            ("11/stat", "11 (a) Z 2 0 0 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 2 0 5 0\n"),
            ("13/fd", ""),
            ("13/stat", "13 (a) Z 2 0 0 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 2 0 5 0\n"),
            ("13/task/14/fd", ""),
        ] {
            file(path, text);
        }
        fs::create_dir_all(root.path().join("proc/11/task/12/fd")).unwrap();
        symlink("socket:[10]", root.path().join("proc/11/task/12/fd/4")).unwrap();
        let found = holders(root.path()).unwrap();
        assert_eq!((of(&found, 9), of(&found, 10)), (vec![(7, 3)], vec![(11, 4)]));
        assert_eq!(found.unreadable, 1, "13, of which no thread can be read");
        let [held] = found.descriptors_of(NonZeroU32::new(9).unwrap()) else {
            panic!("{found:?}")
        };
        assert!(held.is_there(root.path()));
        fs::remove_file(root.path().join("proc/7/task/12/fd/3")).unwrap();
        assert!(!held.is_there(root.path()));
    }

    #[test]
    fn our_own_socket_is_found() {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::MetadataExt;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let fd = u32::try_from(socket.as_raw_fd()).unwrap();
        let inode = fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
        let found = holders(Path::new("/")).unwrap();
        let holds = of(&found, u32::try_from(inode).unwrap());
        assert!(holds.contains(&(std::process::id(), fd)), "{holds:?}");
        assert!(holders(&tempfile::tempdir().unwrap().path().join("none")).is_err());
    }
}
