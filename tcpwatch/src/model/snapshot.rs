//! What is open at one moment: sockets counted by state, and by whatever else was asked for.

use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::Timestamp;
use tcpwatch_common::TcpState;

use super::counts::StateCounts;
use crate::input::container::Cgroup;
use crate::input::owner::Owner;
use crate::input::socket::{Address, Socket};
use crate::input::socket_owner::SocketOwner;
use crate::input::socket_owner::Unseen;

/// Groups kept at most, about 160 MB; sockets of further ones are counted into [`Other`].
pub const GROUPS_MAX: usize = 900_000;

/// What to group a snapshot by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
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
    /// Process that holds it.
    Process,
    /// Cgroup of that process.
    Cgroup,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::State,
        Self::Lport,
        Self::Rport,
        Self::Remote,
        Self::Local,
        Self::Uid,
        Self::Netns,
        Self::Process,
        Self::Cgroup,
    ];

    /// The name, as typed after `--by` and as the key in machine output.
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
            Self::Cgroup => "cgroup",
        }
    }
}

/// One part of what a group has in common. Parts of one kind sort as numbers and addresses do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
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
    /// Process; `None` where none is known, or several that none can be named of.
    Process(Option<Arc<Owner>>),
    /// Cgroup; `None` where it is not known.
    Cgroup(Option<Arc<Cgroup>>),
}

// What is long is shared: a million keys of groups are no larger for it.
const _: () = assert!(size_of::<Part>() == size_of::<Address>());

impl Part {
    /// What `socket`, whose owner is `whose`, has for `by`.
    #[must_use]
    pub fn of(socket: &Socket, whose: &SocketOwner, by: By) -> Self {
        match by {
            By::State => Self::State(socket.state),
            By::Lport => Self::Port(socket.lport),
            By::Rport => Self::Port(socket.rport),
            By::Remote => Self::Address(socket.remote),
            By::Local => Self::Address(socket.local),
            By::Uid => Self::Uid(socket.uid),
            By::Netns => Self::Netns(socket.netns),
            By::Process => Self::Process(whose.process.clone()),
            By::Cgroup => Self::Cgroup(whose.cgroup.clone()),
        }
    }
}

impl fmt::Display for Part {
    /// For people, with nothing that a terminal obeys; unknown is `-`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(state) => state.key().fmt(f),
            Self::Port(port) => port.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Uid(Some(number)) | Self::Netns(number) => number.fmt(f),
            Self::Process(Some(owner)) => owner.fmt(f),
            Self::Cgroup(Some(cgroup)) => cgroup.fmt(f),
            Self::Uid(None) | Self::Process(None) | Self::Cgroup(None) => "-".fmt(f),
        }
    }
}

/// How the kernel was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
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
    /// The name in machine output, as typed after `--source`.
    #[must_use]
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Iter => "iter",
            Self::SockDiag => "sock_diag",
            Self::Proc { .. } => "proc",
        }
    }
}

/// Sockets that have a key in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common, in the order of [`Snapshot::by`].
    pub key: Box<[Part]>,
    /// How many there are.
    pub states: StateCounts,
}

impl Group {
    /// Their cgroup, where groups are by it and it is known.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.key.iter().find_map(|part| match part {
            Part::Cgroup(cgroup) => cgroup.as_deref(),
            _ => None,
        })
    }
}

/// Sockets whose groups are not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Their groups; `None` where there were too many to tell apart.
    pub groups: Option<usize>,
    /// How many there are.
    pub states: StateCounts,
}

/// What was open at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When the reading began.
    pub time: Timestamp,
    /// Inode number of the network namespace; `None` for all.
    pub netns: Option<u32>,
    /// How the kernel was read.
    pub origin: Origin,
    /// Every socket within the filter.
    pub states: StateCounts,
    /// What the groups are by; empty where none were asked for.
    pub by: Vec<By>,
    /// The groups, largest first.
    pub groups: Vec<Group>,
    /// The groups left out.
    pub other: Option<Other>,
    /// What was not seen of the owners; `None` where nobody asked for them.
    pub unseen: Option<Unseen>,
}

/// Sockets, counted as they come.
#[derive(Debug)]
pub struct Tally {
    by: Vec<By>,
    states: StateCounts,
    groups: HashMap<Box<[Part]>, StateCounts>,
    most: usize,
    overflow: StateCounts,
    /// The key looked up last: kept, so that a socket of a known group allocates nothing.
    key: Vec<Part>,
}

impl Tally {
    /// Nothing counted yet; groups are by all of `by`, said twice or not.
    #[must_use]
    pub fn new(by: &[By]) -> Self {
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
            most: GROUPS_MAX,
            overflow: StateCounts::default(),
            key: Vec::new(),
        }
    }

    /// Whether counts per state of a namespace are all that is asked for, so that [`Self::add_counts`] can give them.
    #[must_use]
    pub fn needs_no_sockets(&self) -> bool {
        self.by.iter().all(|by| matches!(by, By::State | By::Netns))
    }

    /// Whether groups are by who holds the socket, so that [`Self::add`] must be told.
    #[must_use]
    pub fn needs_owners(&self) -> bool {
        self.by.iter().any(|by| matches!(by, By::Process | By::Cgroup))
    }

    /// Counts one socket, whose owner is `whose`.
    pub fn add(&mut self, socket: &Socket, whose: &SocketOwner) {
        self.states.add(socket.state, 1);
        if self.by.is_empty() {
            return;
        }
        self.key.clear();
        self.key.extend(self.by.iter().map(|&by| Part::of(socket, whose, by)));
        self.add_to_group(socket.state, 1);
    }

    /// Counts the sockets of the namespace with inode number `netns`; by state and netns alone.
    pub fn add_counts(&mut self, counts: &StateCounts, netns: u32) {
        self.states += *counts;
        if self.by.is_empty() {
            return;
        }
        for (state, sockets) in counts.iter().filter(|&(_, sockets)| sockets > 0) {
            self.key.clear();
            self.key.extend(self.by.iter().filter_map(|by| match by {
                By::State => Some(Part::State(state)),
                By::Netns => Some(Part::Netns(netns)),
                _ => None,
            }));
            self.add_to_group(state, sockets);
        }
    }

    /// Counts sockets into the group of `self.key`.
    fn add_to_group(&mut self, state: TcpState, sockets: u64) {
        let group = if let Some(group) = self.groups.get_mut(self.key.as_slice()) {
            group
        } else if self.groups.len() < self.most {
            self.groups.entry(self.key.as_slice().into()).or_default()
        } else {
            &mut self.overflow
        };
        group.add(state, sockets);
    }

    /// The snapshot, with the `limit` largest groups; those of one size in the order of their keys.
    #[must_use]
    pub fn finish(self, time: Timestamp, netns: Option<u32>, origin: Origin, limit: Option<usize>) -> Snapshot {
        let groups = self.groups.into_iter().map(|(key, states)| Group { key, states });
        let mut groups: Vec<Group> = groups.collect();
        groups.sort_unstable_by(|a, b| b.states.total().cmp(&a.states.total()).then_with(|| a.key.cmp(&b.key)));
        let left_out = groups.split_off(limit.unwrap_or(usize::MAX).min(groups.len()));
        let overflowed = self.overflow.total() > 0;
        let mut other = Other {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::{Comm, How};
    use crate::input::socket::{Family, Kind};

    const NOBODY: SocketOwner = SocketOwner {
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

    fn finish(tally: Tally, limit: Option<usize>) -> Snapshot {
        tally.finish(Timestamp::UNIX_EPOCH, Some(9), Origin::SockDiag, limit)
    }

    #[test]
    fn groups_are_by_all_that_was_asked_for_largest_first() {
        let mut tally = Tally::new(&[By::Remote, By::Lport, By::Remote]);
        for (remote, lport) in [(2, 80), (3, 80), (3, 80), (3, 443)] {
            tally.add(&socket(remote, lport, TcpState::Established), &NOBODY);
        }
        let found = finish(tally, None);
        assert_eq!(found.by, [By::Remote, By::Lport]);
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
    fn a_limit_sums_the_rest() {
        let mut tally = Tally::new(&[By::Lport]);
        for lport in 1..=10u16 {
            for _ in 0..lport {
                tally.add(&socket(2, lport, TcpState::TimeWait), &NOBODY);
            }
        }
        let found = finish(tally, Some(3));
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
    fn groups_are_bounded_and_no_socket_is_lost() {
        let mut tally = Tally::new(&[By::Lport]);
        tally.most = 4;
        for lport in 1..=10 {
            tally.add(&socket(2, lport, TcpState::Established), &NOBODY);
        }
        tally.add(&socket(2, 1, TcpState::Established), &NOBODY);
        let found = finish(tally, None);
        assert_eq!((found.groups.len(), found.groups[0].states.total()), (4, 2));
        let other = found.other.unwrap();
        assert_eq!(
            (other.groups, other.states.total(), found.states.total()),
            (None, 6, 11)
        );
    }

    #[test]
    fn counts_make_the_groups_that_sockets_would() {
        let mut counts = StateCounts::default();
        counts.add(TcpState::Listen, 2);
        counts.add(TcpState::TimeWait, 1);
        for by in [vec![], vec![By::State], vec![By::Netns], vec![By::Netns, By::State]] {
            let (mut quick, mut slow) = (Tally::new(&by), Tally::new(&by));
            assert!(quick.needs_no_sockets());
            quick.add_counts(&counts, 9);
            for state in [TcpState::Listen, TcpState::TimeWait, TcpState::Listen] {
                slow.add(&socket(2, 80, state), &NOBODY);
            }
            assert_eq!(finish(quick, None), finish(slow, None), "{by:?}");
        }
        assert!(!Tally::new(&[By::State, By::Uid]).needs_no_sockets());
    }

    #[test]
    fn an_unknown_owner_is_a_group_of_its_own() {
        let mut tally = Tally::new(&[By::Uid]);
        tally.add(&socket(2, 80, TcpState::Established), &NOBODY);
        let socket = Socket {
            uid: None,
            ..socket(2, 80, TcpState::TimeWait)
        };
        tally.add(&socket, &NOBODY);
        let found = finish(tally, None);
        let mut keys: Vec<_> = found.groups.iter().map(|group| group.key[0].to_string()).collect();
        keys.sort();
        assert_eq!(keys, ["-", "1000"]);
    }

    #[test]
    fn groups_by_owner_are_told_by_number_and_by_path() {
        let whose = |pid, comm: &[u8], cgroup: &str| SocketOwner {
            process: Some(Arc::new(Owner {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(comm),
                how: How::Scan,
                cgroup: None,
            })),
            cgroup: Some(Arc::new(cgroup.to_owned().into())),
        };
        let mut tally = Tally::new(&[By::Process, By::Cgroup]);
        assert!(tally.needs_owners() && !tally.needs_no_sockets() && !Tally::new(&[By::Uid]).needs_owners());
        for whose in [
            whose(9, b"nginx", "/a"),
            whose(9, b"nginx", "/a"),
            whose(10, b"nginx", "/a"),
            whose(8, b"e\x1b", "/\x1b\\x2d"),
            NOBODY,
        ] {
            tally.add(&socket(2, 80, TcpState::Established), &whose);
        }
        let keys = finish(tally, None).groups.into_iter();
        let keys: Vec<_> = keys.map(|group| format!("{} {}", group.key[0], group.key[1])).collect();
        assert_eq!(keys, ["nginx[9] /a", "- -", r"e\u{1b}[8] /\u{1b}\\x2d", "nginx[10] /a"]);
    }
}
