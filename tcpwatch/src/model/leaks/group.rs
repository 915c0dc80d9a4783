//! Sockets of one process, one place and one state, together.

use std::num::NonZeroU32;

use tcpwatch_common::TcpState;

use super::history::Closings;
use super::opened_by::OpenedBy;
use super::verdict::{Growth, Verdict};
use crate::input::owner::{Owner, Process};
use crate::input::socket::{Address, Detail};
use crate::input::socket_owner::Holder;
use crate::input::socket_scan::AcceptQueue;

/// Descriptors kept of a group at most.
pub const FDS_MAX: usize = 1024;

/// Which side of the connections a group is, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Peers connect to this local port.
    Passive(u16),
    /// This host connects to this address and port.
    Active(Address, u16),
}

/// What sockets of one group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Inode number of the network namespace; 0 where the kernel does not show it.
    pub netns: u32,
    /// The process, where it is known. Its name may change.
    pub pid: Option<NonZeroU32>,
    /// Where.
    pub side: Side,
    /// The state.
    pub state: TcpState,
    /// Whether no process holds them any more: they are closed, and the kernel ends them.
    pub orphans: bool,
}

impl Default for Key {
    fn default() -> Self {
        Self {
            netns: 0,
            pid: None,
            side: Side::Passive(0),
            state: TcpState::CloseWait,
            orphans: false,
        }
    }
}

impl Key {
    /// Whether the kernel ends the state by itself (`tcp_syn_retries`, `tcp_retries2`, `tcp_orphan_retries`, `tcp_fin_timeout`).
    #[must_use]
    pub const fn is_for_kernel(&self) -> bool {
        self.orphans || matches!(self.state, TcpState::SynSent | TcpState::LastAck)
    }

    /// Whether this host opened the connections.
    #[must_use]
    pub const fn is_opened_here(&self) -> bool {
        matches!(self.side, Side::Active(..))
    }
}

/// How long a socket has been in its state, and no data has moved in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// ns.
    pub ns: u64,
    /// Whether it was there before it was seen, so that this is the least it can be.
    pub at_least: bool,
}

impl Default for Age {
    /// Nothing is known.
    fn default() -> Self {
        Self { ns: 0, at_least: true }
    }
}

impl Age {
    /// Whether anything is known of it.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.ns > 0 || !self.at_least
    }
}

/// What several sockets share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shared<T> {
    /// There was none yet.
    #[default]
    Nothing,
    /// All have this.
    One(T),
    /// They differ.
    Several,
}

impl<T: PartialEq + Copy> Shared<T> {
    pub(super) fn add(&mut self, value: T) {
        *self = match *self {
            Self::Nothing => Self::One(value),
            Self::One(one) if one == value => Self::One(one),
            _ => Self::Several,
        };
    }

    /// What all have.
    #[must_use]
    pub fn get(self) -> Option<T> {
        match self {
            Self::One(value) => Some(value),
            Self::Nothing | Self::Several => None,
        }
    }
}

/// Sockets of one process, place and state. All numbers but `in_state` are of those that are stuck: in the state, without data moving,
/// for the time that was asked for, or longer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub key: Key,
    /// The verdict on them.
    pub verdict: Verdict,
    /// How much longer to watch until they are decided, at most, ns; `None` unless they are undecided.
    pub more_ns: Option<u64>,
    /// The owner; `None` if it is unknown, or if several processes hold them and none is the ancestor of all others.
    pub owner: Option<Owner>,
    /// Those in the state, stuck or not.
    pub in_state: u64,
    /// The longest time one of these was in it.
    pub oldest_in_state: Age,
    /// Stuck sockets: in the state, or in `ended`.
    pub sockets: u64,
    /// Sockets that the kernel ended, with descriptors that are still open.
    pub ended: u64,
    /// The oldest and the youngest of them; of no meaning where there is none.
    pub oldest: Age,
    /// See `oldest`.
    pub youngest_ns: u64,
    /// Bytes that came and were not read; `None` where the source does not show it. A FIN is none.
    pub unread_bytes: Option<u64>,
    /// Bytes that were written and that the peer did not acknowledge.
    pub unsent_bytes: Option<u64>,
    /// Sockets with unread bytes.
    pub unread: u64,
    /// Sockets with bytes that the peer did not acknowledge.
    pub unsent: u64,
    /// Sockets in `CLOSE_WAIT` with all data and the end of it (EOF) read.
    pub eof_read: u64,
    /// Sockets in `CLOSE_WAIT` with all data read, but not the end of it (EOF).
    pub eof_unread: u64,
    /// Sockets that are not accepted yet.
    pub unaccepted: u64,
    /// The accept queue that those in `SYN_SENT` wait for, if it is in their own network namespace; of several the fullest.
    pub awaited: Option<AcceptQueue>,
    /// The processes that hold them, with the descriptors; [`FDS_MAX`] of these at most.
    pub holders: Vec<Holder>,
    /// The owner when they entered the state, as far as that was seen.
    pub entered_by: Shared<Option<Process>>,
    /// Descriptors in all.
    pub fds: u64,
    /// Local address.
    pub local: Shared<Address>,
    /// Local port.
    pub lport: Shared<u16>,
    /// Remote address.
    pub remote: Shared<Address>,
    /// Remote port.
    pub rport: Shared<u16>,
    /// Inode numbers of the sockets that have one.
    pub inodes: Vec<NonZeroU32>,
    /// The stacks that opened them, the most first; `None` where nobody watches that.
    pub opened_by: Option<Vec<OpenedBy>>,
    /// For how long all closes of the group have been known, ns; `None` for a single scan.
    pub watched_ns: Option<u64>,
    /// How many more are in the state now than when the watch began, a minute; `None` where that is not known.
    pub growth_per_min: Option<f64>,
    /// Those that left the state since the watch began.
    pub closings: Closings,
    /// How long ago a stuck one was closed last, ns.
    pub last_late_ns: Option<u64>,
    /// How the number of stuck ones grew; `None` where there was none lately, or nobody watched.
    pub growth: Option<Growth>,
    /// Whether their process has exited, which closed them: all else is as it was in the scan before.
    pub process_exited: bool,
}

impl Group {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            youngest_ns: u64::MAX,
            ..Self::default()
        }
    }

    /// Number of descriptors that are counted but not listed: [`FDS_MAX`] are listed at most.
    #[must_use]
    pub fn fds_left_out(&self) -> u64 {
        let kept: usize = self.holders.iter().map(|holder| holder.fds.len()).sum();
        self.fds.saturating_sub(kept as u64)
    }

    /// The owner's descriptors, of those that are kept.
    #[must_use]
    pub fn fds_of_owner(&self) -> &[u32] {
        let pid = self.owner.and_then(|owner| owner.pid);
        let mut holders = self.holders.iter();
        holders
            .find(|holder| holder.process.pid == pid)
            .map_or(&[], |holder| &holder.fds)
    }

    /// The process that opened them and has closed its own copies, where another program holds them, which it began: what is open at
    /// execve(2) is inherited unless it is `SOCK_CLOEXEC`.
    #[must_use]
    pub fn inherited_from(&self) -> Option<Process> {
        let from = self.entered_by.get()??;
        let other = |holder: &Holder| holder.process.pid != from.pid && holder.process.comm != from.comm;
        (!self.holders.is_empty() && self.holders.iter().all(other)).then_some(from)
    }

    /// Adds a socket that is in the state.
    pub(super) fn add_to_state(&mut self, age: Age, owner: Option<Owner>) {
        self.in_state += 1;
        self.oldest_in_state = max_age(self.oldest_in_state, age);
        self.add_owner(owner);
    }

    /// Adds a socket that the kernel ended and a process still holds.
    pub(super) fn add_ended(&mut self, age: Age, owner: Option<Owner>, detail: &Detail, holders: &[Holder]) {
        self.add_owner(owner);
        self.ended += 1;
        self.add(age, detail, holders);
    }

    /// Of several owners of one process (it may be renamed), the least is shown.
    fn add_owner(&mut self, owner: Option<Owner>) {
        self.owner = self.owner.into_iter().chain(owner).min();
    }

    fn add(&mut self, age: Age, detail: &Detail, holders: &[Holder]) {
        let socket = &detail.socket;
        self.sockets += 1;
        self.oldest = max_age(self.oldest, age);
        self.youngest_ns = self.youngest_ns.min(age.ns);
        self.local.add(socket.local);
        self.lport.add(socket.lport);
        self.remote.add(socket.remote);
        self.rport.add(socket.rport);
        self.inodes.extend(socket.inode);
        for holder in holders {
            self.hold(&holder.process, &holder.fds);
        }
    }

    /// Adds the same socket, which is stuck.
    pub(super) fn add_stuck(&mut self, age: Age, detail: &Detail, holders: &[Holder]) {
        self.add(age, detail, holders);
        let socket = &detail.socket;
        let is_close_wait = self.key.state == TcpState::CloseWait;
        let is_unaccepted =
            socket.inode.is_none() && matches!(socket.state, TcpState::CloseWait | TcpState::Established);
        self.unaccepted += u64::from(is_unaccepted);
        if let Some((queue, unread)) = detail.receive_queue.zip(detail.unread_bytes()) {
            add(&mut self.unread_bytes, unread);
            self.unread += u64::from(unread > 0);
            if is_close_wait {
                self.eof_read += u64::from(queue == 0);
                self.eof_unread += u64::from(queue == 1);
            }
        }
        if let Some(queue) = detail.send_queue {
            // So does our SYN or FIN, until the peer acknowledges it.
            let own = matches!(self.key.state, TcpState::SynSent | TcpState::LastAck);
            let unsent = queue.saturating_sub(u32::from(own));
            add(&mut self.unsent_bytes, unsent);
            self.unsent += u64::from(unsent > 0);
        }
    }

    fn hold(&mut self, process: &Process, fds: &[u32]) {
        if fds.is_empty() {
            return;
        }
        self.fds += fds.len() as u64;
        match self.holders.iter_mut().find(|holder| holder.process.pid == process.pid) {
            Some(holder) => {
                holder.process = holder.process.min(*process);
                holder.fds.extend(fds);
            }
            None => self.holders.push(Holder {
                process: *process,
                fds: fds.to_vec(),
            }),
        }
    }

    /// Sorts holders and descriptors, and keeps the lowest [`FDS_MAX`] of these: at each scan the same.
    pub(super) fn sort(&mut self) {
        self.holders.sort_unstable_by_key(|holder| holder.process);
        let mut room = FDS_MAX;
        for holder in &mut self.holders {
            holder.fds.sort_unstable();
            holder.fds.truncate(room);
            room -= holder.fds.len();
        }
        self.holders.retain(|holder| !holder.fds.is_empty());
        self.inodes.sort_unstable();
    }
}

/// The longer of two times, the one that is no bound if they are equal.
fn max_age(one: Age, other: Age) -> Age {
    if (other.ns, !other.at_least) > (one.ns, !one.at_least) {
        other
    } else {
        one
    }
}

fn add(sum: &mut Option<u64>, bytes: u32) {
    *sum = Some(sum.unwrap_or(0).saturating_add(bytes.into()));
}
