//! How long connections stay in a state, how long a handshake takes, how long a connection waits to be accepted.

use std::cmp::Reverse;
use std::fmt;
use std::mem;
use std::num::NonZeroU32;

use hashbrown::HashMap;
use jiff::Timestamp;

use super::cgroups::CgroupPaths;
use super::owner_group::OwnerGroup;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, LatencyGroup, LatencySample, Measure, Measured, Retransmits};
use crate::input::owner::Owner;

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
    pub measured: Vec<MeasuredGroup>,
    /// Groups that were evicted, and are counted in [`LatencyGroup::Other`].
    pub evicted: u64,
    /// Segments sent again; `None` under a filter on owners, for the kernel counts those of all.
    pub retransmits: Option<Retransmits>,
    /// Times that are in no histogram, for want of room or of a known owner.
    pub unmeasured: u64,
    /// Runs of the BPF programs that the kernel skipped; `None` if it does not count them.
    pub missed: Option<u64>,
}

/// A group of connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Connections of these processes.
    Owner(OwnerGroup),
    /// Connections that the kernel side counted together; [`LatencyGroup::Unknown`] also for those of unknown owners.
    Kernel(LatencyGroup),
}

impl Group {
    /// Whether these are the connections of groups without room in a table.
    #[must_use]
    pub fn is_other(&self) -> bool {
        *self == Self::Kernel(LatencyGroup::Other)
    }

    /// Inode number of the network namespace that the port or address belongs to; `None` if unknown, and for all other groups.
    #[must_use]
    pub const fn netns(&self) -> Option<NonZeroU32> {
        match self {
            Self::Owner(_) => None,
            Self::Kernel(group) => group.netns(),
        }
    }
}

impl fmt::Display for Group {
    /// For text output, escaped, without the network namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner(owner) => owner.fmt(f),
            Self::Kernel(group) => group.fmt(f),
        }
    }
}

/// The histogram of one measure in one group of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredGroup {
    /// The measure.
    pub measure: Measure,
    /// The group.
    pub group: Group,
    /// The times.
    pub histogram: Histogram,
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
    groups: HashMap<Group, Histograms>,
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

    /// Adds a sample of `monotonic_ns`. `cgroups` has the cgroups of the owners, if these decide their groups.
    pub(crate) fn add(&mut self, mut sample: LatencySample, monotonic_ns: u64, cgroups: &CgroupPaths) {
        for Measured {
            measure,
            group,
            owner,
            histogram,
        } in sample.measured.drain(..)
        {
            if histogram.total() == 0 {
                continue;
            }
            let group = self.group(group, owner, cgroups);
            if group.is_other() {
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

    /// The group that is shown for connections that were counted in `group`, of `owner`.
    fn group(&self, group: LatencyGroup, owner: Option<Owner>, cgroups: &CgroupPaths) -> Group {
        let LatencyBy::Owner(by) = self.by else {
            return Group::Kernel(group);
        };
        if group == LatencyGroup::Other {
            return Group::Kernel(group);
        }
        let owner = owner.and_then(|owner| OwnerGroup::new(&owner, by, cgroups));
        owner.map_or(Group::Kernel(LatencyGroup::Unknown), Group::Owner)
    }

    /// Moves groups to [`Self::other`], until there is room again.
    fn evict(&mut self) {
        let mut order: Vec<(u64, u64, Group)> = self
            .groups
            .iter()
            .map(|(group, histograms)| (histograms.seen_ns, histograms.total(), group.clone()))
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
        let mut groups: Vec<(Group, Histograms)> = self.groups.drain().collect();
        groups.sort_by_cached_key(|(group, histograms)| (Reverse(histograms.total()), group.clone()));
        groups.push((Group::Kernel(LatencyGroup::Other), mem::take(&mut self.other)));
        let measured = groups.into_iter().flat_map(|(group, histograms)| {
            let parts = histograms.parts.into_iter();
            parts.map(move |(measure, histogram)| MeasuredGroup {
                measure,
                group: group.clone(),
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
            retransmits: Some(Retransmits {
                syn: now.retransmits.syn.saturating_sub(before.retransmits.syn),
                syn_ack: now.retransmits.syn_ack.saturating_sub(before.retransmits.syn_ack),
                data: now.retransmits.data.saturating_sub(before.retransmits.data),
            }),
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
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::container::Cgroup;
    use crate::input::owner::OwnerBy;
    use crate::input::owner::tests::owner;
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
            owner: None,
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

    /// How a group is shown, by local port or remote address.
    fn shown(group: LatencyGroup) -> Group {
        Latency::new(LatencyBy::Lport, 0).group(group, None, &CgroupPaths::default())
    }

    fn add(latency: &mut Latency, sample: LatencySample, monotonic_ns: u64) {
        latency.add(sample, monotonic_ns, &CgroupPaths::default());
    }

    fn counts(frame: &LatencyFrame) -> Vec<(Measure, Group, u64)> {
        let measured = frame.measured.iter();
        measured
            .map(|measured| (measured.measure, measured.group.clone(), measured.histogram.count()))
            .collect()
    }

    #[test]
    fn an_interval_has_what_came_in_it_the_busiest_first_and_the_others_last() {
        let (small, large) = (lport(80), lport(443));
        let mut latency = Latency::new(LatencyBy::Lport, 0);
        add(&mut latency, sample(vec![part(ESTABLISHED, small, &[1; 5])]), 5);
        assert_eq!(
            counts(&latency.frame(Timestamp::UNIX_EPOCH, 1_000_000_000)),
            [(ESTABLISHED, shown(small), 5)]
        );
        add(
            &mut latency,
            sample(vec![part(ESTABLISHED, LatencyGroup::Other, &[1; 9])]),
            7,
        );
        add(
            &mut latency,
            sample(vec![
                part(ESTABLISHED, large, &[1; 4]),
                part(Measure::HandshakeServer, small, &[]),
            ]),
            7,
        );
        add(
            &mut latency,
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
                (Measure::Accept, shown(large), 1),
                (ESTABLISHED, shown(large), 4),
                (ESTABLISHED, shown(small), 2),
                (ESTABLISHED, Group::Kernel(LatencyGroup::Other), 9),
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
            add(&mut latency, sample(clients.chain([server]).collect()), second);
            assert!(latency.buckets <= BUCKETS);
        }
        let frame = latency.frame(Timestamp::UNIX_EPOCH, 9);
        let counts = counts(&frame);
        assert_eq!(counts[0], (ESTABLISHED, shown(server), 6), "it was never idle");
        let other = counts.last().unwrap();
        assert_eq!(*other, (ESTABLISHED, Group::Kernel(LatencyGroup::Other), frame.evicted));
        assert!(frame.evicted > 0);
        assert_eq!(counts.len() as u64 - 2 + frame.evicted, ports);
        let newest = shown(peer(6 * 30_000 - 1));
        assert!(counts.iter().any(|(_, group, _)| *group == newest));
        let oldest = shown(peer(0));
        assert!(!counts.iter().any(|(_, group, _)| *group == oldest));
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
            owner: None,
            histogram,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn rows_and_others_are_all_that_was_measured(groups in vec((0..400u16, 0..3u64), 1..400)) {
            let mut latency = Latency::new(LatencyBy::Lport, 0);
            let mut all: BTreeMap<Group, Histogram> = BTreeMap::new();
            let mut sum = Histogram::default();
            for (port, from) in groups {
                let measured = wide(lport(port), usize::try_from(from).unwrap());
                sum.merge(&measured.histogram);
                all.entry(shown(measured.group)).or_default().merge(&measured.histogram);
                add(&mut latency, sample(vec![measured]), from);
                prop_assert!(latency.buckets <= BUCKETS);
            }
            let frame = latency.frame(Timestamp::UNIX_EPOCH, 9);
            let mut counted = Histogram::default();
            for measured in &frame.measured {
                counted.merge(&measured.histogram);
                if frame.evicted == 0 {
                    prop_assert_eq!(Some(&measured.histogram), all.get(&measured.group));
                }
            }
            prop_assert_eq!(counted, sum);
            let has_other = frame.measured.iter().any(|measured| measured.group.is_other());
            prop_assert_eq!(has_other, frame.evicted > 0);
        }
    }

    #[test]
    fn counts_that_go_back_are_survived() {
        let mut latency = Latency::new(LatencyBy::All, 9);
        add(&mut latency, sample(vec![]), 10);
        latency.frame(Timestamp::UNIX_EPOCH, 10);
        add(&mut latency, LatencySample::default(), 3);
        let frame = latency.frame(Timestamp::UNIX_EPOCH, 3);
        assert_eq!((frame.measured.len(), frame.interval_s, frame.missed), (0, 0.0, None));
    }

    #[test]
    fn owners_are_what_they_have_in_common() {
        let mut cgroups = CgroupPaths::default();
        for (pid, path) in [(7, "/web"), (8, "/web"), (9, "/db")] {
            cgroups.insert(&owner(pid, "app"), Some(Arc::new(Cgroup::from(path.to_owned()))));
        }
        let measured = [Some(7), Some(8), Some(9), Some(10), None].map(|pid| Measured {
            owner: pid.map(|pid| owner(pid, "app")),
            ..part(ESTABLISHED, LatencyGroup::All, &[1])
        });
        let shown = |by| {
            let mut latency = Latency::new(LatencyBy::Owner(by), 0);
            latency.add(sample(measured.to_vec()), 1, &cgroups);
            let frame = latency.frame(Timestamp::UNIX_EPOCH, 2);
            let counts = counts(&frame).into_iter();
            counts
                .map(|(_, group, count)| format!("{group} {count}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(OwnerBy::Cgroup), ["/web 2", "? 2", "/db 1"]);
        assert_eq!(shown(OwnerBy::Comm), ["app[*] 4", "? 1"]);
        assert_eq!(shown(OwnerBy::Process).len(), 5);
    }
}
