//! Local ports: `ip_local_port_range`, `ip_local_reserved_ports`, and a destination that takes nearly all.

use super::format::reaches;
use super::judgement::Judgement;
use super::port_usage::{LOW, OUT, enough, holds, in_the_way, nearly_out, nearly_out_of};
use super::suggested_range::wider;
use crate::detect::few;
use crate::detect::finding::{Finding, Severity};
use crate::explain::kind::FindingKind;
use crate::input::host::HostFrame;
use crate::input::setting::Setting;

/// `net.ipv4.ip_local_port_range`.
pub(super) fn range(frame: &HostFrame) -> Judgement {
    let Some(range) = &frame.range else {
        return Judgement::fine();
    };
    let verdict = match (nearly_out(frame), nearly_out_of(frame)) {
        (Some(held), _) => match wider(frame, in_the_way(frame, held), LOW) {
            Some(to) => Judgement::warning(holds(frame, held)).with_set_command(
                frame,
                Setting::IpLocalPortRange,
                &format!("{} {}", to.start(), to.end()),
                "a service that is down now, or a NodePort of Kubernetes (30000-32767), may find its port taken: reserve it \
                 (net.ipv4.ip_local_reserved_ports)",
            ),
            None => Judgement::warning(format!(
                "{}, and a wider range would take the ports of services",
                holds(frame, held)
            )),
        },
        // Nothing shows whether a program does, and connect() alone shares them.
        (None, Some(held)) => Judgement::note(format!(
            "{}, whatever the destination: a program that calls bind() to port 0 before connect() finds none, unless it sets \
             IP_BIND_ADDRESS_NO_PORT; connect() alone has as many to each other destination",
            holds(frame, held)
        )),
        (None, None) => enough(frame),
    };
    let most = frame.held.as_ref().and_then(|held| held.to.first());
    verdict
        .evidence("usable", u64::from(range.usable()))
        .evidence("time_wait", frame.time_wait)
        .evidence("busiest_used", most.map(|held| held.used))
}

/// `net.ipv4.ip_local_reserved_ports`.
pub(super) fn reserved(frame: &HostFrame) -> Judgement {
    let (Some(range), Some(listeners)) = (&frame.range, &frame.listeners) else {
        return Judgement::fine();
    };
    let inside = listeners.iter().filter(|listener| range.contains(listener.port));
    let mut inside: Vec<(u16, String)> = inside.map(|listener| (listener.port, listener.to_string())).collect();
    inside.sort_unstable();
    inside.dedup();
    let shown: Vec<&String> = inside.iter().map(|(_, shown)| shown).collect();
    let verdict = if inside.is_empty() {
        Judgement::fine()
    } else {
        Judgement::note(format!(
            "connect() may take the port of {} while the service is down. Reserve it where its number is fixed; \
             nothing here shows whether it is",
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
    let severity = if reaches(in_the_way(frame, held), usable, OUT) {
        Severity::Critical
    } else {
        Severity::Warning
    };
    let title = format!("Local ports run out: {}", holds(frame, held));
    findings.push(Finding {
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
            "see the lines for net.ipv4.ip_local_port_range and net.ipv4.tcp_tw_reuse below".into(),
        ],
        ..Finding::new(FindingKind::PortExhaustion, severity, title)
    });
}
