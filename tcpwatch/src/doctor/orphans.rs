//! Orphans, which are closed sockets that still wait for their peers: `tcp_max_orphans`, `tcp_orphan_retries`.

use super::format::{counter_text, rate, since};
use super::judgement::Judgement;
use super::negligible::{RARE, is_rare};
use crate::detect::finding::{Finding, Severity};
use crate::detect::orphan_limit::{UNREACHABLE, begins};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;
use crate::model::format::{several, thousands};

/// The connections that may become orphans.
const CONNECTIONS: [Counter; 2] = [Counter::ActiveOpens, Counter::PassiveOpens];
/// What an orphan may take, KiB.
const KIB: u64 = 64;
/// Retries of an orphan, where `tcp_orphan_retries` is 0 (`tcp_orphan_retries()`).
const RETRIES: u64 = 8;

/// Whether there are so many orphans now that the kernel may give up some for the limit; `None` if that is unknown.
fn are_many(frame: &HostFrame) -> Option<bool> {
    let (orphans, limit) = (frame.orphans?, frame.number(Setting::TcpMaxOrphans)?);
    Some(orphans > limit / u64::from(UNREACHABLE))
}

fn now(frame: &HostFrame) -> String {
    frame.orphans.map_or_else(
        || "how many there are now is unknown".into(),
        |count| format!("{} now", thousands(count)),
    )
}

/// `net.ipv4.tcp_max_orphans`.
pub(super) fn most(frame: &HostFrame) -> Judgement {
    let total = counter_text(frame, Counter::TcpAbortOnMemory);
    let limit = frame.number(Setting::TcpMaxOrphans);
    let verdict = match (frame.counter(Counter::TcpAbortOnMemory), are_many(frame), limit) {
        (None | Some(0), _, _) => Judgement::fine(),
        (Some(given_up), _, _) if is_rare(frame, given_up, &CONNECTIONS) => {
            Judgement::note(format!("{}; {total}, {RARE}", now(frame)))
        }
        (Some(_), Some(true), Some(limit)) => {
            let to = limit.saturating_mul(2);
            Judgement::warning(format!(
                "{}, and orphans were given up with a reset: {total}",
                now(frame)
            ))
            .with_set_command(
                frame,
                Setting::TcpMaxOrphans,
                &to.to_string(),
                &format!(
                    "each may hold {KIB} KiB that cannot be swapped, {} MiB of them together",
                    thousands(to.saturating_mul(KIB) >> 10)
                ),
            )
        }
        (Some(_), _, _) => Judgement::note(format!(
            "{}; sockets were given up, for this limit or for want of memory (tcp_mem): {total}. \
             The kernel's log shows which (\"too many orphaned sockets\"): nothing is recommended without it",
            now(frame)
        )),
    };
    verdict
        .counters(&[Counter::TcpAbortOnMemory, Counter::TcpMemoryPressures])
        .evidence("orphans", frame.orphans)
}

/// `net.ipv4.tcp_orphan_retries`.
pub(super) fn retries(frame: &HostFrame) -> Judgement {
    let verdict = match frame.number(Setting::TcpOrphanRetries) {
        Some(retries @ 1..RETRIES) => Judgement::note(format!(
            "an orphan is given up after {}, and what it had left to send is lost; orphans: {}",
            several(retries, "retry", "retries"),
            now(frame)
        )),
        _ => Judgement::fine(),
    };
    verdict.evidence("orphans", frame.orphans)
}

/// Orphans at their limit, and sockets of this namespace that were given up. Orphans are counted for the whole host, and shown
/// `with_host`.
pub(super) fn limit(frame: &HostFrame, with_host: bool, findings: &mut Vec<Finding>) {
    let given_up = frame.counter(Counter::TcpAbortOnMemory).unwrap_or(0);
    let many = with_host && are_many(frame) == Some(true);
    if given_up == 0 && !many {
        return;
    }
    let most = frame.number(Setting::TcpMaxOrphans);
    let there = format!(
        "{} orphans of {} at most",
        frame.orphans.map_or_else(|| "an unknown number of".into(), thousands),
        most.map_or_else(|| "unknown".into(), thousands)
    );
    let is_rare = is_rare(frame, given_up, &CONNECTIONS);
    let (severity, title) = if given_up == 0 {
        (
            Severity::Info,
            format!(
                "{there}; none was given up yet, {}",
                most.map(begins).unwrap_or_default()
            ),
        )
    } else {
        let title = format!(
            "{} given up for too many orphans or too little memory {}{}; {there}",
            several(given_up, "socket was", "sockets were"),
            since(frame),
            rate(frame, given_up)
        );
        if is_rare && !many {
            (Severity::Info, format!("{title}; that is {RARE}"))
        } else {
            (Severity::Warning, title)
        }
    };
    let mut advice: Vec<String> = Vec::new();
    if severity > Severity::Info {
        advice.push(
            "see which it was: dmesg shows \"too many orphaned sockets\" or \"out of memory -- consider tuning tcp_mem\"".into(),
        );
        if frame.settings.contains_key(&Setting::TcpMaxOrphans) {
            advice.push("for a higher limit see the line for net.ipv4.tcp_max_orphans below".into());
        }
    }
    if many {
        advice.push(
            "see whose peers do not answer: tcpwatch snapshot --state fin_wait1,last_ack,closing --by remote".into(),
        );
    }
    findings.push(Finding {
        evidence: vec![
            ("TCPAbortOnMemory", frame.counter(Counter::TcpAbortOnMemory).into()),
            ("TCPMemoryPressures", frame.counter(Counter::TcpMemoryPressures).into()),
            ("orphans", frame.orphans.into()),
            ("limit", most.into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice,
        ..Finding::new(FindingKind::OrphanLimit, severity, title)
    });
}
