//! `trace --by` and `life --by` as JSON: `tcpwatch.trace_groups/1` and `tcpwatch.life_groups/1`, one object per group.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use super::lifetime::Lifetime;
use super::line;
use super::owner_group::GroupObject;
use crate::input::{Connection, Transition};
use crate::model::owner_group::OwnerGroup;
use crate::model::trace_groups::{Countable, GroupCounts, TraceGroups, What};
use crate::view::trace_groups::GroupsFormat;

/// The JSON fields of a group that only one kind of record has.
pub trait GroupFields: Countable {
    /// Schema of a group.
    const SCHEMA: &'static str;
    /// The fields.
    type Fields<'a>: Serialize;

    /// The fields of `counts`.
    fn fields(counts: &GroupCounts) -> Self::Fields<'_>;
}

/// One object per group.
#[derive(Debug)]
pub struct Json;

#[derive(Serialize)]
struct Object<'a, T: Serialize> {
    schema: &'static str,
    by: &'static str,
    /// Null where the owner is unknown, and for the groups without room.
    owner: Option<GroupObject<'a>>,
    /// Whether these are the records of groups without room.
    other: bool,
    #[serde(flatten)]
    fields: T,
}

/// The fields of transitions.
#[derive(Serialize)]
pub struct TransitionGroup<'a> {
    transitions: u64,
    moves: ByWhat<'a>,
}

/// The fields of connections.
#[derive(Serialize)]
pub struct ConnectionGroup<'a> {
    connections: u64,
    endings: ByWhat<'a>,
    lifetime_ns: Lifetime,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    retransmits: Option<u64>,
    traffic_unknown: u64,
}

/// Counts by what the records are, the most frequent first: `{"established>close_wait":3}`, `{"reset_by_peer":3}`.
struct ByWhat<'a>(&'a GroupCounts);

impl Serialize for ByWhat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = |what| match what {
            What::Move(from, to) => format!("{}>{}", from.key(), to.key()),
            What::End(ending) => ending.key().to_owned(),
        };
        let all = self.0.most_frequent().into_iter();
        serializer.collect_map(all.map(|(what, count)| (name(what), count)))
    }
}

impl GroupFields for Transition {
    const SCHEMA: &'static str = "tcpwatch.trace_groups/1";
    type Fields<'a> = TransitionGroup<'a>;

    fn fields(counts: &GroupCounts) -> TransitionGroup<'_> {
        TransitionGroup {
            transitions: counts.records,
            moves: ByWhat(counts),
        }
    }
}

impl GroupFields for Connection {
    const SCHEMA: &'static str = "tcpwatch.life_groups/1";
    type Fields<'a> = ConnectionGroup<'a>;

    fn fields(counts: &GroupCounts) -> ConnectionGroup<'_> {
        let known = |sum: u64| (counts.with_traffic > 0).then_some(sum);
        ConnectionGroup {
            connections: counts.records,
            endings: ByWhat(counts),
            lifetime_ns: (&counts.lifetime).into(),
            bytes_sent: known(counts.sent),
            bytes_received: known(counts.received),
            retransmits: known(counts.retransmits),
            traffic_unknown: counts.records - counts.with_traffic,
        }
    }
}

impl<T: GroupFields> GroupsFormat<T> for Json {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn groups(&mut self, groups: &TraceGroups, out: &mut dyn Write) -> io::Result<()> {
        let mut write = |group: Option<&OwnerGroup>, other, counts| {
            let object = Object {
                schema: T::SCHEMA,
                by: groups.by().key(),
                owner: group.map(GroupObject),
                other,
                fields: T::fields(counts),
            };
            line::write(out, &object)
        };
        for (group, counts) in groups.largest_first() {
            write(group, false, counts)?;
        }
        groups.other().map_or(Ok(()), |other| write(None, true, other))
    }
}
