//! The cgroup paths of the processes that own connections.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::input::container::Cgroup;
use crate::input::owner::{Comm, Owner};
use crate::model::filter::owner::OwnerFilter;

/// Owners in each of the two generations, at most.
const CAPACITY: usize = 8192;

/// PID, name and cgroup id. The name is part of the key, because the kernel reuses PIDs.
type Key = (Option<NonZeroU32>, Comm, Option<NonZeroU64>);

/// The cgroup of each owner, in two generations of [`CAPACITY`]. When the newer is full, the older is dropped; before that none expires.
/// One that was dropped is unknown until the source sends it again, with a later batch of records that names the owner.
#[derive(Debug, Default)]
pub(crate) struct CgroupPaths {
    new: HashMap<Key, Option<Arc<Cgroup>>>,
    old: HashMap<Key, Option<Arc<Cgroup>>>,
}

fn key(owner: &Owner) -> Key {
    (owner.pid, owner.comm, owner.cgroup)
}

impl CgroupPaths {
    pub(crate) fn insert(&mut self, owner: &Owner, cgroup: Option<Arc<Cgroup>>) {
        if self.new.len() >= CAPACITY {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key(owner), cgroup);
    }

    /// The cgroup of `owner`; `None` where it is unknown.
    pub(crate) fn get(&self, owner: &Owner) -> Option<Arc<Cgroup>> {
        let key = key(owner);
        self.new.get(&key).or_else(|| self.old.get(&key)).cloned().flatten()
    }

    /// Whether it is known of all `processes` in which cgroup they are, or that nobody knows.
    pub(crate) fn has_all(&self, processes: impl IntoIterator<Item = Owner>) -> bool {
        processes.into_iter().all(|process| {
            let key = key(&process);
            self.new.contains_key(&key) || self.old.contains_key(&key)
        })
    }

    /// Whether `owner` matches `filter`. An unknown owner matches only a filter without conditions.
    pub(crate) fn matches(&self, owner: Option<Owner>, filter: &OwnerFilter) -> bool {
        let matches = |owner: Owner| filter.matches(owner.pid, &owner.comm, || self.get(&owner));
        filter.is_any() || owner.is_some_and(matches)
    }
}
