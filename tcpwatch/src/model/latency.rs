//! How long connections stay in a state, how long a handshake takes, how long a connection waits to be accepted.

use hashbrown::HashMap;
use jiff::Timestamp;

use crate::input::latency::{Group, LatencyBy, LatencySample, Measured, Retransmits};

/// What was measured in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyFrame {
    /// Its end.
    pub time: Timestamp,
    /// Its length, s.
    pub interval_s: f64,
    /// What the groups are by.
    pub by: LatencyBy,
    /// The histograms that have something in them: the busiest group first, and in it in the order of [`What`].
    pub measured: Vec<Measured>,
    /// Segments sent again.
    pub retransmits: Retransmits,
    /// Lengths there was no room to count.
    pub unmeasured: u64,
    /// Runs of the kernel side that the kernel skipped; `None` where it does not say.
    pub missed: Option<u64>,
}

/// Makes intervals of samples.
#[derive(Debug)]
pub struct Latency {
    by: LatencyBy,
    before: LatencySample,
    before_ns: u64,
}

impl Latency {
    /// Nothing measured yet, from `monotonic_ns` on.
    #[must_use]
    pub fn new(by: LatencyBy, monotonic_ns: u64) -> Self {
        Self {
            by,
            before: LatencySample::default(),
            before_ns: monotonic_ns,
        }
    }

    /// What came since the sample before, `now` being all until `time`.
    pub fn frame(&mut self, now: LatencySample, time: Timestamp, monotonic_ns: u64) -> LatencyFrame {
        let before: HashMap<_, _> = self
            .before
            .measured
            .iter()
            .map(|measured| ((measured.what, measured.group), measured.histogram))
            .collect();
        let since = now.measured.iter().map(|measured| Measured {
            histogram: before
                .get(&(measured.what, measured.group))
                .map_or(measured.histogram, |then| measured.histogram.since(then)),
            ..*measured
        });
        let mut measured: Vec<Measured> = since
            .filter(|measured| measured.histogram.count() > 0 || measured.histogram.unknown() > 0)
            .collect();
        let mut sizes: HashMap<Group, u64> = HashMap::new();
        for part in &measured {
            *sizes.entry(part.group).or_default() += part.histogram.count() + part.histogram.unknown();
        }
        let size = |group: &Group| sizes.get(group).copied().unwrap_or(0);
        measured.sort_by(|a, b| {
            let by_size = size(&b.group).cmp(&size(&a.group));
            by_size.then_with(|| (a.group, a.what).cmp(&(b.group, b.what)))
        });
        let frame = LatencyFrame {
            time,
            interval_s: super::seconds(monotonic_ns.saturating_sub(self.before_ns)),
            by: self.by,
            measured,
            retransmits: Retransmits {
                syn: now.retransmits.syn.saturating_sub(self.before.retransmits.syn),
                syn_ack: now.retransmits.syn_ack.saturating_sub(self.before.retransmits.syn_ack),
                data: now.retransmits.data.saturating_sub(self.before.retransmits.data),
            },
            unmeasured: now.unmeasured.saturating_sub(self.before.unmeasured),
            missed: now
                .missed
                .map(|missed| missed.saturating_sub(self.before.missed.unwrap_or(0))),
        };
        self.before = now;
        self.before_ns = monotonic_ns;
        frame
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::histogram::Histogram;
    use crate::input::latency::What;

    fn sample(counts: &[(What, Group, u64)]) -> LatencySample {
        let measured = counts.iter().map(|&(what, group, count)| {
            let mut histogram = Histogram::default();
            for _ in 0..count {
                histogram.record(1000);
            }
            Measured { what, group, histogram }
        });
        LatencySample {
            measured: measured.collect(),
            missed: Some(3),
            ..LatencySample::default()
        }
    }

    #[test]
    fn an_interval_has_what_came_in_it_the_busiest_first() {
        let established = What::State(TcpState::Established);
        let (small, large) = (Group::Lport(80), Group::Lport(443));
        let mut latency = Latency::new(LatencyBy::Lport, 0);
        latency.frame(sample(&[(established, small, 5)]), Timestamp::UNIX_EPOCH, 1_000_000_000);
        let now = sample(&[
            (established, small, 7),
            (established, large, 4),
            (What::Accept, large, 1),
            (What::HandshakeServer, small, 0),
        ]);
        let frame = latency.frame(now, Timestamp::UNIX_EPOCH, 3_000_000_000);
        let found: Vec<_> = frame
            .measured
            .iter()
            .map(|measured| (measured.what, measured.group, measured.histogram.count()))
            .collect();
        assert_eq!(
            found,
            [
                (What::Accept, large, 1),
                (established, large, 4),
                (established, small, 2)
            ]
        );
        assert_eq!((frame.interval_s, frame.missed), (2.0, Some(0)));
    }

    #[test]
    fn counts_that_go_back_are_survived() {
        let established = What::State(TcpState::Established);
        let mut latency = Latency::new(LatencyBy::All, 9);
        latency.frame(sample(&[(established, Group::All, 5)]), Timestamp::UNIX_EPOCH, 10);
        let frame = latency.frame(sample(&[(established, Group::All, 1)]), Timestamp::UNIX_EPOCH, 3);
        assert_eq!((frame.measured.len(), frame.interval_s), (0, 0.0));
    }
}
