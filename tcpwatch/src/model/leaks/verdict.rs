//! The verdicts on a group of sockets. The first in this list whose condition holds is the group's. Sockets that the kernel ends are
//! `Kernel`, or `Young` before.
//!
//! T is `--older`. The *window* is twice T, 30 s at least, and as long as the slowest close of the group took, 10 minutes at most.

use super::group::Group;

const SECOND: u64 = 1_000_000_000;
/// The window is this many times T: a socket that has been stuck for T gets as long again to be closed.
const WINDOW_TIMES: u64 = 2;
/// The shortest window, ns: timeouts of applications are seldom longer than 30 s, so a late close falls into it.
const WINDOW_MIN_NS: u64 = 30 * SECOND;
/// How long this host may keep connections that it opened unused, ns: pools close idle connections within 10 minutes.
const POOL_NS: u64 = 600 * SECOND;

/// What a group of sockets is, in the order of precedence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Some are T old, and the kernel ends them by itself: they are in `SYN_SENT` or `LAST_ACK`, or no process holds them.
    Kernel,
    /// In more than half of those that are T old, data has waited unread for T.
    Unread,
    /// This host opened them, none has unread data, and their number did not grow during the window; after 10 minutes it is a leak.
    Pool,
    /// Some that were T old were closed during the window; the row shows after how long.
    Slow,
    /// None is T old yet.
    #[default]
    Young,
    /// tcpwatch watched for less than the window, no socket is as old as the window, or a pool grew during the window. The row shows
    /// how much longer to watch.
    Undecided,
    /// None that was T old was closed during the window.
    Leak,
}

impl Verdict {
    /// All, in the order of precedence.
    pub const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Unread,
        Self::Pool,
        Self::Slow,
        Self::Young,
        Self::Undecided,
        Self::Leak,
    ];

    /// The word, in text as in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Unread => "unread",
            Self::Pool => "pool",
            Self::Slow => "slow",
            Self::Young => "young",
            Self::Undecided => "undecided",
            Self::Leak => "leak",
        }
    }

    /// Whether the application must be mended, for which `--fail-if-leak` fails.
    #[must_use]
    pub const fn is_defect(self) -> bool {
        matches!(self, Self::Leak | Self::Unread)
    }

    /// The place in a report: what must be mended comes first, what is healthy last.
    #[must_use]
    pub const fn rank(self) -> u8 {
        match self {
            Self::Leak => 0,
            Self::Unread => 1,
            Self::Slow => 2,
            Self::Undecided => 3,
            Self::Pool => 4,
            Self::Kernel => 5,
            Self::Young => 6,
        }
    }
}

/// The window, ns, where sockets are stuck after `older_ns` and the slowest close of one took `slowest_ns`.
#[must_use]
pub fn window_ns(older_ns: u64, slowest_ns: u64) -> u64 {
    let least_ns = older_ns.saturating_mul(WINDOW_TIMES).max(WINDOW_MIN_NS);
    least_ns.max(slowest_ns.min(POOL_NS))
}

/// The longest window, ns: older events decide nothing.
pub(super) fn longest_window_ns(older_ns: u64) -> u64 {
    window_ns(older_ns, u64::MAX)
}

/// The verdict on `group`, and how much longer to watch it where it is undecided, ns.
pub(super) fn judge(group: &Group, older_ns: u64) -> (Verdict, Option<u64>) {
    let window_ns = window_ns(older_ns, group.closings.slowest_ns());
    let watched_ns = group.watched_ns.unwrap_or(0);
    let is_stuck = group.sockets > 0;
    if is_stuck && group.key.is_for_kernel() {
        return (Verdict::Kernel, None);
    }
    let is_unread = group.unread.saturating_mul(2) > group.sockets;
    if is_unread && group.watched_ns.is_some() && watched_ns >= older_ns {
        return (Verdict::Unread, None);
    }
    let keeps_growing = |growth: Growth| growth.last_ns < window_ns && growth.lasted_ns >= window_ns;
    let may_be_pool = group.key.is_opened_here()
        && !group.key.is_for_kernel()
        && group.unread == 0
        && group.oldest.ns < POOL_NS
        && !group.growth.is_some_and(keeps_growing);
    let steady_ns = group.growth.map_or(0, |growth| growth.last_ns);
    if may_be_pool && steady_ns >= window_ns {
        return (Verdict::Pool, None);
    }
    let was_closed = group.last_late_ns.is_some_and(|ago_ns| ago_ns < window_ns);
    if was_closed && !may_be_pool && !group.key.is_for_kernel() {
        return (Verdict::Slow, None);
    }
    if !is_stuck {
        return (Verdict::Young, None);
    }
    let more_ns = if is_unread {
        older_ns.saturating_sub(watched_ns)
    } else if may_be_pool {
        window_ns.saturating_sub(steady_ns)
    } else {
        window_ns.saturating_sub(watched_ns.min(group.oldest.ns))
    };
    if more_ns > 0 || group.watched_ns.is_none() {
        (Verdict::Undecided, Some(more_ns))
    } else {
        (Verdict::Leak, None)
    }
}

/// How the number of stuck sockets grew, until it was the highest of the watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// How long ago it grew last, ns.
    pub last_ns: u64,
    /// For how long it had kept growing by then, ns: without a pause as long as the window.
    pub lasted_ns: u64,
}

#[cfg(test)]
mod tests;
