//! The result of one scan of the sockets in transient states, and of their holders in /proc.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};
use serde::Serialize;

use super::owner::Owner;
use super::socket::Detail;
use super::socket_owner::Holder;
use super::socket_owner::Unseen;
use super::stacks::{Stack, StackId};

/// The accept queue of a listener: `Recv-Q` and `Send-Q` of `ss -l`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct AcceptQueue {
    /// Connections in the queue (`sk_ack_backlog`).
    pub queued: u64,
    /// Limit of the queue (`sk_max_ack_backlog`). The kernel accepts one more.
    pub limit: u64,
    /// The process that should accept them, if known.
    pub owner: Option<Owner>,
}

impl AcceptQueue {
    /// Whether the accept queue is full (`sk_acceptq_is_full`).
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.queued > self.limit
    }
}

/// A scanned socket and its holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScannedSocket {
    /// The socket.
    pub detail: Detail,
    /// The owner: the process that holds the socket. For a connection that is not accepted yet, the process that listens.
    pub process: Option<Owner>,
    /// All processes that hold it.
    pub holders: Vec<Holder>,
    /// For a socket in `SYN_SENT` that connects to a listener of the same network namespace: the accept queue of the listener.
    pub awaited: Option<AcceptQueue>,
}

/// The holders of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketHolders {
    /// The owner; `None` if unknown.
    pub process: Option<Owner>,
    /// All processes that hold it.
    pub holders: Vec<Holder>,
}

/// A scan of the sockets at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketScan {
    /// Start of the scan, `CLOCK_MONOTONIC` in ns.
    pub started_ns: u64,
    /// Time when the last socket was read, `CLOCK_MONOTONIC` in ns.
    pub ended_ns: u64,
    /// The scanned network namespaces by inode number, with their names, if any (ip-netns(8)).
    pub namespaces: BTreeMap<u32, Option<String>>,
    /// The full sockets in transient states.
    pub sockets: Vec<ScannedSocket>,
    /// The network namespaces and local ports of listeners.
    pub listeners: HashSet<(u32, u16)>,
    /// The holders that could not be seen; `None` if the holders were not read.
    pub unseen: Option<Unseen>,
    /// The holders of the requested sockets, which the kernel ended, by inode number. Empty if the holders were not read.
    pub held: HashMap<NonZeroU32, SocketHolders>,
    /// The requested processes, former holders of stuck sockets, that have exited.
    pub exited: HashSet<NonZeroU32>,
    /// Inode numbers of all sockets in any state; `None` if not requested, and after the source has used it.
    pub open: Option<HashSet<u32>>,
    /// The user stack that opened each socket, by inode number. A socket opened before the start has none. `None` without
    /// `--stacks`.
    pub opened_at: Option<HashMap<NonZeroU32, StackId>>,
    /// These stacks, symbolised. A missing stack is no longer stored.
    pub stacks: HashMap<StackId, Stack>,
    /// Sockets left out because there were too many.
    pub left_out: u64,
}
