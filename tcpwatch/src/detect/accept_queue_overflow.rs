//! An accept queue overflows where a packet found the queue of its listener full; ten a second are critical.

use super::finding::{Finding, Severity};
use super::hysteresis::{Hysteresis, Slack};
use super::{Detector, Frame, few, happened, rate, within};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::input::listener::{Listener, overflowed, owner_of_all};
use crate::model::format::{several, thousands};
use crate::model::real;
use crate::model::stat::StatFrame;

/// Packets a second that found no room. From this rate on several clients wait at any moment, and most of them fail: a waiting client
/// sends again about once a second, or three times a second if it has data.
const CRITICAL_PER_S: f64 = 10.0;

/// Inspects `TcpExt:ListenOverflows`.
#[derive(Debug, Default)]
pub struct AcceptQueueOverflow {
    critical: Hysteresis<()>,
}

impl Detector for AcceptQueueOverflow {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.critical.turn();
        let Some(overflows) = happened(stat, Counter::ListenOverflows) else {
            return;
        };
        // It counts packets, and one client that finds no room sends many: the number of clients is unknown.
        let is_critical = self.critical.holds((), |slack| is_critical(overflows, stat, slack));
        let severity = Severity::critical_if(is_critical);
        let packets = several(overflows, "packet", "packets");
        let tries = if overflows == 1 {
            ""
        } else {
            ", including retransmissions of the same clients"
        };
        let drops = stat.counters.get(Counter::ListenDrops);
        let dropping = frame.churn.as_ref().map_or(&[][..], |churn| &churn.dropping);
        let whose = overflowed(dropping, Some(overflows), drops);
        let mut title = format!(
            "{packets} found the accept queue of a listener full {}{tries}",
            within(stat),
        );
        if !whose.is_empty() {
            title = format!(
                "{title}: {}",
                few(&whose.iter().map(|one| dropped(one)).collect::<Vec<_>>())
            );
        }
        let owner = owner_of_all(&whose);
        let who = owner.map_or_else(|| "that application".into(), |owner| owner.to_string());
        let mut advice = vec![
            format!("let {who} call accept() sooner: more workers, or less work between two calls"),
            "where it comes in bursts, raise the backlog it gives to listen(), and net.core.somaxconn, which caps it: \
             tcpwatch doctor shows which of the two it is"
                .into(),
        ];
        if whose.is_empty() {
            advice.insert(
                0,
                "see which listener it is: ss -ltnpm shows at the end of skmem (d) how many packets each dropped"
                    .into(),
            );
        }
        findings.push(Finding {
            evidence: vec![
                ("overflows", overflows.into()),
                ("drops", drops.into()),
                ("overflows_per_s", rate(overflows, stat).into()),
                ("listener", whose.first().map(|first| first.place()).into()),
                ("listener_drops", whose.first().and_then(|first| first.drops).into()),
                ("listener_backlog", whose.first().and_then(|first| first.limit).into()),
            ],
            advice,
            owner,
            ..Finding::new(FindingKind::AcceptQueueOverflow, severity, title)
        });
    }
}

/// Whether it is critical that so many `packets` of clients found no room, retransmissions included. An interval of less than a second
/// counts as one: a few packets that arrive together are no rate.
pub(super) fn is_critical(packets: u64, stat: &StatFrame, slack: Slack) -> bool {
    slack.reaches(real(packets) / stat.interval_s.max(1.0), CRITICAL_PER_S)
}

/// `0.0.0.0:80 nginx[812] dropped 1,204 with a backlog of 128`.
pub(crate) fn dropped(listener: &Listener) -> String {
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
    use crate::detect::finding::Value;
    use crate::detect::tests::{counted, found, nobody, one, quiet};
    use crate::input::counter::CounterValues;
    use crate::input::listener::tests::dropping;
    use crate::model::churn::ChurnFrame;

    fn finding(overflows: u64) -> Finding {
        let stat = counted(&[
            (Counter::ListenOverflows, overflows),
            (Counter::ListenDrops, overflows + 2),
        ]);
        one(found(&mut AcceptQueueOverflow::default(), &Frame::from(&stat)))
    }

    #[test]
    fn one_overflow_is_worth_a_word() {
        let finding = finding(1);
        assert_eq!(
            finding.title,
            "1 packet found the accept queue of a listener full in 10.0 s"
        );
        assert_eq!(finding.severity, Severity::Warning);
        assert_eq!(
            finding.evidence[..3],
            [
                ("overflows", 1.into()),
                ("drops", 3.into()),
                ("overflows_per_s", 0.1.into())
            ]
        );
        assert_eq!(finding.advice.len(), 3);
    }

    /// One client that waits is no disaster, however few others there are.
    #[test]
    fn many_clients_at_any_moment_are_critical() {
        assert_eq!(finding(99).severity, Severity::Warning);
        assert_eq!(finding(100).severity, Severity::Critical);
        assert_eq!(
            finding(1234).title,
            "1,234 packets found the accept queue of a listener full in 10.0 s, including retransmissions of the same clients"
        );
        let short = |overflows| {
            let stat = StatFrame {
                interval_s: 0.1,
                ..counted(&[(Counter::ListenOverflows, overflows)])
            };
            one(found(&mut AcceptQueueOverflow::default(), &Frame::from(&stat))).severity
        };
        assert_eq!([9, 10].map(short), [Severity::Warning, Severity::Critical]);
    }

    #[test]
    fn severity_does_not_flap() {
        let mut detector = AcceptQueueOverflow::default();
        let severities = [99, 100, 99, 80, 79].map(|overflows| {
            let stat = counted(&[(Counter::ListenOverflows, overflows)]);
            one(found(&mut detector, &Frame::from(&stat))).severity
        });
        let (warning, critical) = (Severity::Warning, Severity::Critical);
        assert_eq!(severities, [warning, critical, critical, critical, warning]);
    }

    #[test]
    fn whose_queue_it_was_is_shown_where_it_can_have_been_no_other() {
        let stat = counted(&[(Counter::ListenOverflows, 1_030), (Counter::ListenDrops, 1_034)]);
        let inspect = |dropping| {
            let churn = ChurnFrame {
                dropping,
                ..nobody(stat.clone())
            };
            one(found(&mut AcceptQueueOverflow::default(), &Frame::from(&churn)))
        };
        let finding = inspect(vec![dropping(80, 1, 1_030), dropping(81, 2, 4)]);
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
        let finding = inspect(vec![dropping(80, 1, 634), other]);
        assert!(
            finding
                .title
                .contains("634 with a backlog of 2, 0.0.0.0:81 dropped 400"),
            "{}",
            finding.title
        );
        assert_eq!(finding.owner, None);
        let finding = inspect(vec![dropping(80, 1, 4)]);
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
            assert_eq!(found(&mut AcceptQueueOverflow::default(), &Frame::from(&stat)), []);
        }
    }
}
