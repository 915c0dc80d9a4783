//! What a trace shows.

use std::sync::Arc;

use super::ending::Ending;

/// One thing a trace shows, with what was found out beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<T> {
    /// The transition, or the finished connection.
    pub what: T,
    /// How it ended, where it is an end.
    pub ended: Option<Ending>,
    /// Path of its owner's cgroup.
    pub cgroup: Option<Arc<str>>,
}

/// How many transitions there were, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceTotals {
    /// Transitions the kernel side counted within the filter.
    pub seen: u64,
    /// Those printed.
    pub printed: u64,
    /// Those left out because they are not whom the filter asks for: it looks at owners, whom the kernel side does not judge.
    pub unmatched: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Runs of the kernel side that the kernel skipped, so that nobody counted them; `None` where it does not say.
    pub missed: Option<u64>,
}
