//! The processes asked for, each read once.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::input::container::Cgroup;
use crate::input::owner::{Comm, How, Owner};
use crate::model::filter::owner::OwnerFilter;
use crate::sys::cgroup;
use crate::sys::pods::PodNames;
use crate::sys::procs::process;

/// What is known of processes.
pub(super) struct Processes {
    root: PathBuf,
    /// A process that started later, ns since boot, is none of those asked for.
    until: u64,
    known: HashMap<NonZeroU32, Option<Known>>,
    cgroups: HashMap<NonZeroU32, Option<Arc<Cgroup>>>,
    pods: PodNames,
}

/// A process, and what was made of it.
pub(super) struct Known {
    pub(super) comm: Comm,
    pub(super) parent: Option<NonZeroU32>,
    /// Made for the first of its sockets, and shared.
    owner: Option<Arc<Owner>>,
}

impl Processes {
    /// None read yet, of those under `root` that had started at `until`, ns since boot.
    pub(super) fn new(root: &Path, until: u64) -> Self {
        Self {
            root: root.to_owned(),
            until,
            known: HashMap::new(),
            cgroups: HashMap::new(),
            pods: PodNames::new(root),
        }
    }

    /// The process `pid`; `None` where it is gone, or its number is another's by now.
    pub(super) fn get(&mut self, pid: NonZeroU32) -> Option<&mut Known> {
        let read = || {
            let found = process(&self.root, pid).filter(|found| !found.started_after(self.until))?;
            Some(Known {
                comm: found.comm,
                parent: found.parent,
                owner: None,
            })
        };
        self.known.entry(pid).or_insert_with(read).as_mut()
    }

    /// Whether `filter` selects the process `pid`.
    pub(super) fn matches(&mut self, pid: NonZeroU32, filter: &OwnerFilter) -> bool {
        let comm = self.get(pid).map(|known| known.comm);
        comm.is_some_and(|comm| filter.matches(Some(pid), &comm, || self.cgroup(pid)))
    }

    /// The process `pid` as an owner found in /proc.
    pub(super) fn owner(&mut self, pid: NonZeroU32) -> Option<Arc<Owner>> {
        let known = self.get(pid)?;
        let owner = Owner {
            pid: Some(pid),
            comm: known.comm,
            how: How::Scan,
            cgroup: None,
        };
        Some(known.owner.get_or_insert_with(|| Arc::new(owner)).clone())
    }

    /// The cgroup of the process `pid`.
    pub(super) fn cgroup(&mut self, pid: NonZeroU32) -> Option<Arc<Cgroup>> {
        self.get(pid)?;
        let pods = &mut self.pods;
        let read = || cgroup::path(&self.root, pid).map(|path| Arc::new(pods.cgroup(path)));
        self.cgroups.entry(pid).or_insert_with(read).clone()
    }
}
