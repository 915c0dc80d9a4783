//! Transitions or finished connections, counted by what their owners have in common.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hashbrown::HashMap;
use tcpwatch_common::TcpState;

use super::ending::Ending;
use super::owner_group::OwnerGroup;
use super::trace::{TraceRecord, TraceRow};
use crate::input::histogram::Histogram;
use crate::input::owner::OwnerBy;
use crate::input::{Connection, Transition};

/// Groups with counts of their own at most, about 1 KB each; 16 KB more if the lifetimes are in all buckets of the histogram. Further
/// groups are counted together.
const MOST: usize = 16_384;

/// What tells the records of one kind apart: the states of a transition, the ending of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A transition from one state to another.
    Move(TcpState, TcpState),
    /// The end of a connection.
    End(Ending),
}

/// What one group of owners had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupCounts {
    /// Transitions or connections.
    pub records: u64,
    /// Their number for each pair of states, or for each ending.
    pub by_what: BTreeMap<What, u64>,
    /// Lifetimes of connections; empty for transitions.
    pub lifetime: Histogram,
    /// Connections whose bytes and segments are known.
    pub with_traffic: u64,
    /// Payload bytes sent by these.
    pub sent: u64,
    /// Payload bytes received by these.
    pub received: u64,
    /// Segments that these sent again.
    pub retransmits: u64,
}

impl GroupCounts {
    /// The pairs of states, or the endings, the most frequent first.
    #[must_use]
    pub fn most_frequent(&self) -> Vec<(What, u64)> {
        let mut all: Vec<_> = self.by_what.iter().map(|(&what, &count)| (what, count)).collect();
        all.sort_by_key(|&(what, count)| (Reverse(count), what));
        all
    }
}

/// A record that is counted in groups.
pub trait Countable: TraceRecord {
    /// Adds the record of `row` to `counts`.
    fn add(row: &TraceRow<Self>, counts: &mut GroupCounts);
}

impl Countable for Transition {
    fn add(row: &TraceRow<Self>, counts: &mut GroupCounts) {
        let what = What::Move(row.record.from, row.record.to);
        *counts.by_what.entry(what).or_default() += 1;
    }
}

impl Countable for Connection {
    fn add(row: &TraceRow<Self>, counts: &mut GroupCounts) {
        let what = What::End(row.ending.unwrap_or(Ending::Unknown));
        *counts.by_what.entry(what).or_default() += 1;
        match row.record.lifetime_ns() {
            Some(ns) => counts.lifetime.record(ns),
            None => counts.lifetime.record_unknown(),
        }
        if let Some(traffic) = row.record.traffic {
            counts.with_traffic += 1;
            counts.sent = counts.sent.saturating_add(traffic.sent);
            counts.received = counts.received.saturating_add(traffic.received);
            counts.retransmits = counts.retransmits.saturating_add(traffic.retransmits.into());
        }
    }
}

/// The groups of a run: [`MOST`] at most.
#[derive(Debug)]
pub struct TraceGroups {
    by: OwnerBy,
    groups: HashMap<Option<OwnerGroup>, GroupCounts>,
    /// The records of groups without room; `None` if there are none.
    other: Option<GroupCounts>,
}

impl TraceGroups {
    /// No record yet.
    #[must_use]
    pub fn new(by: OwnerBy) -> Self {
        Self {
            by,
            groups: HashMap::new(),
            other: None,
        }
    }

    /// What stands for the owners.
    #[must_use]
    pub const fn by(&self) -> OwnerBy {
        self.by
    }

    /// Counts the record of `row`.
    pub fn add<T: Countable>(&mut self, row: &TraceRow<T>) {
        let owner = row.record.event().owner;
        let group = owner.and_then(|owner| OwnerGroup::of(&owner, self.by, || row.cgroup.clone()));
        let has_room = self.groups.len() < MOST || self.groups.contains_key(&group);
        let counts = if has_room {
            self.groups.entry(group).or_default()
        } else {
            self.other.get_or_insert_default()
        };
        counts.records += 1;
        T::add(row, counts);
    }

    /// The groups, the one with the most records first; `None` stands for unknown owners.
    #[must_use]
    pub fn largest_first(&self) -> Vec<(Option<&OwnerGroup>, &GroupCounts)> {
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .map(|(group, counts)| (group.as_ref(), counts))
            .collect();
        groups.sort_by(|a, b| b.1.records.cmp(&a.1.records).then_with(|| a.0.cmp(&b.0)));
        groups
    }

    /// The records of groups without room; `None` if there are none.
    #[must_use]
    pub const fn other(&self) -> Option<&GroupCounts> {
        self.other.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::Traffic;
    use crate::input::owner::tests::owner;

    /// A connection whose opening was not seen.
    fn connection() -> Connection {
        Connection {
            last: Transition::between(TcpState::CloseWait, TcpState::Close),
            spent_ns: [0; 8],
            traffic: Some(Traffic {
                sent: 10,
                received: 5000,
                srtt_us: None,
                retransmits: 1,
            }),
            closer: None,
        }
    }

    fn row(pid: Option<u32>, path: &str, ending: Ending) -> TraceRow<Connection> {
        let mut record = connection();
        record.last.owner = pid.map(|pid| owner(pid, "app"));
        TraceRow {
            record,
            ending: Some(ending),
            owner_unknown: None,
            cgroup: Some(std::sync::Arc::new(path.to_owned().into())),
        }
    }

    #[test]
    fn connections_add_up_by_owner_and_by_ending() {
        let mut groups = TraceGroups::new(OwnerBy::Cgroup);
        for (pid, path, ending) in [
            (Some(7), "/web", Ending::GracefulActive),
            (Some(8), "/web", Ending::ResetByPeer),
            (Some(8), "/web", Ending::ResetByPeer),
            (Some(9), "/db", Ending::GracefulPassive),
            (None, "", Ending::GracefulPassive),
        ] {
            groups.add(&row(pid, path, ending));
        }
        let all = groups.largest_first();
        let names: Vec<_> = all
            .iter()
            .map(|(group, counts)| (group.map(ToString::to_string), counts.records))
            .collect();
        assert_eq!(
            names,
            [(Some("/web".to_owned()), 3), (None, 1), (Some("/db".to_owned()), 1)]
        );
        let web = all[0].1;
        let ends = [
            (What::End(Ending::ResetByPeer), 2),
            (What::End(Ending::GracefulActive), 1),
        ];
        assert_eq!(web.most_frequent(), ends);
        let one = connection().traffic.unwrap();
        assert_eq!(
            (web.with_traffic, web.sent, web.received),
            (3, 3 * one.sent, 3 * one.received)
        );
        assert_eq!(web.lifetime.total(), 3);
    }

    #[test]
    fn groups_are_bounded_and_no_record_is_lost() {
        let mut groups = TraceGroups::new(OwnerBy::Process);
        let most = u32::try_from(MOST).unwrap();
        for pid in (1..=most + 5).chain([1]) {
            let owner = NonZeroU32::new(pid).map(|pid| owner(pid.get(), "app"));
            groups.add(&TraceRow {
                record: Transition {
                    owner,
                    ..Transition::between(TcpState::Established, TcpState::CloseWait)
                },
                ending: None,
                owner_unknown: None,
                cgroup: None,
            });
        }
        let all = groups.largest_first();
        assert_eq!((all.len(), all[0].1.records), (MOST, 2));
        assert_eq!(groups.other().map(|other| other.records), Some(5));
    }
}
