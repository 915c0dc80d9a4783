//! What reaches the model: decoded transitions, and everything else a source may say.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use jiff::Timestamp;
use tcpwatch_common::event::{DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE};
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{TcpState, Transition};

use crate::model::socket::{Address, Family};

/// Who opened a connection (RFC 9293, section 3.10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This side called `connect()`.
    Active,
    /// The peer did.
    Passive,
}

impl Opened {
    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// One transition of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, ns since the Unix epoch.
    pub unix_ns: i64,
    /// Number of this life of the socket, unique within one run; `None` where the kernel refused to remember it.
    pub id: Option<NonZeroU64>,
    /// The socket's cookie, as `ss -e` shows it.
    pub cookie: Option<NonZeroU64>,
    /// Address family.
    pub family: Family,
    /// Local address.
    pub local: Address,
    /// Local port; `None` where none is chosen yet.
    pub lport: Option<NonZeroU16>,
    /// Remote address.
    pub remote: Address,
    /// Remote port; `None` for a listener.
    pub rport: Option<NonZeroU16>,
    /// State left.
    pub from: TcpState,
    /// State entered.
    pub to: TcpState,
    /// Who opened the connection; `None` where that was not seen.
    pub opened: Option<Opened>,
    /// Time spent in `from`, ns; `None` for a birth, and where the start was not seen.
    pub dwell_ns: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
}

impl Event {
    /// Reads a record of the kernel side; `to_unix_ns` is added to its time. `None` for bytes that are no record.
    #[must_use]
    pub fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        let record: Transition = bytemuck::pod_read_unaligned(bytes.get(..size_of::<Transition>())?);
        let family = Family::from_kernel(record.family)?;
        Some(Self {
            unix_ns: record.time_ns.cast_signed().wrapping_add(to_unix_ns),
            id: NonZeroU64::new(record.id),
            cookie: NonZeroU64::new(record.cookie),
            family,
            local: Address::new(family.address(record.local), record.ifindex),
            lport: NonZeroU16::new(record.lport),
            remote: Address::new(family.address(record.remote), record.ifindex),
            rport: NonZeroU16::new(record.rport),
            from: TcpState::from_kernel(record.from)?,
            to: TcpState::from_kernel(record.to)?,
            opened: match record.opened {
                OPENED_ACTIVE => Some(Opened::Active),
                OPENED_PASSIVE => Some(Opened::Passive),
                _ => None,
            },
            dwell_ns: (record.dwell_ns != DWELL_UNKNOWN).then_some(record.dwell_ns),
            netns: NonZeroU32::new(record.netns),
        })
    }
}

/// The ledger's counts at one moment, summed over the CPUs, all since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSample {
    /// Transitions, `moves[from][to]` by the kernel's state numbers.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets in each state now, by the kernel's state numbers.
    pub sockets: [i64; STATES],
    /// Records that found no room.
    pub lost: u64,
    /// Runs of the kernel side that the kernel skipped; `None` where it does not count them.
    pub missed: Option<u64>,
    /// Sockets that took no mark, by which the counts may be off.
    pub unmarked: u64,
    /// How far the counts were from a walk of the sockets, beyond what the transitions during the walk explain; `None` where
    /// they were not compared since the last reading.
    pub drift: Option<u64>,
}

/// The kernel's own counters of TIME_WAIT; `None` for what this kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitCounters {
    /// Timewait sockets made since some moment (`TcpExt:TW` + `TWKilled`, since Linux 5.18).
    pub entered: Option<u64>,
    /// Timewait sockets refused since then (`TcpExt:TCPTimeWaitOverflow`).
    pub refused: Option<u64>,
    /// Timewait sockets now, those in `FIN_WAIT2` included (sockstat `tw`).
    pub population: Option<u64>,
    /// Most there may be (`tcp_max_tw_buckets`).
    pub limit: Option<u64>,
}

/// Whatever a source says. The live kernel, a recording and a test all speak it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The ledger, read.
    Ledger(Box<LedgerSample>),
    /// Sockets that fire no transitions (requests, timewait), counted.
    Sockets(Box<Pass>),
    /// The kernel's counters, read.
    HostFacts(TimeWaitCounters),
    /// All that came since the last tick belongs to this moment.
    Tick {
        /// Time of day.
        time: Timestamp,
        /// The clock that never jumps, ns.
        monotonic_ns: u64,
    },
}
