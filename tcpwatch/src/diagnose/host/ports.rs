//! Local ports: `ip_local_port_range`, `ip_local_reserved_ports`, and a destination that takes nearly all.

use super::verdict::Verdict;
use super::words::reaches;
use crate::diagnose::few;
use crate::diagnose::finding::{Finding, Severity};
use crate::diagnose::kind::Kind;
use crate::explain::setting::Setting;
use crate::explain::topic::Topic;
use crate::model::host::{HostFrame, PortsHeld};
use crate::model::number::thousands;

/// Of the ports, the part in use to one destination from which they run low, percent.
const LOW: u64 = 80;
/// The part from which the next connects fail, percent: connect(2) finds the last ones by chance.
const OUT: u64 = 98;
/// From here on no service of note listens, and the range may begin.
const FIRST: u16 = 10_240;

/// The busiest destination, where it holds so many ports that they run low.
pub(super) fn nearly_out(frame: &HostFrame) -> Option<&PortsHeld> {
    let usable = u64::from(frame.range.as_ref()?.usable());
    frame
        .busiest
        .as_ref()
        .filter(|held| reaches(in_the_way(frame, held), usable, LOW))
}

/// The ports that the next `connect()` cannot have, of those held: not those in TIME_WAIT where it may take them.
fn in_the_way(frame: &HostFrame, held: &PortsHeld) -> u64 {
    let has_timestamps = frame.number(Setting::TcpTimestamps).is_some_and(|value| value != 0);
    match frame.number(Setting::TcpTwReuse) {
        Some(1) if has_timestamps => held.used.saturating_sub(held.time_wait),
        Some(2) if has_timestamps && is_to_loopback(frame) => held.used.saturating_sub(held.time_wait),
        _ => held.used,
    }
}

/// Whether `TIME_WAIT` holds most of them.
pub(super) fn is_by_time_wait(held: &PortsHeld) -> bool {
    reaches(held.time_wait, held.used, 50)
}

/// Whether the busiest destination is this host itself.
pub(super) fn is_to_loopback(frame: &HostFrame) -> bool {
    let destination = frame.busiest.and_then(|held| held.ends.destination);
    destination.is_some_and(|destination| destination.ip().to_canonical().is_loopback())
}

/// `10.0.0.1 to 10.0.0.9:6379 holds 24,310 of 28,232 ports, 24,000 of them in TIME_WAIT`.
pub(super) fn holds(frame: &HostFrame, held: &PortsHeld) -> String {
    let destination = held
        .ends
        .destination
        .map_or_else(|| "anywhere".into(), |to| to.to_string());
    let usable = frame.range.as_ref().map_or(0, |range| range.usable().into());
    format!(
        "{} to {destination} holds {} of {} ports, {} of them in TIME_WAIT",
        held.ends.source,
        thousands(held.used),
        thousands(usable),
        thousands(held.time_wait)
    )
}

/// Whether ports run low, and why not: `0 in TIME_WAIT now, of 28,232 ports to each destination: nothing to gain`.
pub(super) fn enough(frame: &HostFrame) -> String {
    let (Some(range), Some(time_wait)) = (&frame.range, frame.time_wait) else {
        return "whether ports run low is unknown".into();
    };
    let usable = u64::from(range.usable());
    if let Some(held) = &frame.busiest {
        return format!("{}: nothing to gain", holds(frame, held));
    }
    let now = format!(
        "{} in TIME_WAIT now, of {} ports to each destination",
        thousands(time_wait),
        thousands(usable)
    );
    if reaches(time_wait, usable, LOW) {
        format!("{now}; how many destinations share them is not known here, and tcpwatch churn tells")
    } else {
        format!("{now}: nothing to gain")
    }
}

/// `net.ipv4.ip_local_port_range`.
pub(super) fn range(frame: &HostFrame) -> Verdict {
    let Some(range) = &frame.range else {
        return Verdict::fine(
            "how many ports there are to each destination is unknown, for reserved ones could not be read",
        );
    };
    let usable = u64::from(range.usable());
    let verdict = match nearly_out(frame) {
        Some(held) if *range.bounds().start() > FIRST || *range.bounds().end() < u16::MAX => {
            let first = FIRST.min(*range.bounds().start());
            Verdict::warning(holds(frame, held)).set(
                frame,
                Setting::IpLocalPortRange,
                &format!("{first} {}", u16::MAX),
                "a service that starts later may find its port taken: reserve it (net.ipv4.ip_local_reserved_ports)",
            )
        }
        Some(held) => Verdict::warning(format!(
            "{}, and a wider range takes the ports of services",
            holds(frame, held)
        )),
        None => Verdict::fine(enough(frame)),
    };
    verdict
        .evidence("usable", usable)
        .evidence("time_wait", frame.time_wait)
        .evidence("busiest_used", frame.busiest.map(|held| held.used))
}

/// `net.ipv4.ip_local_reserved_ports`.
pub(super) fn reserved(frame: &HostFrame) -> Verdict {
    let (Some(range), Some(listeners)) = (&frame.range, &frame.listeners) else {
        return Verdict::fine("ports that connect() does not take; whether a service listens in the range is unknown");
    };
    let inside = listeners.iter().filter(|listener| range.contains(listener.port));
    let mut inside: Vec<(u16, String)> = inside.map(|listener| (listener.port, listener.to_string())).collect();
    inside.sort_unstable();
    inside.dedup();
    let shown: Vec<&String> = inside.iter().map(|(_, shown)| shown).collect();
    let verdict = if inside.is_empty() {
        Verdict::fine("nobody listens on a port connect() may take: nothing to gain")
    } else {
        Verdict::fine(format!(
            "connect() may take the port of {} while the service is down. Reserve it where its number is fixed; nobody can see here whether it is",
            few(&shown)
        ))
    };
    verdict.evidence("listeners_in_range", inside.len() as u64)
}

/// A destination that takes nearly all ports.
pub(super) fn exhaustion(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let Some((held, range)) = nearly_out(frame).zip(frame.range.as_ref()) else {
        return;
    };
    let usable = u64::from(range.usable());
    findings.push(Finding {
        kind: Kind::PortExhaustion,
        topic: Topic::Finding(Kind::PortExhaustion),
        severity: if reaches(in_the_way(frame, held), usable, OUT) {
            Severity::Critical
        } else {
            Severity::Warning
        },
        title: format!("Local ports run out: {}", holds(frame, held)),
        evidence: vec![
            ("source", held.ends.source.to_string().as_str().into()),
            (
                "destination",
                held.ends.destination.map(|to| to.to_string()).as_deref().into(),
            ),
            ("used", held.used.into()),
            ("time_wait", held.time_wait.into()),
            ("range", usable.into()),
        ],
        advice: vec![
            "keep connections instead of opening one for each request: tcpwatch churn names who opens them".into(),
            "net.ipv4.ip_local_port_range and net.ipv4.tcp_tw_reuse, here, tell what they would help".into(),
        ],
        owner: None,
    });
}
