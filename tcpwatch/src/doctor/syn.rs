//! Half-open connections: `tcp_syncookies`, `tcp_max_syn_backlog`, and SYNs that found no room.

use super::format::{counter_text, in_percent, rate, reaches, since};
use super::judgement::Judgement;
use super::negligible::{RARE, is_rare};
use crate::detect::few;
use crate::detect::finding::{Finding, Severity};
use crate::detect::syn_flood;
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::host::HostFrame;
use crate::input::listener::Listener;
use crate::input::release::Release;
use crate::input::setting::Setting;
use crate::model::format::{several, thousands};

/// From this release a listener's own backlog bounds its half-open connections (`inet_csk_reqsk_queue_is_full`).
const BOUND_BY_LISTENER: Release = Release(4, 4);
/// Share of the sent cookies that real clients return, percent.
const REAL: u64 = syn_flood::REAL as u64;
/// A larger value does not help (`reqsk_queue_alloc` before Linux 4.4, and a backlog had 16 bits).
const MOST: u64 = 65_535;

/// SYNs that found no room among half-open connections.
#[derive(Clone, Copy, Debug, Default)]
struct DroppedSyns {
    /// Answered with a cookie for it.
    cookies: u64,
    /// Dropped for a full queue (`TCPReqQFullDrop`).
    dropped: Option<u64>,
    /// Dropped though no queue was full, while cookies are off. The kernel then keeps a quarter of `tcp_max_syn_backlog` for peers known
    /// from before, and counts a SYN that it drops for that in `ListenDrops` alone (`tcp_conn_request`), with those dropped for want of
    /// memory or of a route. `None` if unknown, or if no listener here may have so many half-open connections.
    unexplained: Option<u64>,
}

impl DroppedSyns {
    fn from_frame(frame: &HostFrame) -> Self {
        let dropped = frame.counter(Counter::TcpReqQFullDrop);
        let cookies = frame.counter(Counter::TcpReqQFullDoCookies).unwrap_or(0);
        let unexplained = || {
            let overflows = frame.counter(Counter::ListenOverflows)?;
            let drops = frame.counter(Counter::ListenDrops)?;
            let unexplained = drops.saturating_sub(overflows).saturating_sub(dropped?);
            (unexplained == 0 || may_reach_the_backlog(frame)).then_some(unexplained)
        };
        match frame.number(Setting::TcpSyncookies) {
            Some(0) => Self {
                cookies,
                dropped,
                unexplained: unexplained(),
            },
            // Then every SYN gets one.
            Some(2) => Self {
                dropped,
                ..Self::default()
            },
            _ => Self {
                cookies,
                dropped,
                unexplained: None,
            },
        }
    }

    /// Those of a kind that may come again as cookies are set now: while they are on, no SYN is dropped for a full queue
    /// (`tcp_syn_flood_action`), and those that were came before.
    fn goes_on(self, frame: &HostFrame) -> u64 {
        if are_on(frame) { self.cookies } else { self.all() }
    }

    fn all_dropped(self) -> u64 {
        self.dropped.unwrap_or(0).saturating_add(self.unexplained.unwrap_or(0))
    }

    fn all(self) -> u64 {
        self.cookies.saturating_add(self.all_dropped())
    }
}

/// Whether cookies are on, whatever for.
fn are_on(frame: &HostFrame) -> bool {
    frame.number(Setting::TcpSyncookies).is_some_and(|value| value > 0)
}

/// The part of `tcp_max_syn_backlog` for new peers while cookies are off: the kernel keeps the rest for peers known from before.
fn for_strangers(frame: &HostFrame) -> Option<u64> {
    let backlog = frame.number(Setting::TcpMaxSynBacklog)?;
    Some(backlog - backlog / 4)
}

/// Whether a listener that dropped packets may have more half-open connections than that. The queue of any other is full before.
fn may_reach_the_backlog(frame: &HostFrame) -> bool {
    let (Some(most), Some(listeners)) = (for_strangers(frame), &frame.listeners) else {
        return true;
    };
    let may = |listener: &Listener| listener.limit.is_none_or(|limit| limit > most) && listener.drops != Some(0);
    listeners.iter().any(may)
}

/// `TCPReqQFullDrop 0 since boot, and 1,463 of ListenDrops that no full queue explains (15 an hour)`.
fn drops(frame: &HostFrame, no_room: DroppedSyns) -> String {
    let drops = counter_text(frame, Counter::TcpReqQFullDrop);
    match no_room.unexplained {
        None => drops,
        Some(0) => format!("{drops}, and no more of ListenDrops than full queues explain"),
        Some(unexplained) => format!(
            "{drops}, and {} of ListenDrops that no full queue explains{}",
            thousands(unexplained),
            rate(frame, unexplained)
        ),
    }
}

/// `net.ipv4.tcp_syncookies`.
pub(super) fn cookies(frame: &HostFrame) -> Judgement {
    let sent = counter_text(frame, Counter::SyncookiesSent);
    let no_room = DroppedSyns::from_frame(frame);
    let verdict = match frame.number(Setting::TcpSyncookies) {
        Some(0) => off(frame, no_room),
        Some(2) if frame.counter(Counter::SyncookiesSent).is_some_and(|sent| sent > 0) => Judgement::warning(format!(
            "every SYN is answered with a cookie, whether or not a queue is full, which is for tests: {sent}"
        ))
        .with_set_command(
            frame,
            Setting::TcpSyncookies,
            "1",
            "none: cookies are sent where a queue is full, as by default",
        ),
        Some(2) => Judgement::note(format!(
            "every SYN is answered with a cookie, which is for tests; {sent}"
        )),
        _ => match (frame.counter(Counter::SyncookiesSent), no_room.dropped) {
            (Some(0), Some(1..)) => Judgement::note(format!(
                "for a full queue of half-open connections alone, and none was while it was on: {sent}; while it was 0, SYNs were \
                 dropped: {}. Leave it on",
                counter_text(frame, Counter::TcpReqQFullDrop)
            )),
            (Some(1..), _) => Judgement::note(format!(
                "in use where a queue of half-open connections is full: {sent}. Leave it on"
            )),
            _ => Judgement::fine(),
        },
    };
    verdict.counters(&[
        Counter::SyncookiesSent,
        Counter::TcpReqQFullDoCookies,
        Counter::TcpReqQFullDrop,
        Counter::ListenDrops,
    ])
}

/// The same where they are off.
fn off(frame: &HostFrame, no_room: DroppedSyns) -> Judgement {
    let drops = drops(frame, no_room);
    match no_room.all_dropped() {
        0 if no_room.unexplained.is_none() => {
            Judgement::note(format!("off; {drops}: whether SYNs were dropped for it is unknown"))
        }
        0 => Judgement::note(format!(
            "off, and no SYN was dropped for it: {drops}. Nothing to gain so far"
        )),
        dropped if is_rare(frame, dropped, &[Counter::PassiveOpens]) => {
            Judgement::note(format!("off; {drops}: {RARE}"))
        }
        _ => {
            let words = if no_room.dropped == Some(0) {
                "off, and SYNs were dropped while no queue was full, as they are where three quarters of tcp_max_syn_backlog are \
                 half-open, or for want of memory or a route"
            } else {
                "off, and SYNs were dropped that cookies would have answered"
            };
            Judgement::warning(format!("{words}: {drops}")).with_set_command(
                frame,
                Setting::TcpSyncookies,
                "1",
                "none while no queue is full; a connection made by a cookie has no window scaling and no SACK unless both sides use \
                 timestamps",
            )
        }
    }
}

/// Whether `tcp_max_syn_backlog` bounds half-open connections before somaxconn does, whatever cookies are.
pub(super) fn is_bound_by_backlog(frame: &HostFrame) -> bool {
    let backlog = frame.number(Setting::TcpMaxSynBacklog);
    is_old(frame)
        && backlog
            .zip(frame.number(Setting::Somaxconn))
            .is_some_and(|(backlog, most)| backlog < most)
}

/// Whether half-open connections are bounded by `tcp_max_syn_backlog` too, whatever cookies are.
fn is_old(frame: &HostFrame) -> bool {
    frame.release().is_some_and(|release| release < BOUND_BY_LISTENER)
}

/// The words for real clients that came faster than a queue of half-open connections took them: their cookies came back.
pub(super) fn crowd(frame: &HostFrame) -> Option<String> {
    let no_room = DroppedSyns::from_frame(frame);
    let sent = frame.counter(Counter::SyncookiesSent).filter(|&sent| sent > 0)?;
    let back = frame.counter(Counter::SyncookiesRecv)?;
    let is_crowd = no_room.cookies > 0
        && reaches(back, sent, REAL)
        && !is_rare(frame, no_room.goes_on(frame), &[Counter::PassiveOpens]);
    is_crowd.then(|| {
        format!(
            "{}, and {} of the cookies came back: queues of half-open connections were full of real clients",
            counter_text(frame, Counter::TcpReqQFullDoCookies),
            in_percent(back.min(sent), sent)
        )
    })
}

/// `net.ipv4.tcp_max_syn_backlog`.
pub(super) fn backlog(frame: &HostFrame) -> Judgement {
    let no_room = DroppedSyns::from_frame(frame);
    let value = frame.number(Setting::TcpMaxSynBacklog);
    let verdict = match frame.number(Setting::TcpSyncookies) {
        _ if is_old(frame) => with_the_listeners(frame, value.unwrap_or(u64::MAX)),
        Some(0) if no_room.all_dropped() > 0 => {
            let part = for_strangers(frame).unwrap_or(u64::MAX);
            let listeners = frame.listeners.iter().flatten();
            let larger: Vec<&Listener> = listeners.filter(|listener| listener.limit > Some(part)).collect();
            let whose = if larger.is_empty() {
                String::new()
            } else {
                format!(", fewer than {} asked for", few(&larger))
            };
            Judgement::note(format!(
                "{}, three quarters of it, are for strangers while tcp_syncookies is 0{whose}; {}. Cookies help more than a larger one",
                thousands(part),
                drops(frame, no_room)
            ))
        }
        // While cookies are on a listener's backlog is the bound.
        _ => Judgement::fine(),
    };
    verdict.counters(&[
        Counter::TcpReqQFullDrop,
        Counter::TcpReqQFullDoCookies,
        Counter::ListenDrops,
    ])
}

/// The same before Linux 4.4, where it is a bound whatever cookies are.
fn with_the_listeners(frame: &HostFrame, value: u64) -> Judgement {
    let most = frame.number(Setting::Somaxconn).unwrap_or(0).min(MOST);
    match crowd(frame) {
        Some(crowd) if value < most => {
            let mut verdict = Judgement::warning(format!(
                "{crowd}; a listener has no more of them than this, whatever its backlog, which may be {} (somaxconn)",
                thousands(most)
            ))
            .with_set_command(
                frame,
                Setting::TcpMaxSynBacklog,
                &most.to_string(),
                "some 300 bytes of kernel memory for each half-open connection, which a flood fills too",
            );
            let restart = "then restart the application: its queue is made by listen()";
            verdict.advice.insert(verdict.advice.len() - 1, restart.into());
            verdict
        }
        Some(crowd) => Judgement::note(format!(
            "{crowd}; no backlog is larger than this, so that raising it alone helps nobody"
        )),
        None if DroppedSyns::from_frame(frame).all() == 0 => Judgement::fine(),
        None => Judgement::note(format!(
            "with the listener's backlog it bounds half-open connections, the smaller counts; {}, {}",
            counter_text(frame, Counter::TcpReqQFullDoCookies),
            counter_text(frame, Counter::TcpReqQFullDrop)
        )),
    }
}

/// SYNs that found a queue of half-open connections full.
pub(super) fn flood(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let no_room = DroppedSyns::from_frame(frame);
    let dropped = no_room.all_dropped();
    if no_room.all() == 0 {
        return;
    }
    let sent = frame.counter(Counter::SyncookiesSent);
    let back = frame.counter(Counter::SyncookiesRecv);
    let mut parts = Vec::new();
    if no_room.cookies > 0 {
        parts.push(format!(
            "{} answered with cookies",
            several(no_room.cookies, "SYN was", "SYNs were")
        ));
    }
    if dropped > 0 {
        parts.push(format!("{} dropped", several(dropped, "SYN was", "SYNs were")));
    }
    let why = match no_room {
        DroppedSyns {
            cookies: 0,
            dropped: Some(0) | None,
            ..
        } => "though no queue was full, as where half-open connections reach three quarters of tcp_max_syn_backlog",
        DroppedSyns {
            unexplained: Some(1..), ..
        } => "for a full queue of half-open connections, or near it",
        _ => "for a full queue of half-open connections",
    };
    let mut title = format!(
        "{} {}{} {why}",
        parts.join(" and "),
        since(frame),
        rate(frame, no_room.all())
    );
    let mut advice = Vec::new();
    if let Some((sent, back)) = sent.zip(back).filter(|&(sent, _)| sent > 0) {
        // An ACK that is sent again, as where the accept queue is full, brings its cookie again.
        let again = if back > sent { ", some more than once" } else { "" };
        let back = back.min(sent);
        title = format!(
            "{title}; {} of {} cookies came back{again}",
            thousands(back),
            thousands(sent)
        );
        let part = in_percent(back, sent);
        advice.push(if reaches(back, sent, REAL) {
            let bounds = if is_old(frame) {
                "see the lines for net.ipv4.tcp_max_syn_backlog and net.core.somaxconn below, which limit it"
            } else {
                "see the line for net.core.somaxconn below, which limits it"
            };
            format!(
                "{part} of the cookies came back, so that real clients came faster than the queue took them: raise the backlog given to \
                 listen(); {bounds}"
            )
        } else {
            format!(
                "{part} of the cookies came back: most of those who sent SYNs never answered, as in a flood from false addresses. Filter \
                 them before this host; a larger queue does not help"
            )
        });
    }
    if dropped > 0 && frame.number(Setting::TcpSyncookies) == Some(0) {
        advice.push("turn on net.ipv4.tcp_syncookies".into());
    }
    let are_past = dropped > 0 && are_on(frame);
    if are_past {
        title = format!("{title}; those dropped came while tcp_syncookies was 0, and it is on now");
    }
    let goes_on = no_room.goes_on(frame);
    let is_rare = is_rare(frame, goes_on, &[Counter::PassiveOpens]);
    if is_rare {
        let which = if are_past { "those with cookies are" } else { "that is" };
        title = format!("{title}; {which} {RARE}");
    }
    let severity = if goes_on == 0 || is_rare {
        advice.clear();
        Severity::Info
    } else {
        Severity::Warning
    };
    findings.push(Finding {
        evidence: vec![
            (
                "TCPReqQFullDoCookies",
                frame.counter(Counter::TcpReqQFullDoCookies).into(),
            ),
            ("TCPReqQFullDrop", frame.counter(Counter::TcpReqQFullDrop).into()),
            ("ListenDrops", frame.counter(Counter::ListenDrops).into()),
            ("ListenOverflows", frame.counter(Counter::ListenOverflows).into()),
            ("SyncookiesSent", sent.into()),
            ("SyncookiesRecv", back.into()),
            ("SyncookiesFailed", frame.counter(Counter::SyncookiesFailed).into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice,
        ..Finding::new(FindingKind::SynFlood, severity, title)
    });
}
