//! Accept queues that were full: connections came faster than the application accepts them.

use super::finding::{Finding, Severity};
use super::kind::Kind;
use super::{Detector, Frame, happened, percent, share, within};
use crate::model::counter::Counter;
use crate::model::number::thousands;

/// Of the connections that came, the part that found no room from which clients fail, and not just wait: each of them is a second
/// late at least, for the handshake is begun again by a timer, and most clients do not wait for many of those.
const CRITICAL: f64 = 0.1;

/// Looks at `TcpExt:ListenOverflows`.
#[derive(Debug)]
pub struct AcceptQueueOverflow;

impl Detector for AcceptQueueOverflow {
    fn look(&mut self, frame: Frame<'_>, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.stat() else { return };
        let Some(overflows) = happened(stat, Counter::ListenOverflows) else {
            return;
        };
        let opened = stat.counters.get(Counter::PassiveOpens);
        let refused = share(overflows, opened.unwrap_or(0).saturating_add(overflows));
        let severity = if refused >= CRITICAL && opened.is_some() {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let times = if overflows == 1 { "time" } else { "times" };
        let of_all = opened.map_or_else(String::new, |_| format!(", {} of those that came", percent(refused)));
        let title = format!(
            "{} {times} {} a connection found the accept queue of its listener full{of_all}",
            thousands(overflows),
            within(stat),
        );
        findings.push(Finding {
            evidence: vec![
                ("overflows", overflows.into()),
                ("drops", stat.counters.get(Counter::ListenDrops).into()),
                ("opened_passive", opened.into()),
            ],
            advice: vec![
                "see whose it is: ss -ltnp shows a Recv-Q that has reached the Send-Q, which is the backlog".into(),
                "let that application call accept() sooner: more workers, or less work between two calls".into(),
                "where it comes in bursts, raise the backlog it gives to listen(), and net.core.somaxconn, which caps it".into(),
            ],
            ..Finding::of(Kind::AcceptQueueOverflow, severity, title)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::tests::{counted, found, one, quiet};
    use crate::model::counter::CounterValues;
    use crate::model::stat::StatFrame;

    fn finding(overflows: u64, opened: u64) -> Finding {
        let stat = counted(&[
            (Counter::ListenOverflows, overflows),
            (Counter::ListenDrops, overflows + 2),
            (Counter::PassiveOpens, opened),
        ]);
        one(found(&mut AcceptQueueOverflow, Frame::Stat(&stat)))
    }

    #[test]
    fn one_overflow_is_worth_a_word() {
        let finding = finding(1, 99);
        assert_eq!(
            finding.title,
            "1 time in 10.0 s a connection found the accept queue of its listener full, 1 % of those that came"
        );
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.evidence[..3],
            [
                ("overflows", 1.into()),
                ("drops", 3.into()),
                ("opened_passive", 99.into())
            ]
        );
        assert_eq!(finding.advice.len(), 3);
    }

    #[test]
    fn a_tenth_of_all_is_critical() {
        assert_eq!(finding(100, 901).severity, Severity::Warning);
        assert_eq!(finding(100, 900).severity, Severity::Critical);
        assert!(finding(1234, 0).title.starts_with("1,234 times in 10.0 s"));
    }

    #[test]
    fn no_overflow_and_no_counter_are_nothing() {
        let unknown = StatFrame {
            counters: CounterValues::default(),
            ..quiet()
        };
        for stat in [quiet(), unknown, counted(&[(Counter::ListenDrops, 7)])] {
            assert_eq!(found(&mut AcceptQueueOverflow, Frame::Stat(&stat)), []);
        }
    }
}
