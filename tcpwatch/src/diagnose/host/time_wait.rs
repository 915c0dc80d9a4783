//! `TIME_WAIT` and what is mistaken for a way to shorten it: `tcp_tw_reuse`, `tcp_tw_recycle`, `tcp_fin_timeout`,
//! `tcp_max_tw_buckets`, `tcp_timestamps`.

use super::ports;
use super::verdict::Verdict;
use super::words::{long, rate, since, told};
use crate::diagnose::finding::{Finding, Severity};
use crate::diagnose::kind::Kind;
use crate::explain::facts::{DefaultValue, Facts};
use crate::explain::setting::Setting;
use crate::explain::topic::Topic;
use crate::model::counter::Counter;
use crate::model::host::HostFrame;
use crate::model::number::thousands;

/// How long `TIME_WAIT` lasts, s (`TCP_TIMEWAIT_LEN`).
const TIME_WAIT_S: u64 = 60;
/// Bytes of a timewait socket, about (`struct tcp_timewait_sock`).
const TIME_WAIT_BYTES: u64 = 256;

/// `8,102 in TIME_WAIT now`.
fn now(frame: &HostFrame) -> String {
    frame.time_wait.map_or_else(
        || "how many are in TIME_WAIT is unknown".into(),
        |count| format!("{} in TIME_WAIT now", thousands(count)),
    )
}

/// `net.ipv4.tcp_tw_reuse`.
pub(super) fn reuse(frame: &HostFrame) -> Verdict {
    let value = frame.number(Setting::TcpTwReuse);
    let without_timestamps = frame.number(Setting::TcpTimestamps) == Some(0);
    let meaning = match value {
        Some(0) => "connect() takes no port that is in TIME_WAIT to the same destination",
        Some(2) => "connect() may take a port in TIME_WAIT over loopback alone",
        _ => {
            "connect() may take a port in TIME_WAIT after 1 s (or tcp_tw_reuse_delay); what this host accepts is not touched"
        }
    };
    // The default of later kernels is enough where both sides are here.
    let to = match Facts::of(Setting::TcpTwReuse).default_on(frame.release()) {
        DefaultValue::Is("2") if ports::is_to_loopback(frame) => "2",
        _ => "1",
    };
    let verdict = if without_timestamps && value == Some(1) {
        Verdict::warning(format!(
            "it does nothing: it needs tcp_timestamps, which is 0 here; {}",
            now(frame)
        ))
        .step("where ports run low, turn on net.ipv4.tcp_timestamps; nothing else depends on it")
    } else if let Some(held) = ports::nearly_out(frame).filter(|held| ports::is_by_time_wait(held)) {
        let held = ports::holds(frame, held);
        if without_timestamps {
            Verdict::fine(format!("{meaning}; {held}, and it needs tcp_timestamps, which is 0"))
        } else {
            Verdict::warning(format!("{meaning}; {held}")).set(
                frame,
                Setting::TcpTwReuse,
                to,
                "little: it needs timestamps on both sides, and a firewall in between that still remembers the old connection \
                 may drop the new one",
            )
        }
    } else {
        Verdict::fine(format!("{meaning}; {}", ports::enough(frame)))
    };
    verdict
        .counters(&[Counter::TwRecycled])
        .evidence("time_wait", frame.time_wait)
}

/// `net.ipv4.tcp_tw_recycle`.
pub(super) fn recycle(frame: &HostFrame) -> Verdict {
    let lines: Vec<_> = frame
        .lines
        .iter()
        .filter(|line| line.setting == Setting::TcpTwRecycle)
        .collect();
    let places: Vec<String> = lines.iter().map(|line| line.place.to_string()).collect();
    let are_set = lines.iter().any(|line| line.value != "0");
    let value = frame.number(Setting::TcpTwRecycle);
    let default = Facts::of(Setting::TcpTwRecycle).default_on(frame.release());
    let mut verdict = match (value, default) {
        (Some(0), _) => Verdict::fine("off, as it must be: it breaks clients that share an address (NAT)"),
        (Some(_), _) => live(frame),
        (None, DefaultValue::Gone) if lines.is_empty() => Verdict::fine("gone since Linux 4.12, and no file sets it"),
        (None, _) if lines.is_empty() => Verdict::fine("not found, and no file sets it"),
        (None, DefaultValue::Gone) => Verdict::note(format!(
            "gone since Linux 4.12: {} nothing, and sysctl complains at every boot{}",
            does(&places),
            if are_set {
                ". It broke clients behind NAT while it lived"
            } else {
                ""
            }
        )),
        (None, _) => Verdict::note(format!(
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
fn live(frame: &HostFrame) -> Verdict {
    let refused = frame.counter(Counter::PawsPassive);
    let verdict = if frame.number(Setting::TcpTimestamps) == Some(0) {
        Verdict::warning(
            "on, and without effect while tcp_timestamps is 0; with timestamps it breaks clients that share an address (NAT)",
        )
    } else {
        let words = format!(
            "on: SYNs of clients that share an address (NAT) are dropped where their timestamps step back: {}. Linux 4.12 has it no more",
            told(frame, Counter::PawsPassive)
        );
        if refused.is_some_and(|refused| refused > 0) {
            Verdict::critical(words)
        } else {
            Verdict::warning(words)
        }
    };
    verdict.step(format!("sysctl -w {}=0", Setting::TcpTwRecycle.sysctl()))
}

/// `net.ipv4.tcp_fin_timeout`.
pub(super) fn fin_timeout(frame: &HostFrame) -> Verdict {
    let verdict = match frame.number(Setting::TcpFinTimeout) {
        Some(TIME_WAIT_S) | None => Verdict::fine(format!(
            "for closed sockets in FIN_WAIT2, not for TIME_WAIT ({})",
            lasts(frame)
        )),
        Some(seconds) if seconds < TIME_WAIT_S => Verdict::note(format!(
            "shortens FIN_WAIT2 of closed sockets. It does not shorten TIME_WAIT ({}): harmless, and not what it is mostly set \
             for; {}",
            lasts(frame),
            now(frame)
        )),
        // `tcp_keepalive_timer`: what is beyond 60 s comes twice.
        Some(seconds) => Verdict::note(format!(
            "a closed socket is kept in FIN_WAIT2 with all its memory for {0}, and as long again without. \
             It is not TIME_WAIT ({1})",
            long(seconds - TIME_WAIT_S),
            lasts(frame)
        )),
    };
    verdict.evidence("time_wait", frame.time_wait)
}

/// `net.ipv4.tcp_max_tw_buckets`.
pub(super) fn buckets(frame: &HostFrame) -> Verdict {
    let counted = told(frame, Counter::TcpTimeWaitOverflow);
    let limit = frame.number(Setting::TcpMaxTwBuckets);
    let verdict = match (frame.counter(Counter::TcpTimeWaitOverflow), limit) {
        (Some(0), _) => Verdict::fine(format!("{}, none was refused: {counted}. Nothing to gain", now(frame))),
        (None, _) | (_, None) => Verdict::fine(format!("{}; {counted}", now(frame))),
        (Some(_), Some(limit)) => {
            let to = limit.saturating_mul(2).max(1024);
            let mebibytes = to.saturating_mul(TIME_WAIT_BYTES).div_ceil(1 << 20);
            Verdict::warning(format!(
                "connections closed without TIME_WAIT, and a late FIN of the peer is answered with a reset: {counted}; {}",
                now(frame)
            ))
            .set(
                frame,
                Setting::TcpMaxTwBuckets,
                &to.to_string(),
                &format!("up to {} MiB of kernel memory while they last", thousands(mebibytes)),
            )
        }
    };
    verdict
        .counters(&[Counter::TcpTimeWaitOverflow])
        .evidence("time_wait", frame.time_wait)
}

/// Timewait sockets that were refused.
pub(super) fn overflow(frame: &HostFrame, findings: &mut Vec<Finding>) {
    let refused = frame.counter(Counter::TcpTimeWaitOverflow).unwrap_or(0);
    if refused == 0 {
        return;
    }
    let limit = frame.number(Setting::TcpMaxTwBuckets);
    findings.push(Finding {
        kind: Kind::TimeWaitOverflow,
        topic: Topic::Finding(Kind::TimeWaitOverflow),
        severity: Severity::Warning,
        title: format!(
            "{} connections closed without TIME_WAIT {}{}; {} of {} now",
            thousands(refused),
            since(frame),
            rate(frame, refused),
            frame.time_wait.map_or_else(|| "unknown".into(), thousands),
            limit.map_or_else(|| "unknown".into(), thousands),
        ),
        evidence: vec![
            ("TCPTimeWaitOverflow", refused.into()),
            ("time_wait", frame.time_wait.into()),
            ("limit", limit.into()),
            ("counted_s", frame.counted_s().into()),
        ],
        advice: vec![
            "find who closes so many connections first: tcpwatch churn".into(),
            "net.ipv4.tcp_max_tw_buckets, here, tells what a higher limit takes".into(),
        ],
        owner: None,
    });
}

/// `net.ipv4.tcp_timestamps`.
pub(super) fn timestamps(frame: &HostFrame) -> Verdict {
    if frame.number(Setting::TcpTimestamps) != Some(0) {
        return Verdict::fine("tcp_tw_reuse needs it, and so do SYN cookies with all options. Leave it on");
    }
    let cookies = frame.counter(Counter::SyncookiesRecv).filter(|&cookies| cookies > 0);
    let low = ports::nearly_out(frame).filter(|held| ports::is_by_time_wait(held));
    let mut lost = Vec::new();
    lost.extend(cookies.map(|_| {
        format!(
            "connections made by SYN cookies have no window scaling and no SACK: {}",
            told(frame, Counter::SyncookiesRecv)
        )
    }));
    lost.extend(low.map(|held| format!("no port in TIME_WAIT can be used again: {}", ports::holds(frame, held))));
    let verdict = if !lost.is_empty() {
        Verdict::warning(format!("off: {}", lost.join("; "))).set(
            frame,
            Setting::TcpTimestamps,
            "1",
            "12 bytes more in each segment; new connections alone have them",
        )
    } else if frame.number(Setting::TcpTwReuse) == Some(1) {
        Verdict::note("off, for which tcp_tw_reuse does nothing; nothing else here is seen to miss it")
    } else {
        Verdict::note("off, and nothing here is seen to miss it")
    };
    verdict.counters(&[Counter::SyncookiesRecv])
}
