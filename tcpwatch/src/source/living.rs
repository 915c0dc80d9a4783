//! What /proc adds to a connection while it lives: who holds a socket whose opening was not seen, and the cgroup of its owner.

mod cgroups;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use self::cgroups::Cgroups;
use super::owners::Owners;
use crate::clock;
use crate::model::owner::{Comm, Owner};
use crate::sys::cgroup;
use crate::sys::procs::process;

/// Of the time, at most a hundredth is spent on scans.
const SHARE: u64 = 100;
/// Scans are this far apart at least, ns: what was opened since the last is found by the next.
const APART_NS: u64 = 1_000_000_000;
/// What is known of a process is read anew after this long, ns: it may move to another cgroup, and its number to another.
const FRESH_NS: u64 = 1_000_000_000;
/// Processes remembered; with one more, all are read anew.
const PROCESSES: usize = 4096;

/// The processes of a running system.
pub struct Living {
    root: PathBuf,
    owners: Option<Owners>,
    scan_again_ns: u64,
    cgroups: Cgroups,
    known: HashMap<NonZeroU32, Known>,
    /// What to add to Unix time for time since boot, ns.
    to_boot_ns: i64,
}

/// What was read of a process.
struct Known {
    comm: Comm,
    start_ns: u64,
    read_ns: u64,
    cgroup: Option<Arc<str>>,
}

impl Living {
    /// The processes under `root`, none of them read yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            owners: None,
            scan_again_ns: 0,
            cgroups: Cgroups::new(root),
            known: HashMap::new(),
            to_boot_ns: 0,
        }
    }

    /// To be called before records are looked at: somebody may have set the clock.
    pub fn set_clock(&mut self) {
        self.to_boot_ns = clock::unix_to_boot_ns();
    }

    /// The owners in /proc, scanned now.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn scan(&mut self) -> anyhow::Result<&mut Owners> {
        let start = clock::monotonic_ns();
        let owners = Owners::scan(&self.root)?;
        let now = clock::monotonic_ns();
        self.scan_again_ns = now + APART_NS.max((now - start) * SHARE);
        Ok(self.owners.insert(owners))
    }

    /// Who holds the socket `inode`, whose owner nobody saw; `None` where /proc does not show it, or several do.
    pub fn holder(&mut self, inode: NonZeroU32) -> Option<Owner> {
        if let Some(owner) = self.known_holder(inode) {
            return Some(owner);
        }
        if clock::monotonic_ns() < self.scan_again_ns {
            return None;
        }
        if let Err(why) = self.scan() {
            log::debug!("no scan for owners: {why:#}");
            return None;
        }
        self.known_holder(inode)
    }

    fn known_holder(&mut self, inode: NonZeroU32) -> Option<Owner> {
        let whose = self.owners.as_mut()?.of(Some(inode)).whose();
        whose.process.map(|owner| *owner)
    }

    /// Path of the cgroup of `owner`, who had a connection at `unix_ns` (since the Unix epoch): the one it was in when it came to
    /// be known, or else the one it is in now. `None` where neither is known, nor the process there any more.
    pub fn cgroup(&mut self, owner: &Owner, unix_ns: i64) -> Option<Arc<str>> {
        if let Some(path) = owner.cgroup.and_then(|id| self.cgroups.path(id)) {
            return Some(path);
        }
        let pid = owner.pid?;
        let at = u64::try_from(unix_ns.saturating_add(self.to_boot_ns)).unwrap_or(0);
        let fresh = self
            .known
            .get(&pid)
            .is_some_and(|known| known.comm == owner.comm && at.saturating_sub(known.read_ns) < FRESH_NS);
        if !fresh {
            if self.known.len() >= PROCESSES {
                self.known.clear();
            }
            let Some(found) = process(&self.root, pid) else {
                self.known.remove(&pid);
                return None;
            };
            let known = Known {
                comm: found.comm,
                start_ns: found.start_ns,
                read_ns: clock::boot_ns(),
                cgroup: cgroup::path(&self.root, pid).map(Arc::from),
            };
            self.known.insert(pid, known);
        }
        let known = self.known.get(&pid).filter(|known| known.start_ns <= at)?;
        known.cgroup.clone()
    }
}
