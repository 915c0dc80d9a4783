//! TCP counters and settings of the kernel, read once an interval.

use super::counter::CounterValues;
use super::namespace::Namespace;

/// The kernel's counters of TIME_WAIT; `None` if this kernel does not show one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitCounters {
    /// Timewait sockets created (`TcpExt:TW` + `TWKilled`, since Linux 5.18). Counted from an arbitrary start, as the next
    /// three.
    pub entered: Option<u64>,
    /// Timewait sockets refused (`TcpExt:TCPTimeWaitOverflow`).
    pub refused: Option<u64>,
    /// Timewait sockets reused by an outgoing connection (`TcpExt:TWRecycled`).
    pub recycled: Option<u64>,
    /// Timewait sockets that ended, for any reason: entered minus current. The kernel has no counter for an end by an incoming
    /// SYN, a reset or an administrator.
    pub left: Option<u64>,
    /// Current timewait sockets, including those in `FIN_WAIT2` (sockstat `tw`).
    pub population: Option<u64>,
    /// The limit (`tcp_max_tw_buckets`); `None` for several namespaces, because each has its own limit.
    pub limit: Option<u64>,
    /// The namespace that is nearest to its limit.
    pub fullest: Option<FullestNamespace>,
}

/// The timewait sockets of the network namespace that is nearest to its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullestNamespace {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Current timewait sockets, regardless of the filter (sockstat `tw`).
    pub population: u64,
    /// The limit (`tcp_max_tw_buckets`).
    pub limit: u64,
}

impl FullestNamespace {
    /// The fuller of the two namespaces.
    #[must_use]
    pub fn or(self, other: Option<Self>) -> Self {
        // a/b < c/d without a division.
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        other
            .filter(|other| product(other.population, self.limit) > product(self.population, other.limit))
            .unwrap_or(self)
    }
}

/// Orphans of the whole host: sockets that no process holds and that have not ended. `None` if this kernel or this network
/// namespace does not show a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Current orphans (sockstat `orphan`).
    pub now: Option<u64>,
    /// The limit (`tcp_max_orphans`).
    pub limit: Option<u64>,
    /// Memory of all TCP sockets, pages (sockstat `mem`).
    pub mem_pages: Option<u64>,
}

/// TCP counters and settings of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// TIME_WAIT of the watched namespaces.
    pub time_wait: TimeWaitCounters,
    /// Counters from an arbitrary start, summed over the watched namespaces, regardless of the filter.
    pub counters: CounterValues,
    /// Current orphans.
    pub orphans: Orphans,
    /// Settings that limit half-open connections.
    pub syn: SynSettings,
    /// The watched network namespace; `None` if there are several.
    pub namespace: Option<Namespace>,
    /// Age of the oldest walk that the numbers of half-open connections, and of timewait sockets in `FIN_WAIT2`, are from, ns; `None` if
    /// all were counted now. Of several namespaces not all are walked in each interval. A namespace that was not walked yet
    /// counts from the time when it was first seen.
    pub walk_age_ns: Option<u64>,
}

/// Settings of the network namespace that limit half-open connections; `None` if unknown, or if there are several namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynSettings {
    /// `tcp_syncookies`.
    pub cookies: Option<u64>,
    /// `tcp_max_syn_backlog`.
    pub max_backlog: Option<u64>,
}
