//! SYNs find no room where a listener answered them with cookies, dropped them for a full queue or, while connections are half-open,
//! dropped ten or more packets for no full queue; ten drops a second are critical.

use tcpwatch_common::TcpState;

use super::accept_queue_overflow::is_critical;
use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, share, within};
use crate::explain::kind::FindingKind;
use crate::explain::sysctl_command::set;
use crate::input::counter::Counter;
use crate::input::setting::Setting;
use crate::model::format::{several, thousands};
use crate::model::real;
use crate::model::stat::StatFrame;

/// Share of the sent cookies that real clients return, percent: a flood with forged addresses returns none.
pub(crate) const REAL: u32 = 50;
/// The same part.
const ANSWERED: f64 = REAL as f64 / 100.0;
/// Cookies from which the part that comes back means anything: the ACKs to the last of them may be on their way.
const COOKIES: f64 = 30.0;
/// How to see their sources.
const SEE: &str = "see from where they come: tcpwatch snapshot --state syn_recv --by remote";
/// Drops of listeners without a full queue that are worth reporting: the counters of all CPUs are not read at one moment.
const UNEXPLAINED: f64 = 10.0;

/// `tcp_syncookies` where every SYN is answered with a cookie, whether or not a queue is full (ip-sysctl.rst).
const ALWAYS: u64 = 2;

/// What has a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Threshold {
    Critical,
    Cookies,
    Unexplained,
}

/// Inspects the counters of SYNs and cookies.
#[derive(Debug, Default)]
pub struct SynFlood {
    reached: Hysteresis<Threshold>,
}

impl Detector for SynFlood {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.reached.turn();
        let count = |counter| stat.counters.get(counter).unwrap_or(0);
        let sent = count(Counter::SyncookiesSent);
        let dropped = count(Counter::TcpReqQFullDrop);
        let explained = count(Counter::ListenOverflows).saturating_add(dropped);
        let unexplained = count(Counter::ListenDrops).saturating_sub(explained);
        let drops = match (dropped, sent) {
            (0, 0) => unexplained,
            (dropped, _) => dropped,
        };
        let is_critical = self
            .reached
            .holds(Threshold::Critical, |slack| is_critical(drops, stat, slack));
        let are_many_cookies = self
            .reached
            .holds(Threshold::Cookies, |slack| slack.reaches(real(sent), COOKIES));
        let is_unexplained = self.reached.holds(Threshold::Unexplained, |slack| {
            slack.reaches(real(unexplained), UNEXPLAINED) && stat.connections.get(TcpState::SynRecv) > 0
        });
        let severity = Severity::critical_if(is_critical);
        if dropped > 0 {
            findings.push(queue_full(stat, dropped, severity));
        } else if sent > 0 {
            findings.push(answered_with_cookies(stat, sent, are_many_cookies));
        } else if is_unexplained {
            findings.push(dropped_for_no_queue(stat, unexplained, severity));
        }
    }
}

/// SYNs that found the queue of their listener full, and got no cookie.
fn queue_full(stat: &StatFrame, dropped: u64, severity: Severity) -> Finding {
    let title = format!(
        "{} dropped {}, because too many connections of their listener were half-open, and SYN cookies are off",
        several(dropped, "SYN was", "SYNs were"),
        within(stat)
    );
    finding(stat, "queue_full", severity, title, turn_cookies_on(stat))
}

/// SYNs that were answered with a cookie; `are_many` is whether the part that comes back means anything.
fn answered_with_cookies(stat: &StatFrame, sent: u64, are_many: bool) -> Finding {
    let answered = stat.counters.get(Counter::SyncookiesRecv).unwrap_or(0);
    if stat.syn.cookies == Some(ALWAYS) {
        let title = format!(
            "{} answered with a cookie {}, as all are where net.ipv4.tcp_syncookies is {ALWAYS}, whether or not a queue is full",
            several(sent, "SYN was", "SYNs were"),
            within(stat)
        );
        let advice = set(
            stat.namespace.as_ref(),
            Setting::TcpSyncookies,
            "1",
            "none: cookies are sent where a queue is full, as by default",
        );
        return finding(stat, "cookies", Severity::Info, title, advice);
    }
    // Of several namespaces, one may be so.
    let perhaps = match stat.syn.cookies {
        Some(_) => "",
        None => ", or net.ipv4.tcp_syncookies is 2 there",
    };
    let title = format!(
        "{} answered with a cookie {}, because too many connections of their listener were half-open{perhaps}; {} came back",
        several(sent, "SYN was", "SYNs were"),
        within(stat),
        several(answered, "valid cookie", "valid cookies")
    );
    if !are_many {
        return finding(stat, "cookies", Severity::Info, title, vec![SEE.into()]);
    }
    let advice = if share(answered, sent) >= ANSWERED {
        vec![
            "these clients are real: raise the backlog that the application gives to listen(), and net.core.somaxconn, which caps it"
                .into(),
            "let it accept faster".into(),
        ]
    } else {
        vec![
            "few come back, as in a flood: limit SYNs in front of this host".into(),
            SEE.into(),
            "leave SYN cookies on: without them clients would find no room".into(),
        ]
    };
    finding(stat, "cookies", Severity::Warning, title, advice)
}

/// SYNs that were dropped though no queue was full. Without cookies the kernel keeps a quarter of `tcp_max_syn_backlog` for peers known
/// from before, and counts what it drops for it as `ListenDrops` alone (`tcp_conn_request`, `net/ipv4/tcp_input.c`).
fn dropped_for_no_queue(stat: &StatFrame, dropped: u64, severity: Severity) -> Finding {
    let half_open = stat.connections.get(TcpState::SynRecv);
    // No counter distinguishes these.
    let others = [
        "see whether there is a route back to these clients, without which nobody can answer them: ip route get ADDRESS".to_owned(),
        "else the kernel found no memory for the connection, as its log shows (dmesg), or a security module refused it".to_owned(),
    ];
    let mut title = format!(
        "{} SYNs or ACKs were dropped by listeners {} though no queue was full; {} connections are half-open",
        thousands(dropped),
        within(stat),
        thousands(half_open)
    );
    let mut advice = Vec::new();
    match (stat.syn.cookies, stat.syn.max_backlog) {
        // Some of them may have ended before they were counted.
        (Some(0), Some(most)) if half_open >= most / 2 => {
            title = format!(
                "{title}, and without SYN cookies there is room for three quarters of net.ipv4.tcp_max_syn_backlog ({})",
                thousands(most)
            );
            advice = turn_cookies_on(stat);
        }
        (Some(_), _) => advice.extend(others),
        (None, _) => {
            advice.push(
                "where net.ipv4.tcp_syncookies is 0, half-open connections near three quarters of net.ipv4.tcp_max_syn_backlog are the \
                 reason: turn cookies on there"
                    .into(),
            );
            advice.extend(others);
        }
    }
    finding(stat, "no_queue_full", severity, title, advice)
}

/// Advice where SYNs are dropped that cookies would answer.
fn turn_cookies_on(stat: &StatFrame) -> Vec<String> {
    let mut advice = vec!["let the kernel answer with a cookie, so that clients get in:".to_owned()];
    advice.extend(set(
        stat.namespace.as_ref(),
        Setting::TcpSyncookies,
        "1",
        "none while no queue is full; a connection made by a cookie has no window scaling and no SACK unless both sides use timestamps",
    ));
    advice.push(SEE.into());
    advice
}

/// The finding; `reason` names which of the three it is, for each has advice of its own.
fn finding(stat: &StatFrame, reason: &'static str, severity: Severity, title: String, advice: Vec<String>) -> Finding {
    let count = |counter| stat.counters.get(counter).into();
    Finding {
        evidence: vec![
            ("reason", reason.into()),
            ("cookies_sent", count(Counter::SyncookiesSent)),
            ("cookies_received", count(Counter::SyncookiesRecv)),
            ("cookies_failed", count(Counter::SyncookiesFailed)),
            ("syn_drops", count(Counter::TcpReqQFullDrop)),
            ("drops", count(Counter::ListenDrops)),
            ("overflows", count(Counter::ListenOverflows)),
            ("half_open", stat.connections.get(TcpState::SynRecv).into()),
            ("tcp_syncookies", stat.syn.cookies.into()),
            ("tcp_max_syn_backlog", stat.syn.max_backlog.into()),
        ],
        advice,
        ..Finding::new(FindingKind::SynFlood, severity, title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{counted, found, one, quiet};
    use crate::input::SynSettings;

    fn inspect(counts: &[(Counter, u64)], half_open: u64) -> Vec<Finding> {
        with(counts, half_open, SynSettings::default())
    }

    fn with(counts: &[(Counter, u64)], half_open: u64, syn: SynSettings) -> Vec<Finding> {
        let mut stat = StatFrame { syn, ..counted(counts) };
        stat.connections.add(TcpState::SynRecv, half_open);
        found(&mut SynFlood::default(), &Frame::from(&stat))
    }

    const fn settings(cookies: u64, max_backlog: u64) -> SynSettings {
        SynSettings {
            cookies: Some(cookies),
            max_backlog: Some(max_backlog),
        }
    }

    #[test]
    fn cookies_that_do_not_come_back_are_a_flood() {
        let counts = |answered| [(Counter::SyncookiesSent, 4_000), (Counter::SyncookiesRecv, answered)];
        let finding = one(with(&counts(3), 128, settings(1, 2048)));
        assert_eq!(
            finding.title,
            "4,000 SYNs were answered with a cookie in 10.0 s, because too many connections of their listener were half-open; \
             3 valid cookies came back"
        );
        assert_eq!(
            (finding.severity, finding.evidence("half_open")),
            (Severity::Warning, Some(&128_u64.into()))
        );
        assert!(one(inspect(&counts(1_999), 0)).advice[0].starts_with("few come back"));
        assert!(one(inspect(&counts(2_000), 0)).advice[0].starts_with("these clients are real"));
    }

    #[test]
    fn a_dropped_syn_is_a_client_that_fails() {
        let finding = one(inspect(&[(Counter::TcpReqQFullDrop, 7), (Counter::ListenDrops, 50)], 8));
        assert!(
            finding.title.starts_with("7 SYNs were dropped in 10.0 s"),
            "{}",
            finding.title
        );
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(finding.advice[1], "sysctl -w net.ipv4.tcp_syncookies=1");
        assert_eq!(finding.advice.len(), 5, "{:?}", finding.advice);
        let finding = one(inspect(&[(Counter::TcpReqQFullDrop, 1)], 8));
        assert!(finding.title.starts_with("1 SYN was dropped in"), "{}", finding.title);
        for (dropped, severity) in [(99, Severity::Warning), (100, Severity::Critical)] {
            assert_eq!(
                one(inspect(&[(Counter::TcpReqQFullDrop, dropped)], 8)).severity,
                severity
            );
        }
    }

    #[test]
    fn a_few_cookies_are_no_flood() {
        let counts = |sent| [(Counter::SyncookiesSent, sent)];
        let finding = one(with(&counts(1), 8, settings(1, 2048)));
        assert!(
            finding.title.starts_with("1 SYN was answered with a cookie")
                && finding.title.ends_with("0 valid cookies came back"),
            "{}",
            finding.title
        );
        for (sent, severity) in [(1, Severity::Info), (29, Severity::Info), (30, Severity::Warning)] {
            let finding = one(inspect(&counts(sent), 8));
            let is_told = finding.advice.iter().any(|step| step.contains("flood"));
            assert_eq!((finding.severity, is_told), (severity, severity == Severity::Warning));
        }
    }

    #[test]
    fn cookies_for_all_are_no_flood() {
        let counts = [
            (Counter::SyncookiesSent, 78),
            (Counter::TcpReqQFullDoCookies, 78),
            (Counter::SyncookiesRecv, 78),
        ];
        let finding = one(with(&counts, 0, settings(2, 2048)));
        assert_eq!(
            finding.title,
            "78 SYNs were answered with a cookie in 10.0 s, as all are where net.ipv4.tcp_syncookies is 2, whether or not a queue is full"
        );
        assert_eq!(
            (finding.severity, finding.advice[0].as_str()),
            (Severity::Info, "sysctl -w net.ipv4.tcp_syncookies=1")
        );
        let finding = one(inspect(&counts, 0));
        assert!(
            finding.title.contains("or net.ipv4.tcp_syncookies is 2 there"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn without_cookies_three_quarters_of_the_backlog_are_for_strangers() {
        let counts = [(Counter::ListenDrops, 5_510)];
        let finding = one(with(&counts, 1_537, settings(0, 2048)));
        assert_eq!(
            finding.title,
            "5,510 SYNs or ACKs were dropped by listeners in 10.0 s though no queue was full; 1,537 connections are half-open, and \
             without SYN cookies there is room for three quarters of net.ipv4.tcp_max_syn_backlog (2,048)"
        );
        // Some of them may have ended before they were counted.
        for half_open in [1_537, 1_024] {
            let finding = one(with(&counts, half_open, settings(0, 2048)));
            assert!(finding.title.contains("three quarters"), "{}", finding.title);
            assert_eq!(finding.advice[1], "sysctl -w net.ipv4.tcp_syncookies=1");
        }
        for (half_open, syn) in [(700, settings(0, 2048)), (1_537, settings(1, 2048))] {
            let finding = one(with(&counts, half_open, syn));
            assert!(finding.title.contains("though no queue was full"), "{}", finding.title);
            assert!(
                finding.advice[0].contains("ip route get") && finding.advice[1].contains("no memory"),
                "{:?}",
                finding.advice
            );
        }
    }

    #[test]
    fn drops_that_no_queue_explains_are_told_where_some_are_half_open() {
        let counts = |drops| [(Counter::ListenDrops, drops), (Counter::ListenOverflows, 20)];
        assert_eq!(inspect(&counts(29), 1), []);
        assert_eq!(inspect(&counts(30), 0), []);
        let finding = one(inspect(&counts(30), 1));
        assert!(
            finding.title.starts_with("10 SYNs or ACKs were dropped by listeners"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn each_reason_is_a_subject() {
        let subjects = [Counter::TcpReqQFullDrop, Counter::SyncookiesSent, Counter::ListenDrops]
            .map(|counter| one(inspect(&[(counter, 50)], 1)))
            .map(|finding| (finding.severity, finding.subject()));
        assert!(subjects.iter().all(|(severity, _)| *severity == Severity::Warning));
        assert!(subjects[0] != subjects[1] && subjects[1] != subjects[2] && subjects[2] != subjects[0]);
    }

    #[test]
    fn no_threshold_flaps() {
        let mut detector = SynFlood::default();
        let mut severities = |counter, counts: [u64; 4]| {
            counts.map(|count| {
                let mut stat = counted(&[(counter, count)]);
                stat.connections.add(TcpState::SynRecv, 1);
                let findings = found(&mut detector, &Frame::from(&stat));
                findings.first().map(|finding| finding.severity)
            })
        };
        let (info, warning, critical) = (Some(Severity::Info), Some(Severity::Warning), Some(Severity::Critical));
        assert_eq!(
            severities(Counter::ListenDrops, [9, 10, 9, 7]),
            [None, warning, warning, None]
        );
        assert_eq!(
            severities(Counter::SyncookiesSent, [29, 30, 29, 23]),
            [info, warning, warning, info]
        );
        assert_eq!(
            severities(Counter::TcpReqQFullDrop, [99, 100, 99, 79]),
            [warning, critical, critical, warning]
        );
    }

    #[test]
    fn an_overflow_of_the_accept_queue_is_none() {
        assert_eq!(
            inspect(&[(Counter::ListenDrops, 20), (Counter::ListenOverflows, 20)], 50),
            []
        );
        assert_eq!(found(&mut SynFlood::default(), &Frame::from(&quiet())), []);
    }
}
