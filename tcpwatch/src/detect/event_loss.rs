//! tcpwatch lost records, missed resets or miscounted sockets (one in a thousand is a warning), or the kernel skipped runs of it.

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, share, within};
use crate::explain::kind::FindingKind;
use crate::model::format::thousands;

/// Share of the transitions in an interval that changes a shown rate when it is missing: a rate has two or three digits.
const WARNING: f64 = 0.001;

/// Inspects the counts of lost records, skipped runs and missed resets, and the drift.
#[derive(Debug, Default)]
pub struct EventLoss {
    /// Records lost until the frame before, where a frame has them since the start.
    before: u64,
    much: Hysteresis<()>,
}

impl Detector for EventLoss {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.much.turn();
        let lost = match frame.churn.as_ref() {
            Some(churn) => churn
                .lost
                .saturating_sub(std::mem::replace(&mut self.before, churn.lost)),
            None => stat.lost,
        };
        let [missed, unheard, drift] = [stat.missed, stat.missed_resets, stat.drift].map(Option::unwrap_or_default);
        let mut parts = Vec::new();
        for (count, loss) in [
            (lost, "records found no room"),
            (
                missed,
                "events of this host, maybe of other network namespaces, were skipped by the kernel",
            ),
            (unheard, "resets were missed"),
            (drift, "sockets were counted wrongly until now"),
        ] {
            if count > 0 {
                parts.push(format!("{} {loss}", thousands(count)));
            }
        }
        // The kernel may have skipped events of other namespaces: they alone are no reason to doubt these numbers.
        let is_much = self.much.holds((), |slack| {
            let of_events = [lost, unheard]
                .into_iter()
                .any(|count| count > 0 && slack.reaches(share(count, stat.seen), WARNING) || count > stat.seen);
            let of_sockets = drift > 0 && slack.reaches(share(drift, stat.connections.total().max(1)), WARNING);
            of_events || of_sockets
        });
        if parts.is_empty() {
            return;
        }
        let severity = if is_much { Severity::Warning } else { Severity::Info };
        let mut advice = Vec::new();
        if lost > 0 {
            advice.push("use a larger --ring-size, or a filter (-L, -R, --remote) to record fewer connections".into());
        }
        if missed > 0 {
            advice.push(
                "where the hook is the classic tracepoint, --hook tp_btf: the kernel skips fewer runs of it".into(),
            );
        }
        findings.push(Finding {
            evidence: vec![
                ("seen", stat.seen.into()),
                ("lost", lost.into()),
                ("missed", stat.missed.into()),
                ("missed_resets", stat.missed_resets.into()),
                ("drift", stat.drift.into()),
            ],
            advice,
            ..Finding::new(
                FindingKind::EventLoss,
                severity,
                format!("tcpwatch did not see everything {}: {}", within(stat), parts.join(", ")),
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{found, nobody, one, quiet};
    use crate::model::churn::ChurnFrame;
    use crate::model::stat::StatFrame;

    fn inspect(stat: &StatFrame) -> Vec<Finding> {
        found(&mut EventLoss::default(), &Frame::from(stat))
    }

    #[test]
    fn all_that_is_missing_is_told() {
        let stat = StatFrame {
            seen: 100_000,
            lost: 1234,
            missed: Some(5),
            missed_resets: Some(3),
            drift: Some(2),
            ..quiet()
        };
        let finding = one(inspect(&stat));
        assert_eq!(
            finding.title,
            "tcpwatch did not see everything in 10.0 s: 1,234 records found no room, 5 events of this host, maybe of \
             other network namespaces, were skipped by the kernel, 3 resets were missed, 2 sockets were counted wrongly until now"
        );
        assert_eq!((finding.severity, finding.advice.len()), (Severity::Warning, 2));
        assert_eq!(finding.evidence("missed_resets"), Some(&3_u64.into()));
    }

    #[test]
    fn a_thousandth_is_worth_a_warning() {
        let lost = |lost| StatFrame {
            seen: 100_000,
            lost,
            ..quiet()
        };
        assert_eq!(one(inspect(&lost(99))).severity, Severity::Info);
        assert_eq!(one(inspect(&lost(100))).severity, Severity::Warning);
        assert_eq!(inspect(&lost(0)), []);
        let mut detector = EventLoss::default();
        let severities = [99, 100, 99, 79].map(|count| one(found(&mut detector, &Frame::from(&lost(count)))).severity);
        let (info, warning) = (Severity::Info, Severity::Warning);
        assert_eq!(severities, [info, warning, warning, info]);
        let all = StatFrame { lost: 1, ..quiet() };
        assert_eq!(
            one(inspect(&all)).severity,
            Severity::Warning,
            "nothing was seen, and one lost"
        );
        let mut drift = StatFrame {
            drift: Some(1),
            ..quiet()
        };
        drift.connections.add(tcpwatch_common::TcpState::Established, 1001);
        assert_eq!(one(inspect(&drift)).severity, Severity::Info);
    }

    #[test]
    fn what_the_kernel_skipped_for_others_is_no_warning_here() {
        let idle = StatFrame {
            seen: 0,
            missed: Some(7),
            ..quiet()
        };
        let finding = one(inspect(&idle));
        assert_eq!(finding.severity, Severity::Info);
        assert!(
            finding.title.contains("maybe of other network namespaces"),
            "{}",
            finding.title
        );
    }

    #[test]
    fn what_was_lost_since_the_start_is_told_once() {
        let mut detector = EventLoss::default();
        let told = [0, 7, 7, 9].map(|lost| {
            let frame = ChurnFrame {
                lost,
                ..nobody(quiet())
            };
            let findings = found(&mut detector, &Frame::from(&frame));
            findings.first().and_then(|finding| finding.evidence("lost")).cloned()
        });
        assert_eq!(told, [None, Some(7.into()), None, Some(2.into())]);
    }
}
