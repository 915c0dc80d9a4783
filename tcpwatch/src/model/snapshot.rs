//! Sockets at one moment, counted by state, and in groups if asked for.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use tcpwatch_common::TcpState;

use super::counts::StateCounts;
use crate::input::container::{Cgroup, Container, Pod};
use crate::input::namespace::NamespaceNames;
use crate::input::owner::{Comm, Owner};
use crate::input::socket::{Address, Socket};
use crate::input::socket_owner::SocketOwner;
use crate::input::socket_owner::Unseen;

/// Groups kept at most, about 160 MB. Sockets of further groups are counted in [`OtherGroups`].
pub const GROUPS_MAX: usize = 900_000;

/// A property to group sockets by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// State.
    State,
    /// Local port.
    Lport,
    /// Remote port.
    Rport,
    /// Remote address.
    Remote,
    /// Local address.
    Local,
    /// User id of the owner.
    Uid,
    /// Network namespace.
    Netns,
    /// Process that holds the socket.
    Process,
    /// Name of that process.
    Comm,
    /// Cgroup of that process.
    Cgroup,
    /// Container of that process.
    Container,
    /// Kubernetes pod of that process.
    Pod,
}

impl GroupBy {
    /// Every property.
    pub const ALL: [Self; 12] = [
        Self::State,
        Self::Lport,
        Self::Rport,
        Self::Remote,
        Self::Local,
        Self::Uid,
        Self::Netns,
        Self::Process,
        Self::Comm,
        Self::Cgroup,
        Self::Container,
        Self::Pod,
    ];

    /// The name after `--by`, and the key in JSON and CSV.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Lport => "lport",
            Self::Rport => "rport",
            Self::Remote => "remote",
            Self::Local => "local",
            Self::Uid => "uid",
            Self::Netns => "netns",
            Self::Process => "process",
            Self::Comm => "comm",
            Self::Cgroup => "cgroup",
            Self::Container => "container",
            Self::Pod => "pod",
        }
    }
}

/// One value of a group's key. Values of one kind sort as numbers and addresses do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPart {
    /// State.
    State(TcpState),
    /// Local or remote port.
    Port(u16),
    /// Local or remote address.
    Address(Address),
    /// User id of the owner; `None` where the kernel keeps none.
    Uid(Option<u32>),
    /// Inode number of the network namespace.
    Netns(u32),
    /// Process; `None` where the owner is unknown, or where unrelated processes share the socket.
    Process(Option<Arc<Owner>>),
    /// Name of the process; `None` as for the process.
    Comm(Option<Comm>),
    /// Cgroup; `None` where it is unknown.
    Cgroup(Option<Arc<Cgroup>>),
    /// Container; the outer `None` where the cgroup is unknown, the inner one where it is in no container.
    Container(Option<Option<Arc<Container>>>),
    /// Pod; as the container.
    Pod(Option<Option<Arc<Pod>>>),
}

// Owners and cgroups are shared, so that a million keys take no more memory than addresses do.
const _: () = assert!(size_of::<KeyPart>() == size_of::<Address>());

impl KeyPart {
    /// The value of property `by` of `socket` and its `owner`.
    #[must_use]
    pub fn new(socket: &Socket, owner: &SocketOwner, by: GroupBy) -> Self {
        match by {
            GroupBy::State => Self::State(socket.state),
            GroupBy::Lport => Self::Port(socket.lport),
            GroupBy::Rport => Self::Port(socket.rport),
            GroupBy::Remote => Self::Address(socket.remote),
            GroupBy::Local => Self::Address(socket.local),
            GroupBy::Uid => Self::Uid(socket.uid),
            GroupBy::Netns => Self::Netns(socket.netns),
            GroupBy::Process => Self::Process(owner.process.clone()),
            GroupBy::Comm => Self::Comm(owner.process.as_ref().map(|process| process.comm)),
            GroupBy::Cgroup => Self::Cgroup(owner.cgroup.clone()),
            GroupBy::Container => Self::Container(owner.cgroup.as_ref().map(|cgroup| cgroup.container.clone())),
            GroupBy::Pod => Self::Pod(owner.cgroup.as_ref().map(|cgroup| cgroup.pod().cloned())),
        }
    }
}

impl fmt::Display for KeyPart {
    /// Formats the value for a terminal: control characters are escaped, an unknown value is `?`, and `-` is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => state.key().fmt(f),
            // A listener has no remote port; as `ss` shows it.
            Self::Port(0) => "*".fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Uid(Some(number)) | Self::Netns(number) => number.fmt(f),
            Self::Process(Some(owner)) => owner.fmt(f),
            Self::Cgroup(Some(cgroup)) => cgroup.fmt(f),
            Self::Comm(Some(comm)) => comm.fmt(f),
            Self::Container(Some(Some(container))) => container.fmt(f),
            Self::Pod(Some(Some(pod))) => pod.fmt(f),
            Self::Container(Some(None)) | Self::Pod(Some(None)) => "-".fmt(f),
            Self::Uid(None)
            | Self::Process(None)
            | Self::Comm(None)
            | Self::Cgroup(None)
            | Self::Container(None)
            | Self::Pod(None) => "?".fmt(f),
        }
    }
}

/// How the sockets were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By the kernel's counters for `ESTABLISHED` and `TIME_WAIT`, and dumped over netlink for the other states.
    Counters,
    /// Counted by a BPF iterator.
    Iter,
    /// Dumped over netlink.
    SockDiag,
    /// Read from /proc/net/tcp and tcp6.
    Proc {
        /// Why netlink was refused; `None` where /proc was asked for.
        refused: Option<String>,
    },
}

impl Origin {
    /// The name in JSON, and after `--source` except for the counters.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Counters => "counters",
            Self::Iter => "iter",
            Self::SockDiag => "sock_diag",
            Self::Proc { .. } => "proc",
        }
    }
}

/// Sockets with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketGroup {
    /// The key, in the order of [`Snapshot::by`].
    pub key: Box<[KeyPart]>,
    /// The sockets, by state.
    pub states: StateCounts,
}

impl SocketGroup {
    /// The cgroup in the key; `None` where it is unknown or not part of the key.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.key.iter().find_map(|part| match part {
            KeyPart::Cgroup(cgroup) => cgroup.as_deref(),
            _ => None,
        })
    }
}

/// Sockets in groups that the snapshot leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherGroups {
    /// Number of groups; `None` where there were more than [`GROUPS_MAX`], so that it is unknown.
    pub groups: Option<usize>,
    /// The sockets, by state.
    pub states: StateCounts,
}

/// Sockets at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the reading began.
    pub time: Timestamp,
    /// Inode number of the network namespace; `None` for `--netns all`.
    pub netns: Option<u32>,
    /// How the sockets were read.
    pub origin: Origin,
    /// All sockets within the filter, by state.
    pub states: StateCounts,
    /// The properties that make up a group's key; empty for no groups.
    pub by: Vec<GroupBy>,
    /// The groups, largest first.
    pub groups: Vec<SocketGroup>,
    /// The groups left out.
    pub other: Option<OtherGroups>,
    /// Owners that could not be seen; `None` where no owners were read.
    pub unseen: Option<Unseen>,
    /// The names of the network namespaces, for text output.
    pub namespace_names: NamespaceNames,
}

/// Counts sockets one by one and builds a [`Snapshot`].
#[derive(Debug)]
pub struct SnapshotBuilder {
    by: Vec<GroupBy>,
    states: StateCounts,
    groups: HashMap<Box<[KeyPart]>, StateCounts>,
    max_groups: usize,
    /// Sockets of groups beyond `max_groups`.
    overflow: StateCounts,
    /// The key of the current socket. The buffer is reused, so that a socket of a known group allocates nothing.
    key: Vec<KeyPart>,
}

impl SnapshotBuilder {
    /// A builder without sockets, which groups them by the properties in `by`. Repeated properties count once.
    #[must_use]
    pub fn new(by: &[GroupBy]) -> Self {
        let mut distinct = Vec::new();
        for &by in by {
            if !distinct.contains(&by) {
                distinct.push(by);
            }
        }
        Self {
            by: distinct,
            states: StateCounts::default(),
            groups: HashMap::new(),
            max_groups: GROUPS_MAX,
            overflow: StateCounts::default(),
            key: Vec::new(),
        }
    }

    /// Whether counts per state and namespace suffice, so that [`Self::add_counts`] can be used.
    #[must_use]
    pub fn needs_no_sockets(&self) -> bool {
        self.by.iter().all(|by| matches!(by, GroupBy::State | GroupBy::Netns))
    }

    /// Whether the key has a process, or what a process is in, so that [`Self::add`] needs the owner.
    #[must_use]
    pub fn needs_owners(&self) -> bool {
        self.by.iter().any(|by| {
            matches!(
                by,
                GroupBy::Process | GroupBy::Comm | GroupBy::Cgroup | GroupBy::Container | GroupBy::Pod
            )
        })
    }

    /// Counts one socket of `owner`.
    pub fn add(&mut self, socket: &Socket, owner: &SocketOwner) {
        self.states.add(socket.state, 1);
        if self.by.is_empty() {
            return;
        }
        self.key.clear();
        self.key
            .extend(self.by.iter().map(|&by| KeyPart::new(socket, owner, by)));
        self.add_to_group(socket.state, 1);
    }

    /// Counts all sockets of the network namespace with inode number `netns` at once, grouped by state and netns alone.
    pub fn add_counts(&mut self, counts: &StateCounts, netns: u32) {
        self.states += *counts;
        if self.by.is_empty() {
            return;
        }
        for (state, sockets) in counts.iter().filter(|&(_, sockets)| sockets > 0) {
            self.key.clear();
            self.key.extend(self.by.iter().filter_map(|by| match by {
                GroupBy::State => Some(KeyPart::State(state)),
                GroupBy::Netns => Some(KeyPart::Netns(netns)),
                _ => None,
            }));
            self.add_to_group(state, sockets);
        }
    }

    /// Adds sockets to the group with the key in `self.key`.
    fn add_to_group(&mut self, state: TcpState, sockets: u64) {
        let group = if let Some(group) = self.groups.get_mut(self.key.as_slice()) {
            group
        } else if self.groups.len() < self.max_groups {
            self.groups.entry(self.key.as_slice().into()).or_default()
        } else {
            &mut self.overflow
        };
        group.add(state, sockets);
    }

    /// Builds the snapshot with the `limit` largest groups. Groups of one size are in the order of their keys.
    #[must_use]
    pub fn finish(self, time: Timestamp, netns: Option<u32>, origin: Origin, limit: Option<usize>) -> Snapshot {
        let groups = self.groups.into_iter().map(|(key, states)| SocketGroup { key, states });
        let mut groups: Vec<SocketGroup> = groups.collect();
        groups.sort_unstable_by(|a, b| b.states.total().cmp(&a.states.total()).then_with(|| a.key.cmp(&b.key)));
        let left_out = groups.split_off(limit.unwrap_or(usize::MAX).min(groups.len()));
        let overflowed = self.overflow.total() > 0;
        let mut other = OtherGroups {
            groups: (!overflowed).then_some(left_out.len()),
            states: self.overflow,
        };
        for group in &left_out {
            other.states += group.states;
        }
        Snapshot {
            time,
            netns,
            origin,
            states: self.states,
            by: self.by,
            groups,
            other: (overflowed || !left_out.is_empty()).then_some(other),
            unseen: None,
            namespace_names: NamespaceNames::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::{Comm, How};
    use crate::input::socket::{Family, Kind};

    const UNKNOWN: SocketOwner = SocketOwner {
        process: None,
        cgroup: None,
    };

    fn socket(remote: u8, lport: u16, state: TcpState) -> Socket {
        let address = |last| Address::new([10, 0, 0, last].into(), 0);
        Socket {
            family: Family::Ipv4,
            state,
            kind: Some(Kind::Full),
            local: address(1),
            lport,
            remote: address(remote),
            rport: 40000,
            uid: Some(1000),
            inode: None,
            netns: 9,
        }
    }

    fn finish(builder: SnapshotBuilder, limit: Option<usize>) -> Snapshot {
        builder.finish(Timestamp::UNIX_EPOCH, Some(9), Origin::SockDiag, limit)
    }

    #[test]
    fn a_group_has_all_properties_in_its_key_and_the_largest_is_first() {
        let mut builder = SnapshotBuilder::new(&[GroupBy::Remote, GroupBy::Lport, GroupBy::Remote]);
        for (remote, lport) in [(2, 80), (3, 80), (3, 80), (3, 443)] {
            builder.add(&socket(remote, lport, TcpState::Established), &UNKNOWN);
        }
        let found = finish(builder, None);
        assert_eq!(found.by, [GroupBy::Remote, GroupBy::Lport]);
        let keys: Vec<_> = found
            .groups
            .iter()
            .map(|group| format!("{} {}", group.key[0], group.key[1]))
            .collect();
        assert_eq!(keys, ["10.0.0.3 80", "10.0.0.2 80", "10.0.0.3 443"]);
        assert_eq!(
            (found.states.total(), found.groups[0].states.total(), found.other),
            (4, 2, None)
        );
    }

    #[test]
    fn groups_beyond_the_limit_are_added_up() {
        let mut builder = SnapshotBuilder::new(&[GroupBy::Lport]);
        for lport in 1..=10u16 {
            for _ in 0..lport {
                builder.add(&socket(2, lport, TcpState::TimeWait), &UNKNOWN);
            }
        }
        let found = finish(builder, Some(3));
        assert_eq!(
            found
                .groups
                .iter()
                .map(|group| group.states.total())
                .collect::<Vec<_>>(),
            [10, 9, 8]
        );
        let other = found.other.unwrap();
        assert_eq!((other.groups, other.states.get(TcpState::TimeWait)), (Some(7), 28));
        assert_eq!(found.states.total(), 55);
    }

    #[test]
    fn the_number_of_groups_is_bounded_and_every_socket_is_counted() {
        let mut builder = SnapshotBuilder::new(&[GroupBy::Lport]);
        builder.max_groups = 4;
        for lport in 1..=10 {
            builder.add(&socket(2, lport, TcpState::Established), &UNKNOWN);
        }
        builder.add(&socket(2, 1, TcpState::Established), &UNKNOWN);
        let found = finish(builder, None);
        assert_eq!((found.groups.len(), found.groups[0].states.total()), (4, 2));
        let other = found.other.unwrap();
        assert_eq!(
            (other.groups, other.states.total(), found.states.total()),
            (None, 6, 11)
        );
    }

    #[test]
    fn counts_make_the_same_groups_as_sockets() {
        let mut counts = StateCounts::default();
        counts.add(TcpState::Listen, 2);
        counts.add(TcpState::TimeWait, 1);
        for by in [
            vec![],
            vec![GroupBy::State],
            vec![GroupBy::Netns],
            vec![GroupBy::Netns, GroupBy::State],
        ] {
            let (mut quick, mut slow) = (SnapshotBuilder::new(&by), SnapshotBuilder::new(&by));
            assert!(quick.needs_no_sockets());
            quick.add_counts(&counts, 9);
            for state in [TcpState::Listen, TcpState::TimeWait, TcpState::Listen] {
                slow.add(&socket(2, 80, state), &UNKNOWN);
            }
            assert_eq!(finish(quick, None), finish(slow, None), "{by:?}");
        }
        assert!(!SnapshotBuilder::new(&[GroupBy::State, GroupBy::Uid]).needs_no_sockets());
    }

    #[test]
    fn sockets_of_unknown_users_are_a_group() {
        let mut builder = SnapshotBuilder::new(&[GroupBy::Uid]);
        builder.add(&socket(2, 80, TcpState::Established), &UNKNOWN);
        let socket = Socket {
            uid: None,
            ..socket(2, 80, TcpState::TimeWait)
        };
        builder.add(&socket, &UNKNOWN);
        let found = finish(builder, None);
        let mut keys: Vec<_> = found.groups.iter().map(|group| group.key[0].to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["1000", "?"]);
    }

    #[test]
    fn groups_by_owner_are_named_by_pid_and_by_path() {
        let owner = |pid, comm: &[u8], cgroup: &str| SocketOwner {
            process: Some(Arc::new(Owner {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(comm),
                how: How::Scan,
                cgroup: None,
            })),
            cgroup: Some(Arc::new(cgroup.to_owned().into())),
        };
        let mut builder = SnapshotBuilder::new(&[GroupBy::Process, GroupBy::Cgroup]);
        assert!(
            builder.needs_owners()
                && !builder.needs_no_sockets()
                && !SnapshotBuilder::new(&[GroupBy::Uid]).needs_owners()
        );
        for owner in [
            owner(9, b"nginx", "/a"),
            owner(9, b"nginx", "/a"),
            owner(10, b"nginx", "/a"),
            owner(8, b"e\x1b", "/\x1b\\x2d"),
            UNKNOWN,
        ] {
            builder.add(&socket(2, 80, TcpState::Established), &owner);
        }
        let keys = finish(builder, None).groups.into_iter();
        let keys: Vec<_> = keys.map(|group| format!("{} {}", group.key[0], group.key[1])).collect();
        assert_eq!(keys, ["nginx[9] /a", "? ?", r"e\u{1b}[8] /\u{1b}\\x2d", "nginx[10] /a"]);
    }
}
