//! How long connections stay in a state, how long a handshake takes, how long a connection waits to be accepted.

use std::cmp::Reverse;
use std::mem;

use hashbrown::HashMap;
use jiff::Timestamp;

use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup, LatencySample, Measure, Measured, Retransmits};

/// What was measured in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyFrame {
    /// Its end.
    pub time: Timestamp,
    /// Its length, s.
    pub interval_s: f64,
    /// How the groups are formed.
    pub by: LatencyBy,
    /// The histograms that are not empty: the busiest group first and [`LatencyGroup::Other`] last, each in the order of [`Measure`].
    /// Together they count every measured time.
    pub measured: Vec<Measured>,
    /// Groups that were evicted, and are counted in [`LatencyGroup::Other`].
    pub evicted: u64,
    /// Segments sent again.
    pub retransmits: Retransmits,
    /// Waits for `accept()` that were not measured.
    pub unmeasured: u64,
    /// Runs of the BPF programs that the kernel skipped; `None` if it does not count them.
    pub missed: Option<u64>,
}

impl LatencyFrame {
    /// Whether the groups are of several network namespaces.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        super::are_several(self.measured.iter().filter_map(|measured| measured.group.netns()))
    }
}

/// Limit of the buckets of an interval, without those of [`LatencyGroup::Other`].
const BUCKETS: usize = 131_072;
/// How many buckets an eviction leaves.
const BUCKETS_LEFT: usize = BUCKETS / 4 * 3;

/// Adds up the samples of an interval.
#[derive(Debug)]
pub struct Latency {
    by: LatencyBy,
    /// The measurements since the last frame.
    ///
    /// Limit: [`BUCKETS`]. Evicted first: groups that were idle longest; of equally idle ones, the smallest. Their counts go to
    /// [`Self::other`]. All groups go at the end of the interval.
    groups: HashMap<LatencyGroup, Histograms>,
    /// Counts without a group, or of evicted groups.
    other: Histograms,
    /// Number of buckets in `groups`.
    buckets: usize,
    evicted: u64,
    /// The last sample, without its histograms, and the last of the interval before.
    now: LatencySample,
    before: LatencySample,
    before_ns: u64,
}

/// The histograms of one group.
#[derive(Debug, Default)]
struct Histograms {
    /// In the order of [`Measure`].
    parts: Vec<(Measure, Histogram)>,
    /// When the group was last in a sample.
    seen_ns: u64,
}

impl Histograms {
    /// Adds `histogram` of `measure`. Returns the number of new buckets.
    fn merge(&mut self, measure: Measure, histogram: Histogram) -> usize {
        match self.parts.binary_search_by_key(&measure, |&(measure, _)| measure) {
            Ok(at) => {
                let part = &mut self.parts[at].1;
                let before = part.size();
                part.merge(&histogram);
                part.size() - before
            }
            Err(at) => {
                let size = histogram.size();
                self.parts.insert(at, (measure, histogram));
                size
            }
        }
    }

    /// Number of known and unknown times.
    fn total(&self) -> u64 {
        let totals = self.parts.iter().map(|(_, histogram)| histogram.total());
        totals.fold(0, u64::saturating_add)
    }

    fn size(&self) -> usize {
        self.parts.iter().map(|(_, histogram)| histogram.size()).sum()
    }
}

impl Latency {
    /// Nothing measured yet, from `monotonic_ns` on.
    #[must_use]
    pub fn new(by: LatencyBy, monotonic_ns: u64) -> Self {
        Self {
            by,
            groups: HashMap::new(),
            other: Histograms::default(),
            buckets: 0,
            evicted: 0,
            now: LatencySample::default(),
            before: LatencySample::default(),
            before_ns: monotonic_ns,
        }
    }

    /// Adds a sample of `monotonic_ns`.
    pub fn add(&mut self, mut sample: LatencySample, monotonic_ns: u64) {
        for Measured {
            measure,
            group,
            histogram,
        } in sample.measured.drain(..)
        {
            if histogram.total() == 0 {
                continue;
            }
            if group == LatencyGroup::Other {
                self.other.merge(measure, histogram);
                continue;
            }
            let histograms = self.groups.entry(group).or_default();
            histograms.seen_ns = monotonic_ns;
            self.buckets += histograms.merge(measure, histogram);
        }
        self.now = sample;
        if self.buckets > BUCKETS {
            self.evict();
        }
    }

    /// Moves groups to [`Self::other`], until there is room again.
    fn evict(&mut self) {
        let mut order: Vec<(u64, u64, LatencyGroup)> = self
            .groups
            .iter()
            .map(|(&group, histograms)| (histograms.seen_ns, histograms.total(), group))
            .collect();
        order.sort_unstable();
        for (.., group) in order {
            if self.buckets <= BUCKETS_LEFT {
                break;
            }
            let Some(histograms) = self.groups.remove(&group) else {
                continue;
            };
            self.buckets -= histograms.size();
            self.evicted += 1;
            for (measure, histogram) in histograms.parts {
                self.other.merge(measure, histogram);
            }
        }
    }

    /// The measurements from the previous frame to `time`.
    pub fn frame(&mut self, time: Timestamp, monotonic_ns: u64) -> LatencyFrame {
        let mut groups: Vec<(LatencyGroup, Histograms)> = self.groups.drain().collect();
        groups.sort_by_cached_key(|(group, histograms)| (Reverse(histograms.total()), *group));
        groups.push((LatencyGroup::Other, mem::take(&mut self.other)));
        let measured = groups.into_iter().flat_map(|(group, histograms)| {
            let parts = histograms.parts.into_iter();
            parts.map(move |(measure, histogram)| Measured {
                measure,
                group,
                histogram,
            })
        });
        let Self { now, before, .. } = self;
        let frame = LatencyFrame {
            time,
            interval_s: super::seconds(monotonic_ns.saturating_sub(self.before_ns)),
            by: self.by,
            measured: measured.collect(),
            evicted: mem::take(&mut self.evicted),
            retransmits: Retransmits {
                syn: now.retransmits.syn.saturating_sub(before.retransmits.syn),
                syn_ack: now.retransmits.syn_ack.saturating_sub(before.retransmits.syn_ack),
                data: now.retransmits.data.saturating_sub(before.retransmits.data),
            },
            unmeasured: now.unmeasured.saturating_sub(before.unmeasured),
            missed: now
                .missed
                .map(|missed| missed.saturating_sub(before.missed.unwrap_or(0))),
        };
        self.buckets = 0;
        self.before = now.clone();
        self.before_ns = monotonic_ns;
        frame
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::Ipv6Addr;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::socket::Address;

    const ESTABLISHED: Measure = Measure::State(TcpState::Established);

    fn lport(port: u16) -> LatencyGroup {
        LatencyGroup::Lport { port, netns: None }
    }

    fn part(measure: Measure, group: LatencyGroup, lengths: &[u64]) -> Measured {
        let mut histogram = Histogram::default();
        for &ns in lengths {
            histogram.record(ns);
        }
        Measured {
            measure,
            group,
            histogram,
        }
    }

    fn sample(measured: Vec<Measured>) -> LatencySample {
        LatencySample {
            measured,
            missed: Some(3),
            ..LatencySample::default()
        }
    }

    fn counts(frame: &LatencyFrame) -> Vec<(Measure, LatencyGroup, u64)> {
        let measured = frame.measured.iter();
        measured
            .map(|measured| (measured.measure, measured.group, measured.histogram.count()))
            .collect()
    }

    #[test]
    fn an_interval_has_what_came_in_it_the_busiest_first_and_the_others_last() {
        let (small, large) = (lport(80), lport(443));
        let mut latency = Latency::new(LatencyBy::Lport, 0);
        latency.add(sample(vec![part(ESTABLISHED, small, &[1; 5])]), 5);
        assert_eq!(
            counts(&latency.frame(Timestamp::UNIX_EPOCH, 1_000_000_000)),
            [(ESTABLISHED, small, 5)]
        );
        latency.add(sample(vec![part(ESTABLISHED, LatencyGroup::Other, &[1; 9])]), 7);
        latency.add(
            sample(vec![
                part(ESTABLISHED, large, &[1; 4]),
                part(Measure::HandshakeServer, small, &[]),
            ]),
            7,
        );
        latency.add(
            sample(vec![
                part(Measure::Accept, large, &[1]),
                part(ESTABLISHED, small, &[1; 2]),
            ]),
            8,
        );
        let frame = latency.frame(Timestamp::UNIX_EPOCH, 3_000_000_000);
        assert_eq!(
            counts(&frame),
            [
                (Measure::Accept, large, 1),
                (ESTABLISHED, large, 4),
                (ESTABLISHED, small, 2),
                (ESTABLISHED, LatencyGroup::Other, 9),
            ]
        );
        assert_eq!((frame.interval_s, frame.missed, frame.evicted), (2.0, Some(0), 0));
    }

    fn peer(number: u64) -> LatencyGroup {
        LatencyGroup::Remote {
            address: Address::new(Ipv6Addr::from(u128::from(number)).into(), 0),
            netns: None,
        }
    }

    #[test]
    fn idle_groups_make_room_and_live_ones_stay() {
        let mut latency = Latency::new(LatencyBy::Lport, 0);
        let server = lport(80);
        let mut ports = 0u64;
        for second in 0..6u64 {
            // One bucket each; the server's is always the same.
            let clients = (0..30_000u64).map(|client| part(ESTABLISHED, peer(second * 30_000 + client), &[7]));
            ports += 30_000;
            let server = part(ESTABLISHED, server, &[1000]);
            latency.add(sample(clients.chain([server]).collect()), second);
            assert!(latency.buckets <= BUCKETS);
        }
        let frame = latency.frame(Timestamp::UNIX_EPOCH, 9);
        let counts = counts(&frame);
        assert_eq!(counts[0], (ESTABLISHED, server, 6), "it was never idle");
        let other = counts.last().unwrap();
        assert_eq!(*other, (ESTABLISHED, LatencyGroup::Other, frame.evicted));
        assert!(frame.evicted > 0);
        assert_eq!(counts.len() as u64 - 2 + frame.evicted, ports);
        let newest = peer(6 * 30_000 - 1);
        assert!(counts.iter().any(|&(_, group, _)| group == newest));
        let oldest = peer(0);
        assert!(!counts.iter().any(|&(_, group, _)| group == oldest));
    }

    fn wide(group: LatencyGroup, from: usize) -> Measured {
        let mut histogram = Histogram::default();
        for bucket in 0..900 {
            histogram.add(bucket, 1 + (bucket + from) as u64 % 3);
        }
        histogram.add_unknown(2);
        Measured {
            measure: ESTABLISHED,
            group,
            histogram,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn rows_and_others_are_all_that_was_measured(groups in vec((0..400u16, 0..3u64), 1..400)) {
            let mut latency = Latency::new(LatencyBy::Lport, 0);
            let mut all: BTreeMap<LatencyGroup, Histogram> = BTreeMap::new();
            let mut sum = Histogram::default();
            for (port, from) in groups {
                let measured = wide(lport(port), usize::try_from(from).unwrap());
                sum.merge(&measured.histogram);
                all.entry(measured.group).or_default().merge(&measured.histogram);
                latency.add(sample(vec![measured]), from);
                prop_assert!(latency.buckets <= BUCKETS);
            }
            let frame = latency.frame(Timestamp::UNIX_EPOCH, 9);
            let mut shown = Histogram::default();
            for measured in &frame.measured {
                shown.merge(&measured.histogram);
                if frame.evicted == 0 {
                    prop_assert_eq!(Some(&measured.histogram), all.get(&measured.group));
                }
            }
            prop_assert_eq!(shown, sum);
            let has_other = frame.measured.iter().any(|measured| measured.group == LatencyGroup::Other);
            prop_assert_eq!(has_other, frame.evicted > 0);
        }
    }

    #[test]
    fn counts_that_go_back_are_survived() {
        let mut latency = Latency::new(LatencyBy::All, 9);
        latency.add(sample(vec![]), 10);
        latency.frame(Timestamp::UNIX_EPOCH, 10);
        latency.add(LatencySample::default(), 3);
        let frame = latency.frame(Timestamp::UNIX_EPOCH, 3);
        assert_eq!((frame.measured.len(), frame.interval_s, frame.missed), (0, 0.0, None));
    }
}
