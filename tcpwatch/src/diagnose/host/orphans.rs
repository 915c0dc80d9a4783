//! Orphans, sockets that their process has closed and that are not over: `tcp_max_orphans`, `tcp_orphan_retries`.

use super::verdict::Verdict;
use super::words::{rate, reaches, since, told};
use crate::diagnose::finding::{Finding, Severity};
use crate::diagnose::kind::Kind;
use crate::explain::setting::Setting;
use crate::explain::topic::Topic;
use crate::model::counter::Counter;
use crate::model::host::HostFrame;
use crate::model::number::thousands;

/// From this part of the limit on, percent, an orphan that does not get on is given up (`tcp_out_of_resources`).
const PART: u64 = 25;
/// What an orphan may take, KiB.
const KIB: u64 = 64;
/// Retries of an orphan, where `tcp_orphan_retries` is 0 (`tcp_orphan_retries()`).
const RETRIES: u64 = 8;

/// Whether orphans are so many now that the limit may take some; `None` where that is unknown.
fn are_many(frame: &HostFrame) -> Option<bool> {
    let (orphans, limit) = (frame.orphans?, frame.number(Setting::TcpMaxOrphans)?);
    Some(orphans > 0 && reaches(orphans, limit, PART))
}

fn now(frame: &HostFrame) -> String {
    frame.orphans.map_or_else(
        || "how many there are now is unknown".into(),
        |count| format!("{} now", thousands(count)),
    )
}

/// `net.ipv4.tcp_max_orphans`.
pub(super) fn most(frame: &HostFrame) -> Verdict {
    let counted = told(frame, Counter::TcpAbortOnMemory);
    let limit = frame.number(Setting::TcpMaxOrphans);
    let verdict = match (frame.counter(Counter::TcpAbortOnMemory), are_many(frame), limit) {
        (Some(0), _, _) => Verdict::fine(format!("{}, none was given up: {counted}. Nothing to gain", now(frame))),
        (Some(_), Some(true), Some(limit)) => {
            let to = limit.saturating_mul(2);
            Verdict::warning(format!(
                "{}, and orphans were given up with a reset: {counted}",
                now(frame)
            ))
            .set(
                frame,
                Setting::TcpMaxOrphans,
                &to.to_string(),
                &format!(
                    "each may hold {KIB} KiB that cannot be swapped, {} MiB of them together",
                    thousands(to.saturating_mul(KIB) >> 10)
                ),
            )
        }
        (Some(_), _, _) => Verdict::note(format!(
            "{}; sockets were given up, for this limit or for want of memory (tcp_mem): {counted}. \
             The kernel's log says which (\"too many orphaned sockets\"): nothing is recommended without it",
            now(frame)
        )),
        (None, _, _) => Verdict::fine(format!("{}; {counted}", now(frame))),
    };
    verdict
        .counters(&[Counter::TcpAbortOnMemory, Counter::TcpMemoryPressures])
        .evidence("orphans", frame.orphans)
}

/// `net.ipv4.tcp_orphan_retries`.
pub(super) fn retries(frame: &HostFrame) -> Verdict {
    let verdict = match frame.number(Setting::TcpOrphanRetries) {
        Some(0) => Verdict::fine(format!(
            "which means {RETRIES}, 100 s or more; orphans: {}. Nothing to gain",
            now(frame)
        )),
        Some(retries) if retries < RETRIES => Verdict::note(format!(
            "an orphan is given up after {retries} retries, and what it had left to send is lost; orphans: {}",
            now(frame)
        )),
        _ => Verdict::fine(format!("how often an orphan tries again; orphans: {}", now(frame))),
    };
    verdict.evidence("orphans", frame.orphans)
}

/// Orphans at their limit.
pub(super) fn limit(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let given_up = frame.counter(Counter::TcpAbortOnMemory).unwrap_or(0);
    let many = are_many(frame) == Some(true);
    if given_up == 0 && !many {
        return;
    }
    let most = frame.number(Setting::TcpMaxOrphans);
    let mut title = format!(
        "{} orphans of {} at most",
        frame.orphans.map_or_else(|| "An unknown number of".into(), thousands),
        most.map_or_else(|| "unknown".into(), thousands)
    );
    if given_up > 0 {
        title = format!(
            "{} sockets were given up for too many orphans or too little memory {}{}; {title}",
            thousands(given_up),
            since(frame),
            rate(frame, given_up)
        );
    }
    findings.push(Finding {
        kind: Kind::OrphanLimit,
        topic: Topic::Finding(Kind::OrphanLimit),
        severity: Severity::Warning,
        title,
        evidence: vec![
            ("TCPAbortOnMemory", frame.counter(Counter::TcpAbortOnMemory).into()),
            ("TCPMemoryPressures", frame.counter(Counter::TcpMemoryPressures).into()),
            ("orphans", frame.orphans.into()),
            ("limit", most.into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice: vec![
            "see which it was: dmesg says \"too many orphaned sockets\" or \"out of memory -- consider tuning tcp_mem\"".into(),
            "net.ipv4.tcp_max_orphans, here, tells whether a higher limit would help".into(),
        ],
        owner: None,
    });
}
