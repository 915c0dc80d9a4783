//! `snapshot` as JSON: `tcpwatch.snapshot/1`.

use std::io::{self, Write};
use std::num::NonZeroU16;

use serde::Serialize;
use serde::ser::Serializer;

use super::container::ContainerFields;
use super::line;
use crate::input::socket_owner::Unseen;
use crate::model::counts::StateCounts;
use crate::model::snapshot::{GroupBy, KeyPart, OtherGroups, Snapshot, SocketGroup};
use crate::view::timestamp::rfc3339;

/// The snapshot. `groups` and `other` exist if groups were asked for, `unseen` if owners were read.
#[derive(Serialize)]
struct SnapshotObject<'a> {
    schema: &'static str,
    time: String,
    netns: Option<u32>,
    #[serde(flatten)]
    sockets: Sockets<'a>,
    #[serde(flatten)]
    groups: Option<Groups<'a>>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    unseen: Option<Unseen>,
}

/// Number of sockets, in all and by state.
#[derive(Serialize)]
struct Sockets<'a> {
    total: u64,
    states: &'a StateCounts,
}

#[derive(Serialize)]
struct Groups<'a> {
    groups: Vec<GroupObject<'a>>,
    other: Option<OtherObject<'a>>,
}

#[derive(Serialize)]
struct GroupObject<'a> {
    key: GroupKey<'a>,
    #[serde(flatten)]
    container: Option<ContainerFields<'a>>,
    #[serde(flatten)]
    sockets: Sockets<'a>,
}

/// The groups left out; `groups` is null where their number is unknown.
#[derive(Serialize)]
struct OtherObject<'a> {
    groups: Option<usize>,
    #[serde(flatten)]
    sockets: Sockets<'a>,
}

/// The key of a group, in the order of `--by`: `{"remote":"10.0.0.1","lport":80}`.
struct GroupKey<'a>(&'a [GroupBy], &'a [KeyPart]);

impl Serialize for GroupKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|&by| by.key()).zip(self.1.iter().map(Value)))
    }
}

/// One part of a key: a number, a text, an owner or null.
struct Value<'a>(&'a KeyPart);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            KeyPart::State(state) => serializer.serialize_str(state.key()),
            KeyPart::Port(port) => NonZeroU16::new(*port).serialize(serializer),
            KeyPart::Address(address) => serializer.collect_str(address),
            KeyPart::Uid(uid) => uid.serialize(serializer),
            KeyPart::Netns(inode) => serializer.serialize_u32(*inode),
            KeyPart::Process(owner) => owner.as_deref().serialize(serializer),
            KeyPart::Cgroup(cgroup) => {
                let path = cgroup.as_ref().map(|cgroup| &cgroup.path);
                path.serialize(serializer)
            }
            KeyPart::Comm(comm) => comm.serialize(serializer),
            KeyPart::Container(Some(Some(container))) => serializer.serialize_str(&container.id),
            KeyPart::Pod(Some(Some(pod))) => serializer.serialize_str(pod.name.as_ref().unwrap_or(&pod.uid)),
            KeyPart::Container(Some(None)) | KeyPart::Pod(Some(None)) => serializer.serialize_str(""),
            KeyPart::Container(None) | KeyPart::Pod(None) => serializer.serialize_none(),
        }
    }
}

impl<'a> From<&'a StateCounts> for Sockets<'a> {
    fn from(states: &'a StateCounts) -> Self {
        Self {
            total: states.total(),
            states,
        }
    }
}

/// Writes `snapshot` as one line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let by = &snapshot.by;
    let group = |group| GroupObject::new(by, group);
    let object = SnapshotObject {
        schema: "tcpwatch.snapshot/1",
        time: rfc3339(snapshot.time),
        netns: snapshot.netns,
        sockets: Sockets::from(&snapshot.states),
        groups: (!by.is_empty()).then(|| Groups {
            groups: snapshot.groups.iter().map(group).collect(),
            other: snapshot.other.as_ref().map(OtherObject::from),
        }),
        source: snapshot.origin.key(),
        unseen: snapshot.unseen,
    };
    line::write(out, &object)
}

/// Writes the number of sockets alone, as one line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_count(out: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    #[derive(Serialize)]
    struct CountObject {
        schema: &'static str,
        time: String,
        netns: Option<u32>,
        total: u64,
    }
    let object = CountObject {
        schema: "tcpwatch.count/1",
        time: rfc3339(snapshot.time),
        netns: snapshot.netns,
        total: snapshot.states.total(),
    };
    line::write(out, &object)
}

impl<'a> GroupObject<'a> {
    fn new(by: &'a [GroupBy], group: &'a SocketGroup) -> Self {
        let has_cgroup = by.contains(&GroupBy::Cgroup);
        Self {
            key: GroupKey(by, &group.key),
            container: has_cgroup.then(|| ContainerFields::new(group.cgroup())),
            sockets: Sockets::from(&group.states),
        }
    }
}

impl<'a> From<&'a OtherGroups> for OtherObject<'a> {
    fn from(other: &'a OtherGroups) -> Self {
        Self {
            groups: other.groups,
            sockets: Sockets::from(&other.states),
        }
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
    use crate::model::snapshot::{Origin, SnapshotBuilder};

    fn line(by: &[GroupBy], limit: Option<usize>) -> String {
        let mut counts = StateCounts::default();
        counts.add(TcpState::Established, 2);
        counts.add(TcpState::Listen, 1);
        let mut builder = SnapshotBuilder::new(by);
        builder.add_counts(&counts, 7);
        let mut out = Vec::new();
        write(
            &mut out,
            &builder.finish(Timestamp::UNIX_EPOCH, Some(7), Origin::SockDiag, limit),
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
        let all = line(&[GroupBy::Netns], None);
        assert!(
            all.contains(&format!(
                r#""groups":[{{"key":{{"netns":7}},"total":3,"states":{STATES}}}],"other":null,"#
            )),
            "{all}"
        );
        let one = line(&[GroupBy::Netns, GroupBy::State], Some(1));
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
        let mut builder = SnapshotBuilder::new(&[GroupBy::Process, GroupBy::Cgroup]);
        builder.add(&socket, &whose);
        builder.add(&socket, &SocketOwner::default());
        let snapshot = Snapshot {
            unseen: Some(Unseen {
                sockets: 1,
                processes: 2,
                ..Unseen::default()
            }),
            ..builder.finish(Timestamp::UNIX_EPOCH, Some(7), Origin::SockDiag, None)
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
        let empty = SnapshotBuilder::new(&[]).finish(Timestamp::UNIX_EPOCH, None, Origin::Iter, None);
        assert_eq!(
            write(&mut Closed, &empty).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}
