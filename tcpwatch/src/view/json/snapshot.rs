//! `tcpwatch.snapshot/1`.

use std::io::{self, Write};

use serde::Serialize;
use serde::ser::Serializer;

use super::container::Inside;
use super::line;
use super::states::States;
use crate::input::socket_owner::Unseen;
use crate::model::snapshot::By;
use crate::model::snapshot::{Group, Other, Part, Snapshot};
use crate::view::time::rfc3339;

/// The whole object; `groups` and `other` are there when groups were asked for, `unseen` when owners were.
#[derive(Serialize)]
struct Object<'a> {
    schema: &'static str,
    time: String,
    netns: Option<u32>,
    total: u64,
    states: States<'a>,
    #[serde(flatten)]
    grouped: Option<Grouped<'a>>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<UnseenObject>,
}

/// What was not seen of the owners: processes that could not be read, whether more are hidden, descriptors left out, and
/// the sockets that no process seen holds.
#[derive(Serialize)]
struct UnseenObject {
    sockets: u64,
    processes: usize,
    hidden: bool,
    descriptors: u64,
}

#[derive(Serialize)]
struct Grouped<'a> {
    groups: Vec<GroupObject<'a>>,
    other: Option<OtherObject<'a>>,
}

#[derive(Serialize)]
struct GroupObject<'a> {
    key: Key<'a>,
    #[serde(flatten)]
    inside: Option<Inside<'a>>,
    total: u64,
    states: States<'a>,
}

/// The groups left out; `groups` is null where they were too many to tell apart.
#[derive(Serialize)]
struct OtherObject<'a> {
    groups: Option<usize>,
    total: u64,
    states: States<'a>,
}

/// `{"remote":"10.0.0.1","lport":80}`, in the order asked for.
struct Key<'a>(&'a [By], &'a [Part]);

impl Serialize for Key<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|&by| by.key()).zip(self.1.iter().map(Value)))
    }
}

/// A part of a key: a number where it is one.
struct Value<'a>(&'a Part);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Part::State(state) => serializer.serialize_str(state.key()),
            Part::Port(port) => serializer.serialize_u16(*port),
            Part::Address(address) => serializer.collect_str(address),
            Part::Uid(uid) => uid.serialize(serializer),
            Part::Netns(inode) => serializer.serialize_u32(*inode),
            Part::Process(owner) => owner.as_deref().serialize(serializer),
            Part::Cgroup(cgroup) => {
                let path = cgroup.as_ref().map(|cgroup| &cgroup.path);
                path.serialize(serializer)
            }
        }
    }
}

/// Writes `snapshot` as one line.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let grouped = !snapshot.by.is_empty();
    let object = Object {
        schema: "tcpwatch.snapshot/1",
        time: format!("{:.9}", snapshot.time),
        netns: snapshot.netns,
        total: snapshot.states.total(),
        states: States(&snapshot.states),
        grouped: grouped.then(|| Grouped {
            groups: snapshot.groups.iter().map(|found| group(&snapshot.by, found)).collect(),
            other: snapshot.other.as_ref().map(other),
        }),
        source: snapshot.origin.key(),
        unseen: snapshot.unseen.as_ref().map(unseen),
    };
    line::write(out, &object)
}

/// Writes the number of connections alone, as one line.
///
/// # Errors
/// Those of `out`.
pub fn write_count(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    #[derive(Serialize)]
    struct Count {
        schema: &'static str,
        time: String,
        netns: Option<u32>,
        total: u64,
    }
    let count = Count {
        schema: "tcpwatch.count/1",
        time: rfc3339(snapshot.time),
        netns: snapshot.netns,
        total: snapshot.states.total(),
    };
    line::write(out, &count)
}

fn group<'a>(by: &'a [By], group: &'a Group) -> GroupObject<'a> {
    GroupObject {
        key: Key(by, &group.key),
        inside: by.contains(&By::Cgroup).then(|| Inside::of(group.cgroup())),
        total: group.states.total(),
        states: States(&group.states),
    }
}

fn unseen(unseen: &Unseen) -> UnseenObject {
    UnseenObject {
        sockets: unseen.sockets,
        processes: unseen.processes,
        hidden: unseen.hidden,
        descriptors: unseen.descriptors,
    }
}

fn other(other: &Other) -> OtherObject<'_> {
    OtherObject {
        groups: other.groups,
        total: other.states.total(),
        states: States(&other.states),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use jiff::Timestamp;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::owner::{Comm, How, Owner};
    use crate::input::socket::{Address, Family, Socket};
    use crate::input::socket_owner::SocketOwner;
    use crate::model::counts::StateCounts;
    use crate::model::snapshot::{Origin, Tally};

    fn line(by: &[By], limit: Option<usize>) -> String {
        let mut counts = StateCounts::default();
        counts.add(TcpState::Established, 2);
        counts.add(TcpState::Listen, 1);
        let mut tally = Tally::new(by);
        tally.add_counts(&counts, 7);
        let mut out = Vec::new();
        write(
            &mut out,
            &tally.finish(Timestamp::UNIX_EPOCH, Some(7), Origin::SockDiag, limit),
        )
        .unwrap();
        String::from_utf8(out).unwrap()
    }

    const STATES: &str = r#"{"established":2,"syn_sent":0,"syn_recv":0,"fin_wait1":0,"fin_wait2":0,"time_wait":0,"close":0,"close_wait":0,"last_ack":0,"listen":1,"closing":0}"#;

    #[test]
    fn fields_come_in_their_order() {
        let want = format!(
            r#"{{"schema":"tcpwatch.snapshot/1","time":"1970-01-01T00:00:00.000000000Z","netns":7,"total":3,"states":{STATES},"source":"sock_diag"}}"#
        );
        assert_eq!(line(&[], None), want + "\n");
    }

    #[test]
    fn groups_come_when_asked_for() {
        let all = line(&[By::Netns], None);
        assert!(
            all.contains(&format!(
                r#""groups":[{{"key":{{"netns":7}},"total":3,"states":{STATES}}}],"other":null,"#
            )),
            "{all}"
        );
        let one = line(&[By::Netns, By::State], Some(1));
        assert!(
            one.contains(r#""groups":[{"key":{"netns":7,"state":"established"},"total":2,"#),
            "{one}"
        );
        assert!(one.contains(r#""other":{"groups":1,"total":1,"states":{"#), "{one}");
    }

    #[test]
    fn owners_are_objects_and_the_unknown_null() {
        let address = Address::new([10, 0, 0, 1].into(), 0);
        let socket = Socket {
            family: Family::Ipv4,
            state: TcpState::Listen,
            kind: None,
            local: address,
            lport: 80,
            remote: address,
            rport: 0,
            uid: None,
            inode: None,
            netns: 7,
        };
        let whose = SocketOwner {
            process: Some(Arc::new(Owner {
                pid: NonZeroU32::new(812),
                comm: Comm::new(b"\x1b\xff\""),
                how: How::Scan,
                cgroup: None,
            })),
            cgroup: Some(Arc::new("/a\x1b".to_owned().into())),
        };
        let mut tally = Tally::new(&[By::Process, By::Cgroup]);
        tally.add(&socket, &whose);
        tally.add(&socket, &SocketOwner::default());
        let snapshot = Snapshot {
            unseen: Some(Unseen {
                sockets: 1,
                processes: 2,
                ..Unseen::default()
            }),
            ..tally.finish(Timestamp::UNIX_EPOCH, Some(7), Origin::SockDiag, None)
        };
        let mut out = Vec::new();
        write(&mut out, &snapshot).unwrap();
        let line = String::from_utf8(out).unwrap();
        for part in [
            "{\"key\":{\"process\":{\"pid\":812,\"comm\":\"\\u001b\u{fffd}\\\"\",\"how\":\"scan\"},\"cgroup\":\"/a\\u001b\"},\"container\":null,\"pod\":null,",
            r#"{"key":{"process":null,"cgroup":null}"#,
            r#""unseen":{"sockets":1,"processes":2,"hidden":false,"descriptors":0}}"#,
        ] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }

    #[test]
    fn a_closed_pipe_stays_a_closed_pipe() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let empty = Tally::new(&[]).finish(Timestamp::UNIX_EPOCH, None, Origin::Iter, None);
        assert_eq!(
            write(&mut Closed, &empty).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
