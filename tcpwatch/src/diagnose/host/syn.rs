//! Half-open connections: `tcp_syncookies`, `tcp_max_syn_backlog`, and SYNs that found no room.

use super::verdict::Verdict;
use super::words::{rate, reaches, share, since, told};
use crate::diagnose::finding::{Finding, Severity};
use crate::diagnose::kind::Kind;
use crate::explain::setting::Setting;
use crate::explain::topic::Topic;
use crate::model::counter::Counter;
use crate::model::host::HostFrame;
use crate::model::number::thousands;
use crate::sys::release::Release;

/// From this release a listener's own backlog bounds its half-open connections (`inet_csk_reqsk_queue_is_full`).
const BOUND_BY_LISTENER: Release = Release(4, 4);
/// Of the cookies sent, the part that came back from which those who knocked were real, percent.
const REAL: u64 = 50;

/// `net.ipv4.tcp_syncookies`.
pub(super) fn cookies(frame: &HostFrame) -> Verdict {
    let drops = told(frame, Counter::TcpReqQFullDrop);
    let verdict = match (frame.number(Setting::TcpSyncookies), frame.counter(Counter::TcpReqQFullDrop)) {
        (Some(0), Some(0)) => Verdict::note(format!("off, and no SYN was dropped for it: {drops}. Nothing to gain so far")),
        (Some(0), None) => Verdict::note(format!("off; {drops}: whether SYNs were dropped for it cannot be said")),
        (Some(0), Some(_)) => Verdict::warning(format!("off, and SYNs were dropped that cookies would have answered: {drops}"))
            .set(
                frame,
                Setting::TcpSyncookies,
                "1",
                "none while no queue is full; a connection made by a cookie has no window scaling and no SACK unless both sides use timestamps",
            ),
        (Some(2), _) if frame.counter(Counter::SyncookiesSent).is_some_and(|sent| sent > 0) => Verdict::warning(format!(
            "every SYN is answered with a cookie, whether or not a queue is full, which is for tests: {}",
            told(frame, Counter::SyncookiesSent)
        ))
        .set(frame, Setting::TcpSyncookies, "1", "none: cookies are sent where a queue is full, as by default"),
        (Some(2), _) => Verdict::note(format!(
            "every SYN is answered with a cookie, which is for tests; {}",
            told(frame, Counter::SyncookiesSent)
        )),
        _ => match frame.counter(Counter::SyncookiesSent) {
            Some(0) => Verdict::fine(format!(
                "for a full queue of half-open connections alone; none was: {}",
                told(frame, Counter::SyncookiesSent)
            )),
            _ => Verdict::fine(format!(
                "in use where a queue of half-open connections is full: {}. Leave it on",
                told(frame, Counter::SyncookiesSent)
            )),
        },
    };
    verdict.counters(&[
        Counter::SyncookiesSent,
        Counter::TcpReqQFullDoCookies,
        Counter::TcpReqQFullDrop,
    ])
}

/// `net.ipv4.tcp_max_syn_backlog`.
pub(super) fn backlog(frame: &HostFrame) -> Verdict {
    let drops = told(frame, Counter::TcpReqQFullDrop);
    let old = frame.release().is_some_and(|release| release < BOUND_BY_LISTENER);
    let verdict = match frame.number(Setting::TcpSyncookies) {
        _ if old => Verdict::fine(format!(
            "with the listener's backlog it bounds half-open connections, the smaller counts; {drops}"
        )),
        None => Verdict::fine("whether it does anything depends on tcp_syncookies, which is unknown"),
        Some(0) => Verdict::fine(format!(
            "three quarters of it are for strangers while tcp_syncookies is 0; {drops}. Cookies help more than a larger one"
        )),
        Some(_) => {
            Verdict::fine("no effect while tcp_syncookies is on: a listener's backlog is the bound. Nothing to gain")
        }
    };
    verdict.counters(&[Counter::TcpReqQFullDrop])
}

/// SYNs that found a queue of half-open connections full.
pub(super) fn flood(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let drops = frame.counter(Counter::TcpReqQFullDrop).unwrap_or(0);
    let by_test = frame.number(Setting::TcpSyncookies) == Some(2);
    let cookies = frame
        .counter(Counter::TcpReqQFullDoCookies)
        .filter(|_| !by_test)
        .unwrap_or(0);
    if drops == 0 && cookies == 0 {
        return;
    }
    let sent = frame.counter(Counter::SyncookiesSent);
    let back = frame.counter(Counter::SyncookiesRecv);
    let mut parts = Vec::new();
    if cookies > 0 {
        parts.push(format!("{} SYNs were answered with cookies", thousands(cookies)));
    }
    if drops > 0 {
        parts.push(format!("{} SYNs were dropped", thousands(drops)));
    }
    let mut title = format!(
        "{} {}{} for a full queue of half-open connections",
        parts.join(" and "),
        since(frame),
        rate(frame, cookies.saturating_add(drops))
    );
    let mut advice = Vec::new();
    if let Some((sent, back)) = sent.zip(back).filter(|&(sent, _)| sent > 0) {
        title = format!("{title}; {} of {} cookies came back", thousands(back), thousands(sent));
        let part = share(back, sent);
        advice.push(if reaches(back, sent, REAL) {
            format!("{part} of the cookies came back, so that real clients came faster than the queue took them: raise the backlog given to listen(), up to net.core.somaxconn")
        } else {
            format!("{part} of the cookies came back: most of those who sent SYNs never answered, as in a flood from false addresses. Filter them before this host; a larger queue does not help")
        });
    }
    if drops > 0 && frame.number(Setting::TcpSyncookies) == Some(0) {
        advice.push("turn on net.ipv4.tcp_syncookies".into());
    }
    findings.push(Finding {
        kind: Kind::SynFlood,
        topic: Topic::Finding(Kind::SynFlood),
        severity: Severity::Warning,
        title,
        evidence: vec![
            (
                "TCPReqQFullDoCookies",
                frame.counter(Counter::TcpReqQFullDoCookies).into(),
            ),
            ("TCPReqQFullDrop", frame.counter(Counter::TcpReqQFullDrop).into()),
            ("SyncookiesSent", sent.into()),
            ("SyncookiesRecv", back.into()),
            ("SyncookiesFailed", frame.counter(Counter::SyncookiesFailed).into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice,
        owner: None,
    });
}
