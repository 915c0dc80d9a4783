//! What is read of /proc about sockets and processes, on the thread that may wait for /proc: which process holds a socket, and in
//! which cgroup a process is.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use hashbrown::HashMap;

use super::{Lookup, Question};
use crate::clock;
use crate::input::Input;
use crate::input::container::Cgroup;
use crate::input::owner::{Comm, Owner, UnknownOwner};
use crate::input::socket_owner::PrimaryHolder;
use crate::source::owners::Owners;
use crate::source::worker::PATIENCE;
use crate::sys::cgroup::{self, Hierarchy};
use crate::sys::pidns;
use crate::sys::pods::PodNames;
use crate::sys::procs::process;

/// Of the time, at most a hundredth is spent on scans.
const SHARE: u64 = 100;
/// Scans are this far apart at least, ns: what was opened since the last is found by the next.
const APART_NS: u64 = 1_000_000_000;
/// After a scan that took longer than it may, /proc is left alone for this long, ns.
const LEAVE_ALONE_NS: u64 = 60_000_000_000;
/// What was read is believed for this long, ns: after it a process may be in another cgroup, and a number another's.
const FRESH_NS: u64 = 1_000_000_000;
/// Processes remembered; with one more, all are read anew.
const PROCESSES: usize = 4096;
/// Cgroups remembered; with one more, all are asked for anew.
const CGROUPS: usize = 4096;

/// What was read so far.
pub struct ProcReader {
    root: PathBuf,
    scanned: Option<Scanned>,
    scan_again_ns: u64,
    /// Whether a scan has failed, and a warning has said so.
    has_failed: bool,
    /// By number, and by the name it was asked for with: under another the number may be another process's. At most [`PROCESSES`], each
    /// read anew after [`FRESH_NS`].
    processes: HashMap<(NonZeroU32, Comm), Known>,
    /// The v2 hierarchy of cgroups; `None` where it cannot be read.
    hierarchy: Option<Arc<Hierarchy>>,
    /// An id is given to no other cgroup, and a cgroup of v2 keeps its name, so what was once known stays so. At most [`CGROUPS`].
    cgroups: HashMap<NonZeroU64, Option<Arc<Cgroup>>>,
    pods: PodNames,
    /// Whether /proc shows the processes of one PID namespace, and not those of all.
    has_other_pids: Option<bool>,
}

/// A scan that is over.
struct Scanned {
    owners: Owners,
    /// When it began, ns (`CLOCK_MONOTONIC`).
    start_ns: u64,
}

/// What was read of a process.
struct Known {
    start_ns: u64,
    read_ns: u64,
    cgroup: Option<Arc<Cgroup>>,
}

impl ProcReader {
    /// A reader of /proc under `root`, and of cgroups in `hierarchy`. It has read nothing yet.
    #[must_use]
    pub fn new(root: &Path, hierarchy: Option<Arc<Hierarchy>>) -> Self {
        Self {
            root: root.to_owned(),
            scanned: None,
            scan_again_ns: 0,
            has_failed: false,
            processes: HashMap::new(),
            hierarchy,
            cgroups: HashMap::new(),
            pods: PodNames::new(root),
            has_other_pids: None,
        }
    }

    /// Looks anew at who holds which sockets.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn scan(&mut self) -> anyhow::Result<&mut Owners> {
        let start_ns = clock::monotonic_ns();
        let scanned = Owners::scan(&self.root);
        let end_ns = clock::monotonic_ns();
        let took_ns = end_ns - start_ns;
        let apart_ns = if u128::from(took_ns) >= PATIENCE.as_nanos() {
            LEAVE_ALONE_NS
        } else {
            APART_NS.max(took_ns * SHARE)
        };
        self.scan_again_ns = end_ns + apart_ns;
        match scanned {
            Ok(owners) => Ok(&mut self.scanned.insert(Scanned { owners, start_ns }).owners),
            Err(why) => {
                // Once: the next scan may succeed.
                if !self.has_failed {
                    log::warn!(
                        "cannot read /proc, and tries again: {why:#}; until then the owners of sockets that were open before are unknown"
                    );
                }
                self.has_failed = true;
                Err(why).context("/proc could not be read")
            }
        }
    }

    /// Gives what is known about `question`, as inputs.
    pub(super) fn answer(&mut self, question: Question, each: &mut dyn FnMut(Input)) {
        match question {
            Question::Holder(lookup) => {
                let owner = self.holder(&lookup);
                if let Ok(owner) = owner {
                    let cgroup = self.cgroup(&owner, clock::unix_ns());
                    each(Input::CgroupPath { owner, cgroup });
                }
                let inode = lookup.inode;
                each(Input::Owner { inode, owner });
            }
            Question::Cgroup { owner, unix_ns } => {
                let cgroup = self.cgroup(&owner, unix_ns);
                each(Input::CgroupPath { owner, cgroup });
            }
        }
    }

    /// The holder of a socket: by the last scan, or by another one where that does not have it and it is time for one.
    fn holder(&mut self, lookup: &Lookup) -> Result<Owner, UnknownOwner> {
        let known = self.known_holder(lookup, clock::monotonic_ns());
        if known.is_ok() || clock::monotonic_ns() < self.scan_again_ns || self.scan().is_err() {
            return known;
        }
        self.known_holder(lookup, clock::monotonic_ns())
    }

    /// The holder by the last scan, at `now_ns`.
    fn known_holder(&mut self, lookup: &Lookup, now_ns: u64) -> Result<Owner, UnknownOwner> {
        let Some(Scanned { owners, start_ns }) = &mut self.scanned else {
            return Err(UnknownOwner::NotScanned);
        };
        // A number found may be of a socket closed since, and be another's now; but not if that was open before we looked.
        let mut held = if lookup.was_there || now_ns.saturating_sub(*start_ns) < FRESH_NS {
            owners.find_holders(Some(lookup.inode))
        } else {
            owners.find_current_holders(lookup.inode)
        };
        if let Some(owner) = held.process() {
            return Ok(owner);
        }
        if held.primary() != PrimaryHolder::Nobody {
            return Err(UnknownOwner::Several);
        }
        if !lookup.was_there && *start_ns < lookup.asked_ns {
            return Err(UnknownOwner::NotScanned);
        }
        let unseen = owners.unseen();
        if unseen.hidden || unseen.processes > 0 {
            return Err(UnknownOwner::Hidden);
        }
        let root = &self.root;
        if *self
            .has_other_pids
            .get_or_insert_with(|| pidns::other_than_first(root) != 0)
        {
            return Err(UnknownOwner::OtherPidNamespace);
        }
        Err(if lookup.is_closed {
            UnknownOwner::Exited
        } else {
            UnknownOwner::Kernel
        })
    }

    /// The cgroup of `owner`, who had a connection at `unix_ns` (since the Unix epoch): the one it was in when it came to
    /// be known, or else the one it is in now. `None` where neither is known, nor the process there any more.
    fn cgroup(&mut self, owner: &Owner, unix_ns: i64) -> Option<Arc<Cgroup>> {
        if let Some(cgroup) = owner.cgroup.and_then(|id| self.cgroup_by_id(id)) {
            return Some(cgroup);
        }
        let pid = owner.pid?;
        // Somebody may have set the clock.
        let at = u64::try_from(unix_ns.saturating_add(clock::unix_to_boot_ns())).unwrap_or(0);
        let key = (pid, owner.comm);
        let fresh = |known: &Known| at.saturating_sub(known.read_ns) < FRESH_NS;
        if !self.processes.get(&key).is_some_and(fresh) {
            if self.processes.len() >= PROCESSES {
                self.processes.clear();
            }
            let found = process(&self.root, pid);
            let path = found.as_ref().and_then(|_| cgroup::path(&self.root, pid));
            // That a process is gone is remembered too: it may have left many connections.
            let known = Known {
                start_ns: found.map_or(0, |found| found.start_ns),
                read_ns: clock::boot_ns(),
                cgroup: path.map(|path| Arc::new(self.pods.cgroup(path))),
            };
            self.processes.insert(key, known);
        }
        let known = self.processes.get(&key).filter(|known| known.start_ns <= at)?;
        known.cgroup.clone()
    }

    /// The cgroup `id`; `None` where its path cannot be known.
    fn cgroup_by_id(&mut self, id: NonZeroU64) -> Option<Arc<Cgroup>> {
        if self.cgroups.len() >= CGROUPS && !self.cgroups.contains_key(&id) {
            self.cgroups.clear();
        }
        let pods = &mut self.pods;
        let ask = || Some(Arc::new(pods.cgroup(self.hierarchy.as_ref()?.path(id)?)));
        self.cgroups.entry(id).or_insert_with(ask).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::input::owner::How;
    use crate::source::owner_resolver::tests::tree;

    fn lookup(inode: u32, was_there: bool) -> Lookup {
        Lookup {
            inode: NonZeroU32::new(inode).unwrap(),
            was_there,
            is_closed: false,
            asked_ns: clock::monotonic_ns(),
        }
    }

    #[test]
    fn a_process_is_read_once_whatever_its_name_is_by_now() {
        let root = tree();
        let cgroup = root.path().join("proc/7/cgroup");
        let mut reader = ProcReader::new(root.path(), None);
        let mut of = |name: &[u8], is_in: &str| {
            fs::write(&cgroup, format!("0::{is_in}\n")).unwrap();
            let owner = Owner {
                pid: NonZeroU32::new(7),
                comm: Comm::new(name),
                how: How::Connect,
                cgroup: None,
            };
            let unix_ns = clock::unix_ns();
            reader.cgroup(&owner, unix_ns).map(|cgroup| cgroup.path.clone())
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
        let mut reader = ProcReader::new(root.path(), None);
        assert_eq!(
            reader.holder(&lookup(100, true)).map(|owner| owner.to_string()),
            Ok("nginx[7]".into())
        );
        fs::remove_file(root.path().join("proc/7/fd/3")).unwrap();
        let began = reader.scanned.as_ref().unwrap().start_ns;
        let mut holder = |was_there, after_ns| {
            let owner = reader.known_holder(&lookup(100, was_there), began + after_ns);
            owner.map(|owner| owner.to_string())
        };
        let nginx = Ok("nginx[7]".to_owned());
        assert_eq!(holder(false, FRESH_NS - 1), nginx, "so soon no number is given again");
        assert_eq!(
            holder(false, FRESH_NS),
            Err(UnknownOwner::NotScanned),
            "it may be another socket's now"
        );
        assert_eq!(holder(true, FRESH_NS), nginx, "it was there when we looked");
    }

    #[test]
    fn each_unknown_owner_has_its_reason() {
        let root = tree();
        let mut reader = ProcReader::new(root.path(), None);
        reader.has_other_pids = Some(false);
        assert_eq!(
            reader.known_holder(&lookup(101, true), 0),
            Err(UnknownOwner::NotScanned)
        );
        reader.scan_again_ns = 0;
        assert_eq!(reader.holder(&lookup(101, true)), Err(UnknownOwner::Hidden));
        fs::create_dir_all(root.path().join("proc/1/fd")).unwrap();
        reader.scan().unwrap();
        let mut reason = |is_closed| {
            let closed = Lookup {
                is_closed,
                ..lookup(101, true)
            };
            reader.holder(&closed).unwrap_err()
        };
        assert_eq!(
            (reason(false), reason(true)),
            (UnknownOwner::Kernel, UnknownOwner::Exited)
        );
        reader.has_other_pids = Some(true);
        assert_eq!(reader.holder(&lookup(101, true)), Err(UnknownOwner::OtherPidNamespace));
        let second = root.path().join("proc/9/fd");
        fs::create_dir_all(&second).unwrap();
        std::os::unix::fs::symlink("socket:[100]", second.join("4")).unwrap();
        fs::write(root.path().join("proc/9/comm"), "other\n").unwrap();
        let stat = "9 (other) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0\n";
        fs::write(root.path().join("proc/9/stat"), stat).unwrap();
        reader.scan().unwrap();
        assert_eq!(reader.holder(&lookup(100, true)), Err(UnknownOwner::Several));
    }

    #[test]
    fn where_nothing_can_be_scanned_nothing_is_known_and_the_next_scan_is_later() {
        let root = tempfile::tempdir().unwrap();
        let mut reader = ProcReader::new(root.path(), None);
        assert_eq!(reader.holder(&lookup(100, true)), Err(UnknownOwner::NotScanned));
        assert!(reader.has_failed && reader.scan_again_ns > clock::monotonic_ns());
    }
}
