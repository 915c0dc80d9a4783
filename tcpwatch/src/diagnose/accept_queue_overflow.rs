//! Accept queues that were full: connections came faster than the application accepts them.

use super::finding::{Finding, Severity};
use super::kind::Kind;
use super::{Detector, Frame, few, happened, percent, share, within};
use crate::model::counter::Counter;
use crate::model::listener::{Listener, overflowed};
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
        let drops = stat.counters.get(Counter::ListenDrops);
        let dropping = frame.churn().map_or(&[][..], |churn| &churn.dropping);
        let whose = overflowed(dropping, Some(overflows), drops);
        let mut title = format!(
            "{} {times} {} a connection found the accept queue of its listener full{of_all}",
            thousands(overflows),
            within(stat),
        );
        if !whose.is_empty() {
            title = format!(
                "{title}: {}",
                few(&whose.iter().map(|one| dropped(one)).collect::<Vec<_>>())
            );
        }
        let owner = whose.first().and_then(|first| first.owner);
        let owner = owner.filter(|_| whose.iter().all(|one| one.owner == owner));
        let mut advice = vec![
            match owner {
                Some(owner) => {
                    format!("let {owner} call accept() sooner: more workers, or less work between two calls")
                }
                None => {
                    "let that application call accept() sooner: more workers, or less work between two calls".into()
                }
            },
            "where it comes in bursts, raise the backlog it gives to listen(), and net.core.somaxconn, which caps it: \
             tcpwatch doctor tells which of the two it is"
                .into(),
        ];
        if whose.is_empty() {
            advice.insert(
                0,
                "see whose it is: ss -ltnpm counts at the end of skmem (d) what each listener dropped".into(),
            );
        }
        findings.push(Finding {
            evidence: vec![
                ("overflows", overflows.into()),
                ("drops", drops.into()),
                ("opened_passive", opened.into()),
                ("listener", whose.first().map(|first| first.place()).into()),
                ("listener_drops", whose.first().and_then(|first| first.drops).into()),
                ("listener_backlog", whose.first().and_then(|first| first.limit).into()),
            ],
            advice,
            owner,
            ..Finding::of(Kind::AcceptQueueOverflow, severity, title)
        });
    }
}

/// `0.0.0.0:80 nginx[812] dropped 1,204 with a backlog of 128`.
fn dropped(listener: &Listener) -> String {
    let backlog = listener
        .limit
        .map_or_else(String::new, |limit| format!(" with a backlog of {}", thousands(limit)));
    format!(
        "{listener} dropped {}{backlog}",
        listener.drops.map_or_else(|| "?".into(), thousands)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::finding::Value;
    use crate::diagnose::tests::{counted, found, nobody, one, quiet};
    use crate::model::churn::ChurnFrame;
    use crate::model::counter::CounterValues;
    use crate::model::listener::tests::dropping;
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
    fn whose_queue_it_was_is_told_where_it_can_have_been_no_other() {
        let stat = counted(&[(Counter::ListenOverflows, 1_030), (Counter::ListenDrops, 1_034)]);
        let look = |dropping| {
            let churn = ChurnFrame {
                dropping,
                ..nobody(stat.clone())
            };
            one(found(&mut AcceptQueueOverflow, Frame::Churn(&churn)))
        };
        let finding = look(vec![dropping(80, 1, 1_030), dropping(81, 2, 4)]);
        assert!(
            finding
                .title
                .ends_with(": 0.0.0.0:80 nginx[7] dropped 1,030 with a backlog of 2"),
            "{}",
            finding.title
        );
        assert_eq!(
            (finding.evidence("listener"), finding.evidence("listener_drops")),
            (Some(&"0.0.0.0:80".into()), Some(&1_030_u64.into()))
        );
        assert_eq!(finding.owner, dropping(80, 1, 1).owner);
        assert!(
            finding.advice[0].starts_with("let nginx[7] call accept() sooner"),
            "{:?}",
            finding.advice
        );
        let mut other = dropping(81, 2, 400);
        other.owner = None;
        let finding = look(vec![dropping(80, 1, 634), other]);
        assert!(
            finding
                .title
                .contains("634 with a backlog of 2, 0.0.0.0:81 dropped 400"),
            "{}",
            finding.title
        );
        assert_eq!(finding.owner, None);
        let finding = look(vec![dropping(80, 1, 4)]);
        assert_eq!(
            (finding.owner, finding.evidence("listener")),
            (None, Some(&Value::Unknown))
        );
        assert!(finding.advice[0].contains("ss -ltnpm"), "{:?}", finding.advice);
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
