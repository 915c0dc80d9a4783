//! Reads one process in /proc (proc(5): `comm`, `stat`).

use std::fs;
use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::param::clock_ticks_per_second;

use crate::input::owner::Comm;

/// The task flag of kernel threads (`PF_KTHREAD`, include/linux/sched.h).
const KERNEL_THREAD: u32 = 0x0020_0000;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process ID.
    pub pid: NonZeroU32,
    /// Name of its first thread.
    pub comm: Comm,
    /// Parent process; `None` if it has none in this PID namespace.
    pub parent: Option<NonZeroU32>,
    /// Start time, ns since boot (`CLOCK_BOOTTIME`), rounded down to the kernel's clock tick (10 ms).
    pub start_ns: u64,
    /// Effective user ID (`task_dump_owner`, fs/proc/base.c).
    pub uid: u32,
}

impl Process {
    /// Whether it certainly started after `boot_ns` (`CLOCK_BOOTTIME`). If so, another process had this PID at that time.
    ///
    /// False if it started in the same clock tick as `boot_ns`.
    #[must_use]
    pub const fn started_after(&self, boot_ns: u64) -> bool {
        self.start_ns > boot_ns
    }
}

/// Reads the process `pid` under `root`; `None` if it does not exist or /proc hides it.
#[must_use]
pub fn process(root: &Path, pid: NonZeroU32) -> Option<Process> {
    let directory = root.join(format!("proc/{pid}"));
    let uid = fs::metadata(&directory).ok()?.uid();
    let comm = fs::read(directory.join("comm")).ok()?;
    let stat = Stat::parse(&fs::read(directory.join("stat")).ok()?)?;
    Some(Process {
        pid,
        // A name may contain newlines; only the last one belongs to the file.
        comm: Comm::new(comm.strip_suffix(b"\n").unwrap_or(&comm)),
        parent: NonZeroU32::new(stat.parent),
        start_ns: ticks_to_ns(stat.start, clock_ticks_per_second()),
        uid,
    })
}

/// Whether there is no process `pid` under `root`, or its first thread has exited. An exited first thread stays visible until
/// the parent waits for it and the other threads exit.
#[must_use]
pub fn has_ended(root: &Path, pid: NonZeroU32) -> bool {
    match fs::read(root.join(format!("proc/{pid}/stat"))) {
        Ok(stat) => Stat::parse(&stat).is_some_and(|stat| matches!(stat.state, b'Z' | b'X')),
        // ESRCH where it exits between open() and read().
        Err(why) => why.kind() == ErrorKind::NotFound || why.raw_os_error() == Some(Errno::SRCH.raw_os_error()),
    }
}

/// Whether the thread with the /proc/PID/stat text `stat` cannot hold a file: it is a kernel thread or has exited. An exited
/// first thread stays visible until the other threads exit and the parent waits for it.
pub(super) fn holds_nothing(stat: &[u8]) -> bool {
    Stat::parse(stat).is_some_and(|stat| stat.flags & KERNEL_THREAD != 0 || matches!(stat.state, b'Z' | b'X'))
}

/// The used fields of /proc/PID/stat.
struct Stat {
    state: u8,
    parent: u32,
    flags: u32,
    /// Clock ticks since boot.
    start: u64,
}

impl Stat {
    /// Parses `PID (COMM) STATE PPID ...`. The name may contain spaces and parentheses; the fields after it do not.
    fn parse(text: &[u8]) -> Option<Self> {
        let after = text.iter().rposition(|&byte| byte == b')')? + 1;
        let mut words = std::str::from_utf8(&text[after..]).ok()?.split_ascii_whitespace();
        // Field numbers as in proc(5): state is field 3, ppid 4, flags 9 and starttime 22.
        Some(Self {
            state: *words.next()?.as_bytes().first()?,
            parent: words.next()?.parse().ok()?,
            flags: words.nth(4)?.parse().ok()?,
            start: words.nth(12)?.parse().ok()?,
        })
    }
}

fn ticks_to_ns(ticks: u64, per_second: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(per_second.max(1));
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(comm: &str, state: char, flags: u32) -> String {
        format!(
            "812 ({comm}) {state} 7 812 812 0 -1 {flags} 200 0 0 0 3 4 0 0 20 0 1 0 4242 12345 600 \
             18446744073709551615 1 1 0 0 0\n"
        )
    }

    fn tree(comm: &[u8], stat: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("proc/812");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("comm"), comm).unwrap();
        fs::write(directory.join("stat"), stat).unwrap();
        root
    }

    fn read(root: &tempfile::TempDir) -> Option<Process> {
        process(root.path(), NonZeroU32::new(812).unwrap())
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        for (comm, name, in_stat) in [
            (&b"nginx\n"[..], &b"nginx"[..], "nginx"),
            (b"a) R 1 (b\n", b"a) R 1 (b", "a) R 1 (b"),
            (b"a\n\x1b\xff\n\n", b"a\n\x1b\xff\n", "a\\n\x1b?\\n"),
            (b"\n", b"", ""),
        ] {
            let found = read(&tree(comm, &stat(in_stat, 'S', 0x0040_0100))).unwrap();
            assert_eq!(found.comm.as_bytes(), name);
            assert_eq!(found.parent, NonZeroU32::new(7));
            assert_eq!(found.start_ns, ticks_to_ns(4242, clock_ticks_per_second()));
            assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        }
    }

    #[test]
    fn one_that_vanishes_or_is_garbled_is_none() {
        let whole = stat("nginx", 'S', 0);
        let root = tree(b"nginx\n", &whole);
        assert!(process(root.path(), NonZeroU32::MIN).is_none());
        let start = whole.find("12345").unwrap();
        for length in 0..start - 5 {
            assert!(read(&tree(b"nginx\n", &whole[..length])).is_none(), "{length}");
        }
        fs::remove_file(root.path().join("proc/812/comm")).unwrap();
        assert!(read(&root).is_none());
    }

    #[test]
    fn a_number_used_again_is_known_by_its_start() {
        let found = read(&tree(b"nginx\n", &stat("nginx", 'S', 0))).unwrap();
        let tick = ticks_to_ns(1, clock_ticks_per_second());
        assert!(found.started_after(found.start_ns - 1));
        assert!(!found.started_after(found.start_ns) && !found.started_after(found.start_ns + tick));
        assert_eq!(
            (ticks_to_ns(4242, 100), ticks_to_ns(u64::MAX, 100)),
            (42_420_000_000, u64::MAX)
        );
    }

    #[test]
    fn kernel_threads_and_the_dead_hold_nothing() {
        assert!(holds_nothing(stat("kthreadd", 'S', 0x0020_8040).as_bytes()));
        assert!(holds_nothing(stat("gone", 'Z', 0x0040_000c).as_bytes()));
        assert!(!holds_nothing(stat("nginx", 'S', 0x0040_0100).as_bytes()));
        assert!(!holds_nothing(b""));
        let root = Path::new("/");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = NonZeroU32::new(child.id()).unwrap();
        while !has_ended(root, pid) {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
        assert!(has_ended(root, pid));
        assert!(!has_ended(root, NonZeroU32::new(std::process::id()).unwrap()));
    }

    #[test]
    fn our_own_process_is_as_the_kernel_says() {
        let root = Path::new("/");
        let own = process(root, NonZeroU32::new(std::process::id()).unwrap()).unwrap();
        let parent = process(root, own.parent.unwrap()).unwrap();
        assert!(!parent.started_after(own.start_ns), "a parent is the older one");
        assert!(!own.started_after(crate::clock::boot_ns()));
        assert!(!own.comm.as_bytes().is_empty());
    }
}
