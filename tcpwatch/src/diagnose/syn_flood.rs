//! More SYNs than a listener takes: answered with cookies, or dropped.

use tcpwatch_common::TcpState;

use super::finding::{Finding, Severity};
use super::kind::Kind;
use super::{Detector, Frame, share, within};
use crate::model::counter::Counter;
use crate::model::number::thousands;
use crate::model::stat::StatFrame;

/// Of the cookies sent, the part that comes back from where clients are real, percent: a flood from addresses that are not the
/// sender's answers none.
pub(super) const REAL: u32 = 50;
/// The same part.
const ANSWERED: f64 = REAL as f64 / 100.0;
/// Drops of listeners that no queue explains, from which they are worth a word: counters of all CPUs are not read at one moment.
const UNEXPLAINED: u64 = 10;

/// Looks at what happened to SYNs.
#[derive(Debug)]
pub struct SynFlood;

impl Detector for SynFlood {
    fn look(&mut self, frame: Frame<'_>, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.stat() else { return };
        let count = |counter| stat.counters.get(counter).unwrap_or(0);
        let sent = count(Counter::SyncookiesSent);
        let answered = count(Counter::SyncookiesRecv);
        let dropped = count(Counter::TcpReqQFullDrop);
        let half_open = stat.connections.get(TcpState::SynRecv);
        if dropped > 0 {
            let title = format!(
                "{} SYNs were dropped {}, for too many connections of their listener were half-open, and SYN cookies are off",
                thousands(dropped),
                within(stat)
            );
            let advice = vec![
                "sysctl -w net.ipv4.tcp_syncookies=1, and net.ipv4.tcp_syncookies = 1 in /etc/sysctl.d/: the kernel answers with a cookie \
                 then, and clients get in"
                    .into(),
                "see from where they come: tcpwatch snapshot --state syn_recv --by remote".into(),
            ];
            findings.push(finding(stat, Severity::Critical, title, advice));
        } else if sent > 0 {
            let title = format!(
                "{} SYNs were answered with a cookie {}, for too many connections of their listener were half-open; {} valid cookies \
                 came back",
                thousands(sent),
                within(stat),
                thousands(answered)
            );
            let advice = if share(answered, sent) >= ANSWERED {
                vec![
                    "these clients are real: raise the backlog that the application gives to listen(), and net.core.somaxconn, which caps it"
                        .into(),
                    "let it accept faster".into(),
                ]
            } else {
                vec![
                    "few come back, as in a flood: see from where they come (tcpwatch snapshot --state syn_recv --by remote), and limit \
                     SYNs in front of this host"
                        .into(),
                    "leave SYN cookies on: without them clients would find no room".into(),
                ]
            };
            findings.push(finding(stat, Severity::Warning, title, advice));
        }
        let explained = count(Counter::ListenOverflows).saturating_add(dropped);
        let unexplained = count(Counter::ListenDrops).saturating_sub(explained);
        if unexplained >= UNEXPLAINED && half_open > 0 && sent == 0 && dropped == 0 {
            let title = format!(
                "{} SYNs or ACKs were dropped by listeners {} though no queue was full; {} connections are half-open",
                thousands(unexplained),
                within(stat),
                thousands(half_open)
            );
            let advice = vec![
                "where net.ipv4.tcp_syncookies is 0, half-open connections near net.ipv4.tcp_max_syn_backlog are the reason: \
                 sysctl -w net.ipv4.tcp_syncookies=1"
                    .into(),
                "else the kernel found no memory for the connection, or a filter refused it".into(),
            ];
            findings.push(finding(stat, Severity::Critical, title, advice));
        }
    }
}

fn finding(stat: &StatFrame, severity: Severity, title: String, advice: Vec<String>) -> Finding {
    let count = |counter| stat.counters.get(counter).into();
    Finding {
        evidence: vec![
            ("cookies_sent", count(Counter::SyncookiesSent)),
            ("cookies_received", count(Counter::SyncookiesRecv)),
            ("cookies_failed", count(Counter::SyncookiesFailed)),
            ("syn_drops", count(Counter::TcpReqQFullDrop)),
            ("drops", count(Counter::ListenDrops)),
            ("overflows", count(Counter::ListenOverflows)),
            ("half_open", stat.connections.get(TcpState::SynRecv).into()),
        ],
        advice,
        ..Finding::of(Kind::SynFlood, severity, title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::{counted, found, one, quiet};

    fn look(counts: &[(Counter, u64)], half_open: u64) -> Vec<Finding> {
        let mut stat = counted(counts);
        stat.connections.add(TcpState::SynRecv, half_open);
        found(&mut SynFlood, Frame::Stat(&stat))
    }

    #[test]
    fn cookies_that_do_not_come_back_are_a_flood() {
        let counts = |answered| [(Counter::SyncookiesSent, 4_000), (Counter::SyncookiesRecv, answered)];
        let finding = one(look(&counts(3), 128));
        assert_eq!(
            finding.title,
            "4,000 SYNs were answered with a cookie in 10.0 s, for too many connections of their listener were half-open; \
             3 valid cookies came back"
        );
        assert_eq!(
            (finding.severity, finding.evidence("half_open")),
            (Severity::Warning, Some(&128_u64.into()))
        );
        assert!(one(look(&counts(1_999), 0)).advice[0].starts_with("few come back"));
        assert!(one(look(&counts(2_000), 0)).advice[0].starts_with("these clients are real"));
    }

    #[test]
    fn a_dropped_syn_is_a_client_that_fails() {
        let finding = one(look(&[(Counter::TcpReqQFullDrop, 7), (Counter::ListenDrops, 50)], 8));
        assert!(
            finding.title.starts_with("7 SYNs were dropped in 10.0 s"),
            "{}",
            finding.title
        );
        assert_eq!(finding.severity, Severity::Critical);
        assert!(finding.advice[0].starts_with("sysctl -w net.ipv4.tcp_syncookies=1"));
    }

    #[test]
    fn drops_that_no_queue_explains_are_told_where_some_are_half_open() {
        let counts = |drops| [(Counter::ListenDrops, drops), (Counter::ListenOverflows, 20)];
        assert_eq!(look(&counts(29), 1), []);
        assert_eq!(look(&counts(30), 0), []);
        let finding = one(look(&counts(30), 1));
        assert!(
            finding.title.starts_with("10 SYNs or ACKs were dropped by listeners"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn an_overflow_of_the_accept_queue_is_none() {
        assert_eq!(
            look(&[(Counter::ListenDrops, 20), (Counter::ListenOverflows, 20)], 50),
            []
        );
        assert_eq!(found(&mut SynFlood, Frame::Stat(&quiet())), []);
    }
}
