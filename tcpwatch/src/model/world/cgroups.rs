//! The cgroups of the processes that records name.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::input::container::Cgroup;
use crate::input::owner::{Comm, Owner};

/// Paths kept while no record waits for one.
const MOST: usize = 8192;

/// What a cgroup is known by: under another name a number may be another process's.
type Key = (Option<NonZeroU32>, Comm, Option<NonZeroU64>);

/// Cgroups by the owners that are in them.
#[derive(Debug, Default)]
pub(super) struct CgroupPaths(HashMap<Key, Option<Arc<Cgroup>>>);

fn key(owner: &Owner) -> Key {
    (owner.pid, owner.comm, owner.cgroup)
}

impl CgroupPaths {
    pub(super) fn insert(&mut self, owner: &Owner, cgroup: Option<Arc<Cgroup>>) {
        self.0.insert(key(owner), cgroup);
    }

    /// That of `owner`; `None` where it is not known.
    pub(super) fn get(&self, owner: &Owner) -> Option<Arc<Cgroup>> {
        self.0.get(&key(owner)).cloned().flatten()
    }

    /// Forgets all of them where there are many: no record waits, and a source tells them anew with each batch of records.
    pub(super) fn forget_if_full(&mut self) {
        if self.0.len() > MOST {
            self.0.clear();
        }
    }
}
