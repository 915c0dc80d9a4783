//! Segments other than SYN and SYN-ACK are retransmitted: ten a second or more, and one in twenty of the segments sent.

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, percent, rate, share, within};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::model::format::thousands;

/// Share of retransmitted segments that makes connections slow: if a twentieth is lost, a connection with a round trip of 50 ms gets
/// about 1 Mbit/s (Mathis et al. 1997).
const FROM: f64 = 0.05;
/// Share with which connections time out.
const CRITICAL: f64 = 0.25;
/// Retransmitted segments a second: fewer are a few probes on an idle host.
const FEWEST_PER_S: f64 = 10.0;

/// Inspects `Tcp:RetransSegs` beside `Tcp:OutSegs`.
#[derive(Debug, Default)]
pub struct RetransmitStorm {
    found: Hysteresis<Severity>,
}

impl Detector for RetransmitStorm {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.found.turn();
        let count = |counter| stat.counters.get(counter);
        let (Some(again), Some(first)) = (count(Counter::RetransSegs), count(Counter::OutSegs)) else {
            return;
        };
        // Other detectors report handshakes without an answer: half_open, syn_flood, connect_failures.
        let handshakes = count(Counter::TcpSynRetrans);
        let again = again.saturating_sub(handshakes.unwrap_or(0));
        let part = share(again, first.saturating_add(again));
        let is_found = self.found.holds(Severity::Warning, |slack| {
            slack.reaches(rate(again, stat), FEWEST_PER_S) && slack.reaches(part, FROM)
        });
        if !is_found {
            return;
        }
        let is_critical = self
            .found
            .holds(Severity::Critical, |slack| slack.reaches(part, CRITICAL));
        let severity = Severity::critical_if(is_critical);
        let title = format!(
            "{} segments were sent again {}, {} of all that were sent",
            thousands(again),
            within(stat),
            percent(part),
        );
        let advice = vec![
            "find the peers: tcpwatch life shows the segments that each finished connection sent again, ss -ti \
             those of open connections"
                .into(),
            "look for drops on the way to them: ip -s link and tc -s qdisc here, then the switch and the path beyond"
                .into(),
        ];
        findings.push(Finding {
            evidence: vec![
                ("retransmitted", again.into()),
                ("sent", first.into()),
                ("share", part.into()),
                ("syn_retransmits", handshakes.into()),
                ("timeouts", count(Counter::TcpTimeouts).into()),
                ("given_up", count(Counter::TcpAbortOnTimeout).into()),
            ],
            advice,
            ..Finding::new(FindingKind::RetransmitStorm, severity, title)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{counted, found, one, quiet};
    use crate::model::stat::StatFrame;

    fn frame(again: u64, first: u64, syn: u64) -> StatFrame {
        counted(&[
            (Counter::RetransSegs, again),
            (Counter::OutSegs, first),
            (Counter::TcpSynRetrans, syn),
        ])
    }

    fn inspect(stat: &StatFrame) -> Vec<Finding> {
        found(&mut RetransmitStorm::default(), &Frame::from(stat))
    }

    #[test]
    fn much_of_what_is_sent_is_sent_again() {
        let finding = one(inspect(&frame(4_120, 31_000, 20)));
        assert_eq!(
            finding.title,
            "4,100 segments were sent again in 10.0 s, 12 % of all that were sent"
        );
        assert_eq!((finding.severity, finding.advice.len()), (Severity::Warning, 2));
        assert_eq!(finding.evidence("retransmitted"), Some(&4_100_u64.into()));
        assert_eq!(one(inspect(&frame(1_000, 3_000, 0))).severity, Severity::Critical);
    }

    #[test]
    fn handshakes_are_no_storm() {
        assert_eq!(inspect(&frame(1_000, 3_000, 960)), []);
        let finding = one(inspect(&frame(1_000, 3_000, 400)));
        assert_eq!(finding.evidence("retransmitted"), Some(&600_u64.into()));
        assert_eq!(finding.evidence("syn_retransmits"), Some(&400_u64.into()));
    }

    #[test]
    fn a_small_part_and_a_few_are_none() {
        assert_eq!(inspect(&quiet()), []);
        assert_eq!(inspect(&frame(500, 9_501, 0)), []);
        assert_eq!(inspect(&frame(500, 9_500, 0)).len(), 1);
        assert_eq!(inspect(&frame(99, 10, 0)), [], "on an idle host");
    }

    #[test]
    fn a_part_around_the_threshold_does_not_flap() {
        let mut detector = RetransmitStorm::default();
        let mut severity = |again, sent| {
            let findings = found(&mut detector, &Frame::from(&frame(again, sent - again, 0)));
            findings.first().map(|finding| finding.severity)
        };
        let (warning, critical) = (Some(Severity::Warning), Some(Severity::Critical));
        let parts = [490, 500, 410, 490, 390, 490].map(|again| severity(again, 10_000));
        assert_eq!(parts, [None, warning, warning, warning, None, None]);
        let rates = [99, 100, 80, 79, 99].map(|again| severity(again, 1_000));
        assert_eq!(rates, [None, warning, warning, None, None]);
        let severities = [240, 250, 240, 200, 190].map(|again| severity(again, 1_000));
        assert_eq!(severities, [warning, critical, critical, critical, warning]);
    }
}
