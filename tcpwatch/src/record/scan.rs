//! Columns of scans of stuck sockets, and of the stacks that opened them.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::{HashMap, HashSet};
use tcpwatch_common::TcpState;

use super::columns::{column_as, column_names, column_struct};
use crate::input::owner::{Owner, Process};
use crate::input::socket::{Address, Detail, Family, Kind, Retransmissions, Socket};
use crate::input::socket_owner::{Holder, Unseen};
use crate::input::socket_scan::{AcceptQueue, ScannedSocket, SocketHolders, SocketScan};
use crate::input::stacks::{Stack, StackFrame, StackId, Unnamed, Why};

impl Kind {
    const ALL: [Self; 3] = [Self::Full, Self::Request, Self::Timewait];

    const fn key(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Request => "request",
            Self::Timewait => "timewait",
        }
    }
}

column_names!(Kind: Kind::ALL, Kind::key);
column_struct!(Socket {
    family: Family,
    state: TcpState,
    kind: Option<Kind>,
    local: Address,
    lport: u16,
    remote: Address,
    rport: u16,
    uid: Option<u32>,
    inode: Option<NonZeroU32>,
    netns: u32,
});
column_struct!(Retransmissions { times: u8, backoff: u8, rto_us: u32, since_first_ms: Option<u32> });
column_struct!(Detail {
    socket: Socket,
    cookie: Option<NonZeroU64>,
    receive_queue: Option<u32>,
    send_queue: Option<u32>,
    last_ack_ms: Option<u32>,
    last_sent_ms: Option<u32>,
    last_received_ms: Option<u32>,
    retransmissions: Option<Retransmissions>,
    drops: Option<u32>,
});
column_struct!(Holder { process: Process, fds: Vec<u32> });
column_struct!(AcceptQueue { queued: u64, limit: u64, owner: Option<Owner> });
column_struct!(ScannedSocket {
    detail: Detail,
    process: Option<Owner>,
    holders: Vec<Holder>,
    awaited: Option<AcceptQueue>,
});
column_struct!(SocketHolders { process: Option<Owner>, holders: Vec<Holder> });
column_struct!(Unseen {
    sockets: u64,
    processes: usize,
    hidden: bool,
    descriptors: u64,
    root_sees_more: bool
});

/// A stack in columns.
pub(crate) struct StackRow {
    frames: Vec<StackFrame>,
    caller_known: bool,
    /// Why it could not be followed to its end.
    unfinished: Option<Why>,
}

column_names!(Why: Why::ALL, Why::key);
column_names!(Unnamed: Unnamed::ALL, Unnamed::key);
column_as!(StackId as u64, |id| id.0, |number| Ok(StackId(number)));
column_struct!(StackFrame {
    function: Option<String>,
    module: Option<String>,
    address: Option<u64>,
    file: Option<String>,
    line: Option<u32>,
    unnamed: Option<Unnamed>,
});
column_struct!(StackRow { frames: Vec<StackFrame>, caller_known: bool, unfinished: Option<Why> });
column_as!(
    Stack as StackRow,
    |stack| StackRow {
        frames: stack.frames.clone(),
        caller_known: stack.caller_known,
        unfinished: stack.finished.err(),
    },
    |row| Ok(Stack {
        frames: row.frames,
        caller_known: row.caller_known,
        finished: row.unfinished.map_or(Ok(()), Err),
    })
);
column_struct!(SocketScan {
    started_ns: u64,
    ended_ns: u64,
    namespaces: BTreeMap<u32, Option<String>>,
    sockets: Vec<ScannedSocket>,
    listeners: HashSet<(u32, u16)>,
    unseen: Option<Unseen>,
    held: HashMap<NonZeroU32, SocketHolders>,
    exited: HashSet<NonZeroU32>,
    open: Option<HashSet<u32>>,
    opened_at: Option<HashMap<NonZeroU32, StackId>>,
    stacks: HashMap<StackId, Stack>,
    left_out: u64,
});
