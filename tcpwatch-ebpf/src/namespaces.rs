//! Counts the transitions of each network namespace, so that userspace looks only into those where something happened.

use crate::counter::Shared;
use crate::maps::NAMESPACES;

/// `BPF_NOEXIST`.
const NEW_ONLY: u64 = 1;

/// Counts a transition in `netns`. If the table is full, a new namespace stays out of it.
#[inline(always)]
pub(crate) fn count(netns: u32) {
    let mut known = NAMESPACES.get_ptr_mut(&netns);
    if known.is_none() {
        // Another CPU may have been faster.
        let _ = NAMESPACES.insert(&netns, &0, NEW_ONLY);
        known = NAMESPACES.get_ptr_mut(&netns);
    }
    if let Some(transitions) = known {
        // SAFETY: an aligned number of a map, which all CPUs add to atomically.
        unsafe { Shared::<u64>::at(transitions) }.add(1);
    }
}
