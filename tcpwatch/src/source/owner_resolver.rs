//! Finds in /proc who holds a socket whose owner was not seen, and in which cgroup a process is.

mod cgroups;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, anyhow};
use hashbrown::HashMap;

use self::cgroups::Cgroups;
use super::owners::Owners;
use crate::clock;
use crate::input::Event;
use crate::input::container::Cgroup;
use crate::input::owner::{Comm, Owner};
use crate::sys::procs::process;
use crate::sys::{cgroup, threads};

/// Of the time, at most a hundredth is spent on scans.
const SHARE: u64 = 100;
/// Scans are this far apart at least, ns: what was opened since the last is found by the next.
const APART_NS: u64 = 1_000_000_000;
/// What was read is believed for this long, ns: after it a process may be in another cgroup, and a number another's.
const FRESH_NS: u64 = 1_000_000_000;
/// A scan is waited for this long, ns: what /proc says of one process may wait for that process, and then for ever.
const PATIENCE_NS: u64 = 10_000_000_000;
/// After a scan that took longer, /proc is left alone for this long, ns.
const LEAVE_ALONE_NS: u64 = 60_000_000_000;
/// Processes remembered; with one more, all are read anew.
const PROCESSES: usize = 4096;
/// Lookups that wait at most; the oldest of more are answered that nobody knows.
const LOOKUPS: usize = 65_536;

/// Looks for the holders of sockets, by scans of /proc that cost at most a hundredth of the time.
pub struct OwnerResolver {
    root: PathBuf,
    owners: Option<Scanned>,
    /// The scan under way.
    scan: Option<JoinHandle<anyhow::Result<Scanned>>>,
    /// When it is waited for no longer, ns (`CLOCK_MONOTONIC`).
    give_up_ns: u64,
    /// A scan that took too long. No other begins before it is over: a thread may be stuck in /proc for ever.
    hung: Option<JoinHandle<anyhow::Result<Scanned>>>,
    scan_again_ns: u64,
    /// The sockets whose holders are looked for, in the order they were asked for.
    lookups: VecDeque<Lookup>,
    /// Whether a scan has failed, and a warning has said so.
    has_failed: bool,
    cgroups: Cgroups,
    /// By number, and by the name it was asked for with: under another the number may be another process's.
    known: HashMap<(NonZeroU32, Comm), Known>,
    /// What to add to Unix time for time since boot, ns.
    to_boot_ns: i64,
}

/// A socket whose holder is looked for.
struct Lookup {
    inode: NonZeroU32,
    /// When the last scan began that it was looked for in, ns; `None` before any.
    tried_ns: Option<u64>,
    /// Whether it was open before the first scan began, so that its inode number was no other's at any scan.
    was_there: bool,
}

/// A scan that is over.
struct Scanned {
    owners: Owners,
    /// When it began and ended, ns (`CLOCK_MONOTONIC`).
    time_ns: [u64; 2],
}

/// What was read of a process.
struct Known {
    start_ns: u64,
    read_ns: u64,
    cgroup: Option<Arc<Cgroup>>,
}

impl OwnerResolver {
    /// The processes under `root`, none of them read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            owners: None,
            scan: None,
            give_up_ns: 0,
            hung: None,
            scan_again_ns: 0,
            lookups: VecDeque::new(),
            has_failed: false,
            cgroups: Cgroups::new(root),
            known: HashMap::new(),
            to_boot_ns: 0,
        }
    }

    /// Begins to scan /proc, on a thread of its own: the caller has records to read, and on a busy host this takes a second.
    pub fn scan(&mut self) {
        self.hung.take_if(|hung| hung.is_finished());
        if self.hung.is_some() {
            self.scan_again_ns = clock::monotonic_ns() + LEAVE_ALONE_NS;
            return;
        }
        self.give_up_ns = clock::monotonic_ns() + PATIENCE_NS;
        let root = self.root.clone();
        let scan = move || {
            let start = clock::monotonic_ns();
            let owners = Owners::scan(&root)?;
            let time_ns = [start, clock::monotonic_ns()];
            Ok(Scanned { owners, time_ns })
        };
        match threads::spawn("scan", scan) {
            Ok(scan) => self.scan = Some(scan),
            Err(why) => self.scan_failed(&why),
        }
    }

    /// Begins a scan, if none is under way and it is time for one.
    pub fn scan_if_due(&mut self) {
        if !self.is_scanning() && clock::monotonic_ns() >= self.scan_again_ns {
            self.scan();
        }
    }

    /// To be called before records are looked at: somebody may have set the clock, and a scan may be over.
    pub fn catch_up(&mut self) {
        self.to_boot_ns = clock::unix_to_boot_ns();
        let Some(scan) = self.scan.take_if(|scan| scan.is_finished()) else {
            if self.is_scanning() && clock::monotonic_ns() >= self.give_up_ns {
                log::warn!(
                    "reading /proc takes more than 10 s: the owners of sockets that were open before are unknown for the next minute"
                );
                self.hung = self.scan.take();
                self.scan_again_ns = clock::monotonic_ns() + LEAVE_ALONE_NS;
            }
            return;
        };
        match scan.join() {
            Ok(Ok(scanned)) => {
                let [start, end] = scanned.time_ns;
                self.scan_again_ns = end + APART_NS.max((end - start) * SHARE);
                self.owners = Some(scanned);
            }
            Ok(Err(why)) => self.scan_failed(&why),
            Err(_) => self.scan_failed(&anyhow!("its thread died")),
        }
    }

    /// Whether a scan is under way.
    #[must_use]
    pub fn is_scanning(&self) -> bool {
        self.scan.is_some()
    }

    fn scan_failed(&mut self, why: &anyhow::Error) {
        // Once: the next scan may succeed.
        if !self.has_failed {
            log::warn!(
                "cannot read /proc, and tries again: {why:#}; until then the owners of sockets that were open before are unknown"
            );
        }
        self.has_failed = true;
        self.scan_again_ns = clock::monotonic_ns() + APART_NS;
    }

    /// Waits for no scan any more, and begins none.
    pub fn stop_scanning(&mut self) {
        self.scan = None;
        self.scan_again_ns = u64::MAX;
    }

    /// The owners that the last scan found.
    ///
    /// # Errors
    /// There was none: /proc cannot be read, or not in time.
    pub fn owners(&mut self) -> anyhow::Result<&mut Owners> {
        let scanned = self.owners.as_mut().context("/proc could not be read")?;
        Ok(&mut scanned.owners)
    }

    /// Looks for the holder of the socket of `event`, if nobody saw whose it is: [`OwnerResolver::answers`] has the answer.
    pub fn look_up(&mut self, event: &Event) {
        if let Some(inode) = event.asks_owner() {
            let was_there = event.opened.is_none() && event.id.is_some();
            self.lookups.push_back(Lookup {
                inode,
                tried_ns: None,
                was_there,
            });
        }
    }

    /// Whether there are lookups without an answer.
    #[must_use]
    pub fn has_lookups(&self) -> bool {
        !self.lookups.is_empty()
    }

    /// Gives the answers that are known by now: a socket, and its holder where it has one. Others wait for the scan under way; where none
    /// is, and none may begin yet, the answer is that nobody knows.
    pub fn answers(&mut self, mut each: impl FnMut(NonZeroU32, Option<Owner>)) {
        if self.lookups.is_empty() {
            return;
        }
        let now_ns = clock::monotonic_ns();
        let mut lookups = std::mem::take(&mut self.lookups);
        let too_many = lookups.len().saturating_sub(LOOKUPS);
        for lookup in lookups.drain(..too_many) {
            each(lookup.inode, None);
        }
        let scanned_ns = self.owners.as_ref().map(|scanned| scanned.time_ns[0]);
        lookups.retain_mut(|lookup| {
            // Nothing new is known until the next scan is over.
            if self.is_scanning() && scanned_ns.is_some() && lookup.tried_ns == scanned_ns {
                return true;
            }
            lookup.tried_ns = scanned_ns;
            let holder = self.holder(lookup, now_ns);
            if holder.is_none() {
                self.scan_if_due();
            }
            let is_answered = holder.is_some() || !self.is_scanning();
            if is_answered {
                each(lookup.inode, holder);
            }
            !is_answered
        });
        self.lookups = lookups;
    }

    /// The holder by the last scan, at `now_ns`; `None` where there are several.
    fn holder(&mut self, lookup: &Lookup, now_ns: u64) -> Option<Owner> {
        let Scanned { owners, time_ns } = self.owners.as_mut()?;
        // A number found may be of a socket closed since, and be another's now; but not if that was open before we looked.
        let mut held = if lookup.was_there || now_ns.saturating_sub(time_ns[0]) < FRESH_NS {
            owners.of(Some(lookup.inode))
        } else {
            owners.still_of(lookup.inode)
        };
        held.whose().process.map(|owner| *owner)
    }

    /// The cgroup of `owner`, who had a connection at `unix_ns` (since the Unix epoch): the one it was in when it came to
    /// be known, or else the one it is in now. `None` where neither is known, nor the process there any more.
    pub fn cgroup(&mut self, owner: &Owner, unix_ns: i64) -> Option<Arc<Cgroup>> {
        if let Some(cgroup) = owner.cgroup.and_then(|id| self.cgroups.of(id)) {
            return Some(cgroup);
        }
        let pid = owner.pid?;
        let at = u64::try_from(unix_ns.saturating_add(self.to_boot_ns)).unwrap_or(0);
        let key = (pid, owner.comm);
        let fresh = |known: &Known| at.saturating_sub(known.read_ns) < FRESH_NS;
        let fresh = self.known.get(&key).is_some_and(fresh);
        if !fresh {
            if self.known.len() >= PROCESSES {
                self.known.clear();
            }
            let found = process(&self.root, pid);
            let path = found.as_ref().and_then(|_| cgroup::path(&self.root, pid));
            // That a process is gone is remembered too: it may have left many connections.
            let known = Known {
                start_ns: found.map_or(0, |found| found.start_ns),
                read_ns: clock::boot_ns(),
                cgroup: path.map(|path| Arc::new(path.into())),
            };
            self.known.insert(key, known);
        }
        let known = self.known.get(&key).filter(|known| known.start_ns <= at)?;
        known.cgroup.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU64;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::Opened;
    use crate::input::owner::How;

    /// A transition of the socket 100, which was open before we looked.
    fn of_100() -> Event {
        Event {
            id: NonZeroU64::new(1),
            inode: NonZeroU32::new(100),
            ..Event::between(TcpState::Established, TcpState::CloseWait)
        }
    }

    /// nginx, number 7, which holds the socket 100.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let nginx = root.path().join("proc/7");
        fs::create_dir_all(nginx.join("fd")).unwrap();
        symlink("socket:[100]", nginx.join("fd/3")).unwrap();
        fs::write(nginx.join("comm"), "nginx\n").unwrap();
        let stat = "7 (nginx) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0\n";
        fs::write(nginx.join("stat"), stat).unwrap();
        root
    }

    /// A process that hides its descriptors: it is looked at once more, here for as long as nobody writes into the pipe returned.
    fn slow_process(root: &Path) -> PathBuf {
        let hiding = root.join("proc/8");
        fs::create_dir_all(&hiding).unwrap();
        fs::write(hiding.join("fd"), "").unwrap();
        let slow = hiding.join("stat");
        mkfifoat(CWD, &slow, Mode::RUSR | Mode::WUSR).unwrap();
        slow
    }

    /// The answers there are now.
    fn answers(resolver: &mut OwnerResolver) -> Vec<(u32, Option<String>)> {
        let mut answers = Vec::new();
        resolver.catch_up();
        resolver.answers(|inode, owner| answers.push((inode.get(), owner.map(|owner| owner.to_string()))));
        answers
    }

    /// The holder of the socket of `event`, once it is answered.
    fn resolved(resolver: &mut OwnerResolver, event: &Event) -> Option<String> {
        resolver.look_up(event);
        loop {
            if let [(_, holder)] = answers(resolver).as_slice() {
                return holder.clone();
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_lookup_waits_for_the_scan_under_way() {
        let root = tree();
        let slow = slow_process(root.path());
        let mut resolver = OwnerResolver::new(root.path());
        resolver.scan();
        resolver.look_up(&of_100());
        assert_eq!(answers(&mut resolver), [], "/proc may tell");
        fs::write(&slow, "").unwrap();
        while resolver.is_scanning() {
            resolver.catch_up();
        }
        assert_eq!(answers(&mut resolver), [(100, Some("nginx[7]".into()))]);
        assert_eq!(resolver.owners().unwrap().unseen().processes, 1);

        resolver.scan();
        let other = Event {
            inode: NonZeroU32::new(101),
            ..of_100()
        };
        let known = Event {
            owner: Some(crate::input::owner::tests::owner(1, "init")),
            ..of_100()
        };
        for event in [&other, &known, &of_100()] {
            resolver.look_up(event);
        }
        assert_eq!(
            answers(&mut resolver),
            [(100, Some("nginx[7]".into()))],
            "what is known waits for nothing, and what has an owner is not asked for"
        );
        assert!(resolver.has_lookups());
        resolver.stop_scanning();
        assert_eq!(answers(&mut resolver), [(101, None)], "nobody waits any more");
        assert!(!resolver.has_lookups());
        fs::write(&slow, "").unwrap();
    }

    #[test]
    fn a_scan_that_hangs_is_waited_for_no_longer_than_it_may_take() {
        let root = tree();
        let slow = slow_process(root.path());
        let mut resolver = OwnerResolver::new(root.path());
        resolver.scan();
        resolver.look_up(&of_100());
        assert_eq!(answers(&mut resolver), [], "it may still tell");
        resolver.give_up_ns = 0;
        assert_eq!(answers(&mut resolver), [(100, None)], "nobody waits any more");
        assert!(!resolver.is_scanning() && resolver.owners().is_err());
        resolver.scan();
        assert!(!resolver.is_scanning(), "no second thread gets stuck");
        fs::write(&slow, "").unwrap();
        while !resolver.hung.as_ref().is_some_and(JoinHandle::is_finished) {
            std::thread::yield_now();
        }
        resolver.scan_again_ns = 0;
        let again = std::thread::spawn(move || fs::write(&slow, "").unwrap());
        assert_eq!(
            resolved(&mut resolver, &of_100()),
            Some("nginx[7]".into()),
            "/proc is read again"
        );
        again.join().unwrap();
    }

    #[test]
    fn a_process_is_read_once_whatever_its_name_is_by_now() {
        let root = tree();
        let cgroup = root.path().join("proc/7/cgroup");
        let mut resolver = OwnerResolver::new(root.path());
        let mut of = |name: &[u8], is_in: &str| {
            fs::write(&cgroup, format!("0::{is_in}\n")).unwrap();
            let owner = Owner {
                pid: NonZeroU32::new(7),
                comm: Comm::new(name),
                how: How::Connect,
                cgroup: None,
            };
            resolver.cgroup(&owner, 1_000_000_000).map(|cgroup| cgroup.path.clone())
        };
        let (first, second) = (Some("/first".to_owned()), Some("/second".to_owned()));
        assert_eq!(of(b"before-exec", "/first"), first);
        assert_eq!(of(b"before-exec", "/other"), first, "it was read");
        assert_eq!(of(b"nginx", "/second"), second, "it may be another process");
        for _ in 0..2 {
            assert_eq!(
                (of(b"before-exec", "/other"), of(b"nginx", "/other")),
                (first.clone(), second.clone())
            );
        }
    }

    #[test]
    fn a_number_is_not_believed_for_ever() {
        let root = tree();
        let mut resolver = OwnerResolver::new(root.path());
        resolver.scan();
        assert_eq!(resolved(&mut resolver, &of_100()), Some("nginx[7]".into()));
        fs::remove_file(root.path().join("proc/7/fd/3")).unwrap();
        let began = resolver.owners.as_ref().unwrap().time_ns[0];
        let mut holder = |event: &Event, after_ns| {
            let lookup = Lookup {
                inode: event.inode.unwrap(),
                tried_ns: None,
                was_there: event.opened.is_none() && event.id.is_some(),
            };
            let owner = resolver.holder(&lookup, began + after_ns);
            owner.map(|owner| owner.to_string())
        };
        let nginx = Some("nginx[7]".to_owned());
        let new = Event {
            opened: Some(Opened::Passive),
            ..of_100()
        };
        assert_eq!(holder(&new, FRESH_NS - 1), nginx, "so soon no number is given again");
        assert_eq!(holder(&new, FRESH_NS), None, "it may be another socket's now");
        assert_eq!(holder(&of_100(), FRESH_NS), nginx, "it was there when we looked");
        let unremembered = Event { id: None, ..of_100() };
        assert_eq!(holder(&unremembered, FRESH_NS), None, "nobody knows whether it was");
    }

    #[test]
    fn where_nothing_can_be_scanned_nobody_is_known() {
        let root = tempfile::tempdir().unwrap();
        let mut resolver = OwnerResolver::new(root.path());
        resolver.scan();
        assert_eq!(resolved(&mut resolver, &of_100()), None);
        assert!(resolver.owners().is_err());
    }
}
