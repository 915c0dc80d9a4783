//! `TIME_WAIT` and what is mistaken for a way to shorten it: `tcp_tw_reuse`, `tcp_tw_recycle`, `tcp_fin_timeout`,
//! `tcp_max_tw_buckets`, `tcp_timestamps`.

use super::format::{counter_text, long, rate, reaches, since};
use super::judgement::Judgement;
use super::negligible::{RARE, is_rare};
use super::port_usage::{TimeWait, enough, holds, is_by_time_wait, is_to_loopback, meaning, nearly_out, time_wait};
use crate::detect::finding::{Finding, Severity};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::host::{Fate, HostFrame};
use crate::input::ports;
use crate::input::ports::walk::PortsHeld;
use crate::input::setting::Setting;
use crate::input::setting_defaults::{DefaultValue, SettingFacts};
use crate::model::format::{several, thousands};

/// [`ports::TIME_WAIT_S`].
const TIME_WAIT_S: u64 = ports::TIME_WAIT_S as u64;
/// Bytes of a timewait socket, about (`struct tcp_timewait_sock`).
const TIME_WAIT_BYTES: u64 = 256;

/// No lower limit is suggested where timewait sockets were refused and the default is unknown.
const FEW_BUCKETS: u64 = 16_384;
/// Share of the limit from which timewait sockets may be refused, percent: connections close in bursts.
const NEAR: u64 = 80;
/// Why timewait sockets may have been refused, where there is room for more now.
const PAST: &str = "there were more of them then, the limit was lower, or memory was short, and which is not known";
/// The connections that may end in `TIME_WAIT`.
const CONNECTIONS: [Counter; 2] = [Counter::ActiveOpens, Counter::PassiveOpens];
/// What connections lack where timestamps are off (RFC 7323). No counter shows it.
const MISSED: &str = "connections have no protection against wrapped sequence numbers (PAWS), and no round-trip times of what is sent \
    again. That it hurts here is not seen";

/// `8,102 in TIME_WAIT now`.
fn now(frame: &HostFrame) -> String {
    frame.time_wait.map_or_else(
        || "how many are in TIME_WAIT is unknown".into(),
        |count| format!("{} in TIME_WAIT now", thousands(count)),
    )
}

/// `net.ipv4.tcp_tw_reuse`.
pub(super) fn reuse(frame: &HostFrame) -> Judgement {
    let without_timestamps = frame.number(Setting::TcpTimestamps) == Some(0);
    let is_on = frame.number(Setting::TcpTwReuse).is_some_and(|value| value != 0);
    let verdict = match nearly_out(frame) {
        Some(held) if !is_by_time_wait(held) => Judgement::note(format!(
            "{}; {}: it does nothing for the ports of open connections",
            meaning(frame),
            holds(frame, held)
        )),
        Some(held) if without_timestamps && is_on => Judgement::warning(format!(
            "it does nothing, for it needs tcp_timestamps, which is 0 here; {}",
            holds(frame, held)
        ))
        .step("to turn it on see the line for net.ipv4.tcp_timestamps"),
        Some(held) if without_timestamps => Judgement::note(format!(
            "{}; {}, and it needs tcp_timestamps, which is 0",
            meaning(frame),
            holds(frame, held)
        )),
        Some(held) => low(frame, held),
        None if without_timestamps && is_on => {
            Judgement::note("it does nothing, for it needs tcp_timestamps, which is 0 here")
        }
        None => enough(frame),
    };
    verdict
        .counters(&[Counter::TwRecycled])
        .evidence("time_wait", frame.time_wait)
}

/// The same where `TIME_WAIT` holds nearly all ports of `held`, and timestamps are on.
fn low(frame: &HostFrame, held: &PortsHeld) -> Judgement {
    let words = format!("{}; {}", meaning(frame), holds(frame, held));
    // The default of later kernels is enough where both sides are here.
    let to = match SettingFacts::for_setting(Setting::TcpTwReuse).default_on(frame.release()) {
        DefaultValue::Is("2") if is_to_loopback(held) => 2,
        _ => 1,
    };
    let value = frame.number(Setting::TcpTwReuse);
    let is_allowed = value == Some(1) || (value == Some(2) && is_to_loopback(held));
    match time_wait(frame, held) {
        TimeWait::Unknown => Judgement::warning(format!(
            "{words}. Whether it does is unknown, for tcp_timestamps or tcp_tw_reuse_delay could not be read"
        ))
        .step("see what they are: sysctl net.ipv4.tcp_timestamps net.ipv4.tcp_tw_reuse_delay (since Linux 6.14)"),
        TimeWait::Keeps if is_allowed => Judgement::warning(format!(
            "{words}. No TIME_WAIT lasts longer, so that tcp_tw_reuse_delay keeps it from doing anything"
        ))
        .step("set net.ipv4.tcp_tw_reuse_delay back to its default, 1000 (ms)"),
        TimeWait::Keeps => Judgement::warning(words).with_set_command(
            frame,
            Setting::TcpTwReuse,
            &to.to_string(),
            "little: it needs timestamps on both sides, and a firewall in between that still remembers the old connection \
             may drop the new one",
        ),
        TimeWait::Untried(_) => Judgement::warning(words)
            .step("see whether the other side uses timestamps, or a load balancer takes them away: ss -ti shows ts where it does"),
        TimeWait::Taken(_) => Judgement::note(words),
    }
}

/// `net.ipv4.tcp_tw_recycle`.
pub(super) fn recycle(frame: &HostFrame) -> Judgement {
    let lines: Vec<_> = frame
        .lines
        .iter()
        .filter(|line| line.setting == Setting::TcpTwRecycle)
        .collect();
    let places: Vec<String> = lines.iter().map(|line| line.place.to_string()).collect();
    let are_set = lines.iter().any(|line| line.value != "0");
    let value = frame.number(Setting::TcpTwRecycle);
    let default = SettingFacts::for_setting(Setting::TcpTwRecycle).default_on(frame.release());
    let mut verdict = match (value, default) {
        (Some(0), _) => Judgement::fine(),
        (Some(_), _) => live(frame),
        (None, _) if lines.is_empty() => Judgement::fine(),
        (None, DefaultValue::Gone) => Judgement::note(format!(
            "gone since Linux 4.12: {} nothing{}{}",
            does(&places),
            if lines.iter().any(|line| line.fate != Fate::NotRead) {
                ", and sysctl complains at every boot"
            } else {
                ""
            },
            if are_set {
                ". It broke clients behind NAT while it lived"
            } else {
                ""
            }
        )),
        (None, _) => Judgement::note(format!(
            "not found here; since Linux 4.12, which has it no more, {} nothing",
            does(&places)
        )),
    };
    if value != Some(0) || are_set {
        verdict
            .advice
            .extend(places.iter().map(|place| format!("delete {place}")));
    }
    if value.is_some_and(|value| value != 0) {
        verdict.advice.push(
            "risk: TIME_WAIT lasts its 60 s again, which takes ports only where this host opens the connections".into(),
        );
    }
    verdict
        .counters(&[Counter::PawsPassive])
        .evidence("set_in", places.join(" ").as_str())
}

/// `/etc/sysctl.conf:7 does`.
fn does(places: &[String]) -> String {
    format!(
        "{} {}",
        places.join(" and "),
        if places.len() == 1 { "does" } else { "do" }
    )
}

/// How long `TIME_WAIT` lasts: nothing shortens it but `tcp_tw_recycle`, while there was one (`tcp_time_wait`).
fn lasts(frame: &HostFrame) -> &'static str {
    match frame.number(Setting::TcpTwRecycle) {
        None | Some(0) => "60 s, fixed",
        Some(_) => "60 s, or 3.5 timeouts while tcp_tw_recycle is on",
    }
}

/// On a kernel that still has it, switched on.
fn live(frame: &HostFrame) -> Judgement {
    let refused = frame.counter(Counter::PawsPassive);
    let verdict = if frame.number(Setting::TcpTimestamps) == Some(0) {
        Judgement::warning(
            "on, and without effect while tcp_timestamps is 0; with timestamps it breaks clients that share an address (NAT)",
        )
    } else {
        let words = format!(
            "on: SYNs of clients that share an address (NAT) are dropped where their timestamps step back: {}. Linux 4.12 has it no more",
            counter_text(frame, Counter::PawsPassive)
        );
        if refused.is_some_and(|refused| refused > 0) {
            Judgement::critical(words)
        } else {
            Judgement::warning(words)
        }
    };
    verdict.step(format!("sysctl -w {}=0", Setting::TcpTwRecycle.sysctl()))
}

/// `net.ipv4.tcp_fin_timeout`.
pub(super) fn fin_timeout(frame: &HostFrame) -> Judgement {
    let verdict = match frame.number(Setting::TcpFinTimeout) {
        Some(TIME_WAIT_S) | None => Judgement::fine(),
        Some(seconds) if seconds < TIME_WAIT_S => Judgement::note(format!(
            "shortens FIN_WAIT2 of closed sockets. It does not shorten TIME_WAIT ({}): harmless, and not what it is mostly set \
             for; {}",
            lasts(frame),
            now(frame)
        )),
        // `tcp_keepalive_timer`: what is beyond 60 s comes twice.
        Some(seconds) => Judgement::note(format!(
            "a closed socket is kept in FIN_WAIT2 with all its memory for {0}, and as long again without. \
             It is not TIME_WAIT ({1})",
            long(seconds - TIME_WAIT_S),
            lasts(frame)
        )),
    };
    verdict.evidence("time_wait", frame.time_wait)
}

/// `net.ipv4.tcp_max_tw_buckets`.
pub(super) fn buckets(frame: &HostFrame) -> Judgement {
    let total = counter_text(frame, Counter::TcpTimeWaitOverflow);
    let limit = frame.number(Setting::TcpMaxTwBuckets);
    let verdict = match (frame.counter(Counter::TcpTimeWaitOverflow), limit) {
        (None | Some(0), _) | (_, None) => Judgement::fine(),
        (Some(refused), _) if is_rare(frame, refused, &CONNECTIONS) => {
            Judgement::note(format!("{}; {total}, {RARE}", now(frame)))
        }
        (Some(_), Some(limit)) if is_short(frame, limit) => refused(frame, limit),
        (Some(_), Some(_)) => Judgement::note(format!("{}; {total}: {PAST}", now(frame)))
            .step("see whether TCPTimeWaitOverflow goes on: tcpwatch churn shows it"),
    };
    verdict
        .counters(&[Counter::TcpTimeWaitOverflow])
        .evidence("time_wait", frame.time_wait)
}

/// Whether the limit is known to be too low for what this host does: it is nearly reached, or lower than it would be if nobody had
/// set it. Those refused since boot may have met a lower limit, since raised.
fn is_short(frame: &HostFrame, limit: u64) -> bool {
    let own = frame.default_of(Setting::TcpMaxTwBuckets).unwrap_or(FEW_BUCKETS);
    limit < own || frame.time_wait.is_some_and(|count| reaches(count, limit, NEAR))
}

/// The same where many were refused, and more may be.
fn refused(frame: &HostFrame, limit: u64) -> Judgement {
    let own = frame.default_of(Setting::TcpMaxTwBuckets).filter(|&own| own > limit);
    let to = limit.saturating_mul(2).max(own.unwrap_or(FEW_BUCKETS));
    let mebibytes = to.saturating_mul(TIME_WAIT_BYTES).div_ceil(1 << 20);
    let own = own.map_or_else(String::new, |own| {
        format!("; it would be {} if nobody had set it", thousands(own))
    });
    let mut verdict = Judgement::warning(format!(
        "connections closed without TIME_WAIT, and a late FIN of the peer is answered with a reset: {}; {}{own}",
        counter_text(frame, Counter::TcpTimeWaitOverflow),
        now(frame)
    ))
    .with_set_command(
        frame,
        Setting::TcpMaxTwBuckets,
        &to.to_string(),
        &format!("up to {} MiB of kernel memory while they last", thousands(mebibytes)),
    );
    let check_step =
        "then see whether TCPTimeWaitOverflow goes on: tcpwatch churn shows how many timewait sockets this host needs";
    verdict.advice.insert(verdict.advice.len() - 1, check_step.into());
    verdict
}

/// Timewait sockets that were refused.
pub(super) fn overflow(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let refused = frame.counter(Counter::TcpTimeWaitOverflow).unwrap_or(0);
    if refused == 0 {
        return;
    }
    let limit = frame.number(Setting::TcpMaxTwBuckets);
    let is_short = limit.is_some_and(|limit| is_short(frame, limit));
    let (severity, why) = if is_rare(frame, refused, &CONNECTIONS) {
        (Severity::Info, format!("; that is {RARE}"))
    } else if is_short {
        (Severity::Warning, String::new())
    } else {
        (Severity::Info, format!(": {PAST}"))
    };
    let title = format!(
        "{} closed without TIME_WAIT {}{}; {} of {} now{why}",
        several(refused, "connection", "connections"),
        since(frame),
        rate(frame, refused),
        frame.time_wait.map_or_else(|| "unknown".into(), thousands),
        limit.map_or_else(|| "unknown".into(), thousands),
    );
    findings.push(Finding {
        evidence: vec![
            ("TCPTimeWaitOverflow", refused.into()),
            ("time_wait", frame.time_wait.into()),
            ("limit", limit.into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice: if severity == Severity::Info {
            Vec::new()
        } else {
            vec![
                "find who closes so many connections first: tcpwatch churn".into(),
                "for a higher limit see the line for net.ipv4.tcp_max_tw_buckets below".into(),
            ]
        },
        ..Finding::new(FindingKind::TimeWaitOverflow, severity, title)
    });
}

/// `net.ipv4.tcp_timestamps`.
pub(super) fn timestamps(frame: &HostFrame) -> Judgement {
    if frame.number(Setting::TcpTimestamps) != Some(0) {
        return Judgement::fine();
    }
    let cookies = frame.counter(Counter::SyncookiesRecv).filter(|&cookies| cookies > 0);
    let low = nearly_out(frame).filter(|held| is_by_time_wait(held));
    let mut lost = Vec::new();
    lost.extend(cookies.map(|_| {
        format!(
            "connections made by SYN cookies have no window scaling and no SACK: {}",
            counter_text(frame, Counter::SyncookiesRecv)
        )
    }));
    lost.extend(low.map(|held| format!("no port in TIME_WAIT can be used again: {}", holds(frame, held))));
    let verdict = if !lost.is_empty() {
        Judgement::warning(format!("off: {}", lost.join("; "))).with_set_command(
            frame,
            Setting::TcpTimestamps,
            "1",
            "12 bytes more in each segment; new connections alone have them",
        )
    } else if frame.number(Setting::TcpTwReuse) == Some(1) {
        Judgement::note(format!("off, so that tcp_tw_reuse does nothing; {MISSED}"))
    } else {
        Judgement::note(format!("off; {MISSED}"))
    };
    verdict.counters(&[Counter::SyncookiesRecv])
}
