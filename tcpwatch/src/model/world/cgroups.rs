//! The cgroups of the processes that records name.

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::input::container::Cgroup;
use crate::input::owner::{Comm, Owner};
use crate::model::filter::owner::OwnerFilter;

/// Paths in each of the two generations.
const MOST: usize = 8192;

/// What a cgroup is known by: under another name a number may be another process's.
type Key = (Option<NonZeroU32>, Comm, Option<NonZeroU64>);

/// The cgroup of each owner, in two generations: the older is dropped when the newer is full. The source sends the cgroup of an owner
/// again with each batch of records that names it.
#[derive(Debug, Default)]
pub(super) struct CgroupPaths {
    new: HashMap<Key, Option<Arc<Cgroup>>>,
    old: HashMap<Key, Option<Arc<Cgroup>>>,
}

fn key(owner: &Owner) -> Key {
    (owner.pid, owner.comm, owner.cgroup)
}

impl CgroupPaths {
    pub(super) fn insert(&mut self, owner: &Owner, cgroup: Option<Arc<Cgroup>>) {
        if self.new.len() >= MOST {
            self.old = std::mem::take(&mut self.new);
        }
        self.new.insert(key(owner), cgroup);
    }

    /// That of `owner`; `None` where it is not known.
    pub(super) fn get(&self, owner: &Owner) -> Option<Arc<Cgroup>> {
        let key = key(owner);
        self.new.get(&key).or_else(|| self.old.get(&key)).cloned().flatten()
    }

    /// Whether `filter` asks for `process`; it asks for none that is unknown, unless it asks for any.
    pub(super) fn is_asked_for(&self, process: Option<Owner>, filter: &OwnerFilter) -> bool {
        let matches = |process: Owner| filter.matches(process.pid, &process.comm, || self.get(&process));
        filter.is_any() || process.is_some_and(matches)
    }
}
