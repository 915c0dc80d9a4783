//! Half-open connections pile up where a hundred or more, of either side, wait for longer than a second on average.
//!
//! Half-open is a handshake that waits for an answer (RFC 9293, section 3.5).

use tcpwatch_common::TcpState;

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, rate, within};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::model::format::{per_second, thousands};
use crate::model::real;

/// Half-open connections from which there is a pile: a host without trouble has a handful, for they last a round trip.
const FROM: f64 = 100.0;
/// Longest average wait of a handshake on a healthy network, s: then the SYN or SYN-ACK is sent again (RFC 6298, section 2).
const RTO_S: f64 = 1.0;

/// Inspects the number of half-open connections. Divided by the handshakes completed a second, it is their average wait (Little's law).
#[derive(Debug, Default)]
pub struct HalfOpen {
    piled: Hysteresis<TcpState>,
}

impl Detector for HalfOpen {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts().filter(|stat| stat.interval_s > 0.0) else {
            return;
        };
        self.piled.turn();
        for (state, who, count, see) in [
            (
                TcpState::SynRecv,
                "connections from outside wait for the client's ACK",
                stat.moved(TcpState::SynRecv, TcpState::Established),
                "see from where: tcpwatch snapshot --state syn_recv --by remote",
            ),
            (
                TcpState::SynSent,
                "connects from here wait for an answer to their SYN",
                stat.moved(TcpState::SynSent, TcpState::Established),
                "see the processes and destinations: tcpwatch snapshot --state syn_sent --by process --by remote",
            ),
        ] {
            let waiting = stat.connections.get(state);
            let completed_per_s = rate(count, stat);
            let is_pile = self.piled.holds(state, |slack| {
                slack.reaches(real(waiting), FROM) && slack.is_below(completed_per_s * RTO_S, real(waiting))
            });
            if !is_pile {
                continue;
            }
            let title = format!(
                "{} {who}, and {} a second got it {}",
                thousands(waiting),
                thousands(per_second(count, stat.interval_s)),
                within(stat)
            );
            let mut advice = vec![see.to_owned()];
            if state == TcpState::SynRecv {
                advice.push(format!(
                    "unknown clients that never answer are a scan or a flood: limit their SYNs in front of this host, {}",
                    match stat.syn.cookies {
                        Some(0) => "and turn SYN cookies on (net.ipv4.tcp_syncookies is 0)",
                        Some(_) => "and leave SYN cookies on",
                        None => "and have SYN cookies on (net.ipv4.tcp_syncookies)",
                    }
                ));
                advice.push(
                    "known clients do not get the SYN-ACK, or their ACK is lost: look for a firewall or a way back that differs \
                     from the way in"
                        .into(),
                );
            } else {
                advice.push(
                    "the host there is down, a firewall drops, or the queue of its listener is full: look there".into(),
                );
            }
            findings.push(Finding {
                evidence: vec![
                    ("state", state.key().into()),
                    ("half_open", waiting.into()),
                    ("completed_per_s", completed_per_s.into()),
                    ("syn_retransmits", stat.counters.get(Counter::TcpSynRetrans).into()),
                ],
                advice,
                ..Finding::new(FindingKind::HalfOpen, Severity::Warning, title)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{counted, found, one, quiet};
    use crate::model::stat::StatFrame;

    /// So many in `state`, and so many in ten seconds that left it for ESTABLISHED.
    fn frame(state: TcpState, waiting: u64, completed: u64) -> StatFrame {
        let mut stat = counted(&[(Counter::TcpSynRetrans, 7)]);
        stat.connections.add(state, waiting);
        stat.moves[usize::from(state.number())][1] = completed;
        stat
    }

    fn inspect(stat: &StatFrame) -> Vec<Finding> {
        found(&mut HalfOpen::default(), &Frame::from(stat))
    }

    #[test]
    fn a_pile_on_either_side_is_told() {
        let finding = one(inspect(&frame(TcpState::SynRecv, 1024, 30)));
        assert_eq!(
            finding.title,
            "1,024 connections from outside wait for the client's ACK, and 3 a second got it in 10.0 s"
        );
        assert_eq!(
            (
                finding.severity,
                finding.evidence("half_open"),
                finding.evidence("syn_retransmits")
            ),
            (Severity::Warning, Some(&1024_u64.into()), Some(&7_u64.into()))
        );
        let finding = one(inspect(&frame(TcpState::SynSent, 100, 0)));
        assert_eq!(
            finding.title,
            "100 connects from here wait for an answer to their SYN, and 0 a second got it in 10.0 s"
        );
        assert!(finding.advice[0].contains("--state syn_sent"), "{:?}", finding.advice);
    }

    #[test]
    fn cookies_are_left_on_where_they_are_on() {
        for (cookies, told) in [
            (Some(1), "leave SYN cookies on"),
            (Some(0), "turn SYN cookies on"),
            (None, "have SYN cookies on"),
        ] {
            let mut stat = frame(TcpState::SynRecv, 1024, 30);
            stat.syn.cookies = cookies;
            let finding = one(inspect(&stat));
            assert!(finding.advice[1].contains(told), "{:?}", finding.advice);
        }
    }

    #[test]
    fn few_and_those_that_wait_no_longer_than_a_round_trip_are_none() {
        assert_eq!(inspect(&quiet()), []);
        assert_eq!(inspect(&frame(TcpState::SynRecv, 99, 0)), []);
        // 20,000 a second on a way of 100 ms: 2,000 are half-open at any time.
        assert_eq!(inspect(&frame(TcpState::SynRecv, 2_000, 200_000)), []);
        assert_eq!(inspect(&frame(TcpState::SynRecv, 2_000, 20_000)), []);
        assert_eq!(inspect(&frame(TcpState::SynRecv, 2_001, 20_000)).len(), 1);
        let first = StatFrame {
            interval_s: 0.0,
            ..frame(TcpState::SynRecv, 500, 0)
        };
        assert_eq!(inspect(&first), [], "of no time there is no rate");
    }

    #[test]
    fn a_pile_around_the_threshold_does_not_flap() {
        let mut detector = HalfOpen::default();
        let mut piles = |waiting, completed| {
            found(
                &mut detector,
                &Frame::from(&frame(TcpState::SynRecv, waiting, completed)),
            )
            .len()
        };
        assert_eq!(
            [99, 100, 80, 99, 79, 99].map(|waiting| piles(waiting, 0)),
            [0, 1, 1, 1, 0, 0]
        );
        // How long they wait is at its threshold too.
        assert_eq!(
            [2000, 1999, 2000, 2600].map(|completed| piles(200, completed)),
            [0, 1, 1, 0]
        );
    }
}
