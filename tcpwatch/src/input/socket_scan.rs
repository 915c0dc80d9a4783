//! What one look at the kernel's tables and /proc finds of sockets in the states that should pass.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};

use super::owner::Owner;
use super::socket::Detail;
use super::socket_owner::Holder;
use super::socket_owner::Unseen;
use super::stacks::{Stack, StackId};

/// Connections that wait to be accepted at a listener, `Recv-Q` and `Send-Q` of `ss -l`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// How many there are (`sk_ack_backlog`).
    pub queued: u32,
    /// How many may be (`sk_max_ack_backlog`). One more finds room.
    pub limit: u32,
    /// Who is to accept them, where that is known.
    pub owner: Option<Owner>,
}

impl AcceptQueue {
    /// Whether the next connection finds no room (`sk_acceptq_is_full`).
    #[must_use]
    pub const fn is_full(self) -> bool {
        self.queued > self.limit
    }
}

/// A socket in one of the states, and who holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The socket.
    pub detail: Detail,
    /// Whose it is: who holds it or, of one that is not accepted yet, who listens for it.
    pub process: Option<Owner>,
    /// All who hold it.
    pub holders: Vec<Holder>,
    /// Where it would be accepted, of one in `SYN_SENT` that connects to a listener of the same network namespace.
    pub awaited: Option<AcceptQueue>,
}

/// Who holds a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Whose it is; `None` where that is not known.
    pub process: Option<Owner>,
    /// All who hold it.
    pub holders: Vec<Holder>,
}

/// All of them at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketScan {
    /// When it began, ns (`CLOCK_MONOTONIC`).
    pub started_ns: u64,
    /// When the last of the sockets had been read.
    pub ended_ns: u64,
    /// The network namespaces looked at, by inode number, and the name of each that has one (ip-netns(8)).
    pub namespaces: BTreeMap<u32, Option<String>>,
    /// The full sockets in one of the states.
    pub sockets: Vec<Seen>,
    /// The network namespaces and local ports of listeners.
    pub listeners: HashSet<(u32, u16)>,
    /// What could not be seen of those who hold the sockets; `None` where nobody looked who does.
    pub unseen: Option<Unseen>,
    /// Who holds the sockets that were asked for because the kernel ended them, by their inode numbers; nothing of any where nobody
    /// looked.
    pub held: HashMap<NonZeroU32, Held>,
    /// Of the processes that were asked for because they held stuck sockets, those that have ended.
    pub gone: HashSet<NonZeroU32>,
    /// Inode numbers of all sockets, in whatever state; `None` where nobody asked.
    pub open: Option<HashSet<u32>>,
    /// The user stack that opened a socket, by its inode number; a socket opened before the start has none. `None` without `--stacks`.
    pub opened_at: Option<HashMap<NonZeroU32, StackId>>,
    /// Those stacks, as people know them; of one that is missing no more is known.
    pub stacks: HashMap<StackId, Stack>,
    /// Sockets left out, for there were too many.
    pub left_out: u64,
}
