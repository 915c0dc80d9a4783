//! Orphans are at their limit where the kernel gave some up, or where there are a quarter of `tcp_max_orphans` and it may do so.
//!
//! An orphan is a closed socket that still waits for its peer.

use super::finding::{Finding, Severity};
use super::hysteresis::Hysteresis;
use super::{Detector, Frame, happened, percent, share, within};
use crate::explain::kind::FindingKind;
use crate::input::counter::Counter;
use crate::model::format::thousands;

/// From a half of the limit on the kernel may give up an orphan without an answer of its peer: it counts as two
/// (`tcp_out_of_resources`, `net/ipv4/tcp_timer.c`).
const SILENT: u32 = 2;
/// From a quarter on it may give up an orphan that got an ICMP error too: it counts as four.
pub(crate) const UNREACHABLE: u32 = 4;
/// Share of the limit from which the kernel may give up orphans before their time.
const FROM: f64 = 1.0 / UNREACHABLE as f64;

/// The numbers of orphans from which the kernel may give up some, if `limit` is the limit.
pub(crate) fn begins(limit: u64) -> String {
    format!(
        "from {} on those whose peer does not answer may be reset, and from {} on where an ICMP error came too",
        thousands(limit / u64::from(SILENT)),
        thousands(limit / u64::from(UNREACHABLE))
    )
}

/// Inspects the number of orphans and `TcpExt:TCPAbortOnMemory`.
#[derive(Debug, Default)]
pub struct OrphanLimit {
    near: Hysteresis<()>,
}

impl Detector for OrphanLimit {
    fn inspect(&mut self, frame: &Frame, findings: &mut Vec<Finding>) {
        let Some(stat) = frame.counts() else { return };
        self.near.turn();
        let orphans = stat.orphans;
        let used = orphans.now.zip(orphans.limit).map(|(now, limit)| share(now, limit));
        let is_near = used.is_some_and(|used| self.near.holds((), |slack| slack.reaches(used, FROM)));
        let given_up = happened(stat, Counter::TcpAbortOnMemory);
        let pressures = stat.counters.get(Counter::TcpMemoryPressures);
        if !is_near && given_up.is_none() {
            return;
        }
        let there = match (orphans.now, orphans.limit) {
            (Some(now), Some(limit)) => format!(
                "{} orphans of at most {}, {}",
                thousands(now),
                thousands(limit),
                percent(share(now, limit))
            ),
            (Some(now), None) => format!("{} orphans now", thousands(now)),
            (None, _) => "an unknown number of orphans now".into(),
        };
        let (severity, title) = match given_up {
            Some(count) => {
                // The counter does not show which of the two it was; near the limit it was the number.
                let why = if is_near {
                    "for they were too many"
                } else {
                    "too many, or no memory"
                };
                let title = format!(
                    "the kernel gave up {} orphans {}, {why}: {there}",
                    thousands(count),
                    within(stat)
                );
                (Severity::Critical, title)
            }
            // Nothing is wrong yet.
            None => (
                Severity::Info,
                format!(
                    "{there}; none was given up yet, {}",
                    orphans.limit.map(begins).unwrap_or_default()
                ),
            ),
        };
        let mut advice = vec![
            "see whose peers do not answer: tcpwatch snapshot --state fin_wait1,last_ack,closing --by remote".into(),
            "where peers vanish, fewer tries for orphans: net.ipv4.tcp_orphan_retries (0 stands for 8)".into(),
        ];
        if is_near {
            advice.push("raise net.ipv4.tcp_max_orphans only with memory to spare: an orphan may hold 64 KB that is never swapped".into());
        }
        if pressures.is_some_and(|pressures| pressures > 0) {
            advice.push("TCP came under memory pressure: net.ipv4.tcp_mem is the limit, in pages, and sockets with full buffers \
                 fill it".into());
        }
        findings.push(Finding {
            evidence: vec![
                ("orphans", orphans.now.into()),
                ("limit", orphans.limit.into()),
                ("given_up", stat.counters.get(Counter::TcpAbortOnMemory).into()),
                ("memory_pressures", pressures.into()),
                ("mem_pages", orphans.mem_pages.into()),
            ],
            advice,
            ..Finding::new(FindingKind::OrphanLimit, severity, title)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::tests::{counted, found, one, quiet};
    use crate::input::Orphans;
    use crate::model::stat::StatFrame;

    fn frame(now: u64, limit: Option<u64>, given_up: u64, pressures: u64) -> StatFrame {
        StatFrame {
            orphans: Orphans {
                now: Some(now),
                limit,
                mem_pages: Some(9),
            },
            ..counted(&[
                (Counter::TcpAbortOnMemory, given_up),
                (Counter::TcpMemoryPressures, pressures),
            ])
        }
    }

    fn inspect(stat: &StatFrame) -> Vec<Finding> {
        found(&mut OrphanLimit::default(), &Frame::from(stat))
    }

    #[test]
    fn a_quarter_of_the_limit_is_where_the_kernel_begins() {
        assert_eq!(inspect(&frame(2047, Some(8192), 0, 0)), []);
        let finding = one(inspect(&frame(2048, Some(8192), 0, 0)));
        assert_eq!(
            finding.title,
            "2,048 orphans of at most 8,192, 25 %; none was given up yet, from 4,096 on those whose peer does not answer may be \
             reset, and from 2,048 on where an ICMP error came too"
        );
        assert_eq!((finding.severity, finding.advice.len()), (Severity::Info, 3));
    }

    #[test]
    fn those_given_up_are_told_with_why_as_far_as_that_is_known() {
        let finding = one(inspect(&frame(8000, Some(8192), 12, 0)));
        assert_eq!(
            finding.title,
            "the kernel gave up 12 orphans in 10.0 s, for they were too many: 8,000 orphans of at most 8,192, 98 %"
        );
        assert_eq!(finding.severity, Severity::Critical);
        let finding = one(inspect(&frame(10, None, 12, 3)));
        assert_eq!(
            finding.title,
            "the kernel gave up 12 orphans in 10.0 s, too many, or no memory: 10 orphans now"
        );
        assert!(finding.advice[2].contains("net.ipv4.tcp_mem"), "{:?}", finding.advice);
    }

    #[test]
    fn nothing_is_known_without_a_limit_and_nothing_flaps() {
        assert_eq!(inspect(&frame(1_000_000, None, 0, 5)), []);
        assert_eq!(inspect(&frame(1, Some(0), 0, 0)), []);
        assert_eq!(inspect(&quiet()), []);
        let mut detector = OrphanLimit::default();
        let told =
            [24, 25, 20, 24, 19, 24].map(|now| found(&mut detector, &Frame::from(&frame(now, Some(100), 0, 0))).len());
        assert_eq!(told, [0, 1, 1, 1, 0, 0]);
    }
}
