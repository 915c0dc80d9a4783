//! Whether sockets that stay in a state are leaked, closed late, or waited for with good reason; and by which evidence.
//!
//! A *leak* is told where the oldest is older than anything that closes late would be, and none like it was closed in a window in
//! which some would have been: it is at least as long as makes a socket stuck, and so long that three would have been closed, had
//! they been closed as fast as they came; a minute is enough, and is needed of one or two. Sockets that this side opened, and that
//! came together, are not known to be leaked for longer: whoever keeps idle connections in a pool looks at them every few minutes. Where the kernel itself ends a
//! state, nothing is leaked in it; but what the kernel ends for a reset, or for want of an answer, its application has not closed.

mod words;

use tcpwatch_common::TcpState;

use self::words::title;
pub use self::words::{advice, oldest, place, topic, truth, who, why};

use super::finding::{Finding, Severity};
use super::{Detector, Frame, MOST};
use crate::explain::kind::Kind;
use crate::model::leaks::{Doubt, Group, LeaksFrame, Side, Verdict};

const SECOND: u64 = 1_000_000_000;
/// The oldest of a leak is at least so old, ns, and at least twice what makes a socket stuck.
const LEAK_NS: u64 = 30 * SECOND;
/// Where as many as one in so many of the stuck sockets left nobody knows how, nothing is concluded.
const UNKNOWN: u64 = 10;
/// They came together, if within this part of what makes a socket stuck.
const SPREAD: u64 = 3;
/// Where this side opened them, and they came together, the oldest is at least so many times as old as makes a socket stuck.
const TOGETHER: u64 = 10;
/// The longest window that is asked for because they are few, ns: that of a watch of a minute, whose first look takes its time.
const WINDOW_MAX_NS: u64 = 55 * SECOND;
/// So many would have been closed in the window, had they been closed as fast as they came.
const WOULD_BE_CLOSED: u64 = 3;

/// What `group` is, where `older_ns` makes a socket stuck.
#[must_use]
pub fn judge(group: &Group, older_ns: u64) -> Verdict {
    let most = |sockets: u64| sockets.saturating_mul(2) > group.sockets;
    let is_pool = matches!(group.key.side, Side::Active(..)) && apart_ns(group) < older_ns / SPREAD;
    let decisive_ns = LEAK_NS.max(older_ns.saturating_mul(if is_pool { TOGETHER } else { 2 }));
    let kernel_ends = kernel_ends(group);
    if group.closings.late > 0 {
        // Some are closed late, but most are older than that explains.
        let some_leak = !kernel_ends && group.oldest.ns >= decisive_ns && most(group.beyond);
        return if some_leak {
            Verdict::Leak
        } else if is_draining(group) {
            Verdict::Burst
        } else {
            Verdict::Slow
        };
    }
    // One now and then was there before the watch.
    let unknown = group.closings.unknown;
    let is_unknown = unknown.saturating_mul(UNKNOWN) > group.sockets;
    if is_unknown && !kernel_ends && group.window_ns.is_some_and(|window_ns| window_ns >= older_ns) {
        return Verdict::Undecided(Doubt::Unknown(unknown));
    }
    // What nobody has accepted nobody can read. And one look does not tell whether it is being read, slowly.
    let is_unread = most(group.unread) && !most(group.unaccepted);
    if is_unread && group.window_ns.is_some_and(|window_ns| window_ns >= older_ns) {
        return Verdict::StuckReader;
    }
    if kernel_ends {
        return Verdict::Undecided(Doubt::KernelEnds);
    }
    if most(group.unsent) {
        return Verdict::Undecided(Doubt::Sends);
    }
    let Some(window_ns) = group.window_ns else {
        return Verdict::Undecided(Doubt::OneLook);
    };
    let window_more_ns = if is_unread {
        older_ns.saturating_sub(window_ns)
    } else {
        window_more_ns(group, window_ns, older_ns)
    };
    let older_by_ns = decisive_ns.saturating_sub(group.oldest.ns);
    match window_more_ns.max(older_by_ns) {
        0 => Verdict::Leak,
        more_ns if is_pool && older_by_ns > 0 => Verdict::Undecided(Doubt::Together(more_ns)),
        more_ns if window_more_ns > 0 => Verdict::Undecided(Doubt::Window(more_ns)),
        more_ns => Verdict::Undecided(Doubt::Young(more_ns)),
    }
}

/// How long after the oldest the youngest came, as far as is known, ns.
fn apart_ns(group: &Group) -> u64 {
    group.oldest.ns.saturating_sub(group.youngest_ns)
}

/// How much longer than `window_ns` to watch before it means something that none was closed, ns.
fn window_more_ns(group: &Group, window_ns: u64, older_ns: u64) -> u64 {
    // They came in as long as the oldest is there, which grows as the window does.
    let rate = group.sockets.saturating_sub(WOULD_BE_CLOSED);
    let would_be = group.oldest.ns.saturating_mul(WOULD_BE_CLOSED);
    let so_far = window_ns.saturating_mul(group.sockets);
    let by_rate_ns = would_be.saturating_sub(so_far).checked_div(rate).unwrap_or(u64::MAX);
    let most_ns = WINDOW_MAX_NS.saturating_sub(window_ns);
    older_ns.saturating_sub(window_ns).max(by_rate_ns.min(most_ns))
}

/// Whether the kernel gives up by itself (`tcp_syn_retries`, `tcp_retries2`, `tcp_orphan_retries`, `tcp_fin_timeout`).
fn kernel_ends(group: &Group) -> bool {
    group.key.orphans || matches!(group.key.state, TcpState::SynSent | TcpState::LastAck)
}

/// Whether most were there at once, and get fewer by closings, while few come.
fn is_draining(group: &Group) -> bool {
    let came = (group.sockets + group.late_since_peak).saturating_sub(group.peak);
    group.sockets < group.peak
        && group.closings.late <= group.peak.saturating_add(group.peak / 2)
        && group.late_since_peak >= 3.max(group.peak / 4)
        && came.saturating_mul(2) < group.late_since_peak
}

/// Finds groups of sockets that are leaked, not read, or closed late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leak;

impl Detector for Leak {
    fn look(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(LeaksFrame { groups, older_ns, .. }) = &frame.leaks else {
            return;
        };
        let judged = groups.iter().filter_map(|group| {
            let verdict = judge(group, *older_ns);
            let severity = match verdict {
                Verdict::Leak | Verdict::StuckReader => Severity::Warning,
                Verdict::Slow => Severity::Info,
                Verdict::Burst | Verdict::Undecided(_) => return None,
            };
            Some((group, verdict, severity))
        });
        for (group, verdict, severity) in judged.take(MOST) {
            findings.push(Finding {
                kind: Kind::Leak,
                topic: topic(group),
                severity,
                title: title(group, verdict),
                evidence: vec![
                    ("verdict", verdict.key().into()),
                    ("state", group.key.state.key().into()),
                    ("sockets", group.sockets.into()),
                    ("oldest_s", seconds(group.oldest.ns).into()),
                    ("window_s", group.window_ns.map(seconds).into()),
                    ("closed_late", group.closings.late.into()),
                    ("unread_bytes", group.unread_bytes.into()),
                    ("growth_per_min", group.growth_per_min.into()),
                ],
                advice: advice(group, verdict),
                owner: group.owner,
            });
        }
    }
}

/// `ns` in seconds, for machine output.
#[must_use]
pub fn seconds(ns: u64) -> f64 {
    std::time::Duration::from_nanos(ns).as_secs_f64()
}

#[cfg(test)]
pub(crate) mod tests;
