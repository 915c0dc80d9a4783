//! The facts that reach the model: transitions and everything else that a source emits.

pub mod container;
pub mod counter;
pub mod escaped;
pub mod histogram;
pub mod host;
pub mod latency;
pub mod listener;
pub mod namespace;
pub mod needs;
pub mod netns_selector;
pub mod owner;
pub mod ports;
pub mod release;
pub mod reset_reasons;
pub mod setting;
pub mod socket;
pub mod socket_owner;
pub mod socket_scan;
pub mod stacks;

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::sync::Arc;

use jiff::Timestamp;
use tcpwatch_common::event::{self, DWELL_UNKNOWN, OPENED_ACTIVE, OPENED_PASSIVE, PORT_BOUND, PORT_CHOSEN, SPENT};
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::owner::{HOW_ACCEPT, HOW_CLOSE, HOW_CONNECT, HOW_LISTEN};
use tcpwatch_common::{Evidence, TcpState, Transition};

use self::container::Cgroup;
use self::counter::CounterValues;
use self::latency::LatencySample;
use self::listener::Listener;
use self::namespace::Namespace;
use self::owner::{Comm, How, Owner, UnknownOwner};
use self::ports::settings::Settings;
use self::ports::walk::Walk;
use self::reset_reasons::Reasons;
use self::socket::{Address, Family};
use self::socket_scan::SocketScan;

/// Who opened a connection (RFC 9293, section 3.10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This side called `connect()`.
    Active,
    /// The peer called `connect()`.
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
    /// Time of the transition, ns since the Unix epoch.
    pub unix_ns: i64,
    /// Time of the transition, `CLOCK_MONOTONIC` in ns.
    pub monotonic_ns: u64,
    /// Connection number, unique within one run; `None` if the kernel had no room to keep it.
    pub id: Option<NonZeroU64>,
    /// The socket's cookie, as `ss -e` shows it.
    pub cookie: Option<NonZeroU64>,
    /// Address family.
    pub family: Family,
    /// Local address.
    pub local: Address,
    /// Local port; `None` if not chosen yet.
    pub lport: Option<NonZeroU16>,
    /// Remote address.
    pub remote: Address,
    /// Remote port; `None` for a listener.
    pub rport: Option<NonZeroU16>,
    /// State left.
    pub from: TcpState,
    /// State entered.
    pub to: TcpState,
    /// Which side opened the connection; `None` if tcpwatch did not see it.
    pub opened: Option<Opened>,
    /// Whether the socket had its local port from `bind()` before `connect()`; `None` if tcpwatch did not see it.
    pub bound: Option<bool>,
    /// Time spent in `from`, ns; `None` for a new connection, and if tcpwatch did not see the start.
    pub dwell_ns: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
    /// The owner of the socket; `None` if unknown.
    pub owner: Option<Owner>,
    /// Inode number of the socket, if it has one and its owner is unknown, or if it ends in `CLOSE_WAIT` or `FIN_WAIT2`.
    pub inode: Option<NonZeroU32>,
    /// Evidence of how the connection ended, at `*>CLOSE`.
    pub evidence: Option<Evidence>,
}

/// A finished connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The last transition.
    pub last: Event,
    /// Time spent in each state, ns, in the order of [`SPENT`]. 0 if the connection was not in the state, or if tcpwatch did
    /// not see it enter: the first state seen has no time.
    pub spent_ns: [u64; SPENT.len()],
    /// Bytes and segments; `None` if the kernel does not show them.
    pub traffic: Option<Traffic>,
    /// The process that closed it, if that is not the owner.
    pub closer: Option<Owner>,
}

/// Bytes and segments of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Payload bytes sent, without retransmissions, acknowledged or not.
    pub sent: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Smoothed round-trip time (RFC 6298), us; `None` if never measured.
    pub srtt_us: Option<u32>,
    /// Retransmitted segments, including SYN and SYN-ACK.
    pub retransmits: u32,
}

/// A record of the ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A transition.
    Transition(Event),
    /// A finished connection.
    Connection(Connection),
    /// New evidence for the end of the connection with this number.
    Amendment(NonZeroU64, Evidence),
}

impl Record {
    /// Decodes a record of the kernel side. The size of `bytes` determines the kind; `to_unix_ns` is added to the time. `None`
    /// if `bytes` is not a record.
    #[must_use]
    pub fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        const TRANSITION: usize = size_of::<Transition>();
        const LIFE: usize = size_of::<event::Connection>();
        const AMENDMENT: usize = size_of::<event::Amendment>();
        // The ring buffer rounds records up to eight bytes; these sizes are multiples of eight.
        match bytes.len() {
            TRANSITION => Event::decode(bytes, to_unix_ns).map(Self::Transition),
            LIFE => Connection::decode(bytes, to_unix_ns).map(Self::Connection),
            AMENDMENT => {
                let record: event::Amendment = bytemuck::pod_read_unaligned(bytes);
                Some(Self::Amendment(NonZeroU64::new(record.id)?, record.evidence))
            }
            _ => None,
        }
    }
}

impl Connection {
    fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        let record: event::Connection = bytemuck::pod_read_unaligned(bytes);
        let traffic = Traffic {
            sent: sent(&record),
            received: record.bytes_received,
            srtt_us: (record.srtt_us != 0).then_some(record.srtt_us),
            retransmits: record.retransmits,
        };
        Some(Self {
            last: Event::of(&record.last, to_unix_ns)?,
            spent_ns: record.spent_ns,
            traffic: (record.counted != 0).then_some(traffic),
            closer: NonZeroU32::new(record.closer_pid).map(|pid| Owner {
                pid: Some(pid),
                comm: Comm::new(&record.closer_comm),
                how: How::Close,
                cgroup: None,
            }),
        })
    }

    /// The states with a known time, and that time, ns.
    pub fn spent(&self) -> impl Iterator<Item = (TcpState, u64)> {
        SPENT
            .into_iter()
            .zip(self.spent_ns)
            .filter(|(_, ns)| *ns > 0)
            .filter_map(|(number, ns)| Some((TcpState::from_kernel(number)?, ns)))
    }

    /// Time from the opening to the end, ns; `None` if tcpwatch did not see all of it.
    #[must_use]
    pub fn lifetime_ns(&self) -> Option<u64> {
        let first = match self.last.opened? {
            Opened::Active => TcpState::SynSent,
            Opened::Passive => TcpState::SynRecv,
        };
        // The kernel side may have had no room to keep the times when the connection opened.
        self.spent().find(|(state, _)| *state == first)?;
        Some(self.spent_ns.iter().fold(0, |sum, ns| sum.saturating_add(*ns)))
    }

    /// When the connection opened, ns since the Unix epoch; `None` if tcpwatch did not see it.
    #[must_use]
    pub fn opened_unix_ns(&self) -> Option<i64> {
        Some(self.last.unix_ns.saturating_sub_unsigned(self.lifetime_ns()?))
    }
}

/// Payload bytes sent, without retransmissions.
///
/// The kernel's `bytes_sent` counts data again for each try that this host's queue refused. Its sequence numbers include the
/// SYN and the FIN (RFC 9293, section 3.4). If tcpwatch did not see which side opened the connection, a SYN may be included;
/// the smaller of the two values is right.
fn sent(record: &event::Connection) -> u64 {
    let syn = record.last.opened == OPENED_ACTIVE;
    let closed_here = matches!(
        TcpState::from_kernel(record.last.from),
        Some(TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
    );
    // The FIN is sent last, so it is sent if nothing is unsent.
    let fin = closed_here && record.unsent == 0;
    let numbers = record.bytes_acked + u64::from(record.in_flight);
    record
        .bytes_sent
        .min(numbers.saturating_sub(u64::from(syn) + u64::from(fin)))
}

/// Converts an owner from its wire form; `None` if unknown.
fn owner(record: &tcpwatch_common::Owner) -> Option<Owner> {
    let how = match record.how {
        HOW_CONNECT => How::Connect,
        HOW_LISTEN => How::Listen,
        HOW_ACCEPT => How::Accept,
        HOW_CLOSE => How::Close,
        _ => return None,
    };
    Some(Owner {
        pid: NonZeroU32::new(record.pid),
        comm: Comm::new(&record.comm),
        how,
        cgroup: NonZeroU64::new(record.cgroup),
    })
}

impl Event {
    /// The inode number of the socket, if its owner must be looked up in /proc.
    #[must_use]
    pub fn asks_owner(&self) -> Option<NonZeroU32> {
        self.inode.filter(|_| self.owner.is_none())
    }

    fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        Self::of(&bytemuck::pod_read_unaligned(bytes), to_unix_ns)
    }

    fn of(record: &Transition, to_unix_ns: i64) -> Option<Self> {
        let family = Family::from_kernel(record.family)?;
        Some(Self {
            unix_ns: record.time_ns.cast_signed().wrapping_add(to_unix_ns),
            monotonic_ns: record.time_ns,
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
            bound: match record.port {
                PORT_CHOSEN => Some(false),
                PORT_BOUND => Some(true),
                _ => None,
            },
            dwell_ns: (record.dwell_ns != DWELL_UNKNOWN).then_some(record.dwell_ns),
            netns: NonZeroU32::new(record.netns),
            owner: owner(&record.owner),
            inode: NonZeroU32::new(record.inode),
            evidence: (record.to == TcpState::Close.number()).then_some(record.evidence),
        })
    }
}

/// The counts of the ledger at one moment, summed over the CPUs, since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSample {
    /// Transitions, `moves[from][to]` by the kernel's state numbers.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets currently in each state, by the kernel's state numbers.
    pub sockets: [i64; STATES],
    /// Finished connections, by evidence.
    pub ends: Vec<(Evidence, i64)>,
    /// Finished connections without room in `ends`.
    pub uncounted_ends: u64,
    /// Records lost because the ring buffer was full.
    pub lost: u64,
    /// Runs of the BPF programs that the kernel skipped; `None` if it does not count them.
    pub missed: Option<u64>,
    /// Missed resets; `None` if unknown.
    pub missed_resets: Option<u64>,
    /// Sockets without a mark; the counts may be wrong by as many.
    pub unmarked: u64,
    /// Difference between the counts and a walk of the sockets, beyond the transitions during the walk; `None` if they were not
    /// compared since the last sample.
    pub drift: Option<u64>,
}

/// The kernel's counters of TIME_WAIT; `None` if this kernel does not show one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitCounters {
    /// Timewait sockets created (`TcpExt:TW` + `TWKilled`, since Linux 5.18). Counted from an arbitrary start, as the next
    /// three.
    pub entered: Option<u64>,
    /// Timewait sockets refused (`TcpExt:TCPTimeWaitOverflow`).
    pub refused: Option<u64>,
    /// Timewait sockets reused by an outgoing connection (`TcpExt:TWRecycled`).
    pub recycled: Option<u64>,
    /// Timewait sockets that ended, for any reason: entered minus current. The kernel has no counter for an end by an incoming
    /// SYN, a reset or an administrator.
    pub left: Option<u64>,
    /// Current timewait sockets, including those in `FIN_WAIT2` (sockstat `tw`).
    pub population: Option<u64>,
    /// The limit (`tcp_max_tw_buckets`); `None` for several namespaces, because each has its own limit.
    pub limit: Option<u64>,
    /// The namespace that is nearest to its limit.
    pub fullest: Option<FullestNamespace>,
}

/// The timewait sockets of the network namespace that is nearest to its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullestNamespace {
    /// Inode number of the namespace.
    pub netns: u32,
    /// Current timewait sockets, regardless of the filter (sockstat `tw`).
    pub population: u64,
    /// The limit (`tcp_max_tw_buckets`).
    pub limit: u64,
}

impl FullestNamespace {
    /// The fuller of the two namespaces.
    #[must_use]
    pub fn or(self, other: Option<Self>) -> Self {
        // a/b < c/d without a division.
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        other
            .filter(|other| product(other.population, self.limit) > product(self.population, other.limit))
            .unwrap_or(self)
    }
}

/// Orphans of the whole host: sockets that no process holds and that have not ended. `None` if this kernel or this network
/// namespace does not show a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// Current orphans (sockstat `orphan`).
    pub now: Option<u64>,
    /// The limit (`tcp_max_orphans`).
    pub limit: Option<u64>,
    /// Memory of all TCP sockets, pages (sockstat `mem`).
    pub mem_pages: Option<u64>,
}

/// TCP counters and settings of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// TIME_WAIT of the watched namespaces.
    pub time_wait: TimeWaitCounters,
    /// Counters from an arbitrary start, summed over the watched namespaces, regardless of the filter.
    pub counters: CounterValues,
    /// Current orphans.
    pub orphans: Orphans,
    /// Settings that limit half-open connections.
    pub syn: SynSettings,
    /// The watched network namespace; `None` if there are several.
    pub namespace: Option<Namespace>,
}

/// Settings of the network namespace that limit half-open connections; `None` if unknown, or if there are several namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynSettings {
    /// `tcp_syncookies`.
    pub cookies: Option<u64>,
    /// `tcp_max_syn_backlog`.
    pub max_backlog: Option<u64>,
}

/// The ephemeral ports of a network namespace, as a walk of its sockets found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsSample {
    /// End of the walk, `CLOCK_MONOTONIC` in ns.
    pub monotonic_ns: u64,
    /// The port settings of the namespace.
    pub settings: Settings,
    /// The sockets that hold the ports.
    pub walk: Walk,
}

/// Facts about a run that are known at its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Start of the run, `CLOCK_MONOTONIC` in ns.
    pub monotonic_ns: u64,
    /// The meaning of the kernel's numbers for reset reasons.
    pub reasons: Reasons,
    /// Resets missed so far; `None` if resets are not watched.
    pub missed_resets: Option<u64>,
    /// Whether transitions carry their network namespace.
    pub knows_namespaces: bool,
    /// Whether transitions are read at all.
    pub watches: bool,
}

/// Records that were lost since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records without room in the ring buffer, or unreadable.
    pub lost: u64,
    /// Missed resets; `None` if resets are not watched.
    pub missed_resets: Option<u64>,
    /// Whether the ring buffer was empty when these counts were read.
    pub emptied: bool,
}

/// Totals of the kernel side for the whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndCounts {
    /// Transitions, `moves[from][to]` by the kernel's state numbers.
    pub moves: [[u64; STATES]; STATES],
    /// Records without room in the ring buffer, or unreadable.
    pub lost: u64,
    /// Events of the whole host that no program handled; `None` if the kernel does not count them.
    pub missed: Option<u64>,
    /// Rows that the reader of the output did not take in time.
    pub dropped: u64,
}

/// A fact. The model learns nothing in any other way, whether the source is the live kernel, a recording or a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first input: facts that are known at the start.
    Session(Box<Session>),
    /// A transition.
    Transition(Event),
    /// A finished connection.
    Connection(Connection),
    /// New evidence of how a connection ended.
    CloseAmended {
        /// Connection number.
        id: NonZeroU64,
        /// The complete evidence.
        evidence: Evidence,
    },
    /// The process that holds a socket. Each record with an inode number and without an owner gets one such answer, and so does
    /// each listener with drops.
    Owner {
        /// Inode number of the socket.
        inode: NonZeroU32,
        /// The holder, or why it is unknown.
        owner: Result<Owner, UnknownOwner>,
    },
    /// The cgroup of a process that a record names: the answer to the question that each such process raises.
    CgroupPath {
        /// The process.
        owner: Owner,
        /// Its cgroup; `None` if it cannot be found.
        cgroup: Option<Arc<Cgroup>>,
    },
    /// Lost records.
    Loss(Loss),
    /// A sample of the ledger.
    Ledger(Box<LedgerSample>),
    /// Counts of the sockets that fire no transitions (request and timewait sockets).
    Sockets(Box<Pass>),
    /// A sample of the kernel's counters.
    HostFacts(Box<HostFacts>),
    /// The ephemeral ports in use.
    Ports(Box<PortsSample>),
    /// Listeners that dropped packets since the last interval, and how many, the most first. Unknown owners follow.
    ListenerDrops(Vec<Listener>),
    /// A scan of the sockets in transient states starts. A socket that leaves its state from now on may be missing in the scan.
    ScanStart {
        /// Whether later scans are compared with this one.
        is_base: bool,
    },
    /// The result of the scan, as of the last tick.
    SocketScan {
        /// The sockets and their holders.
        scan: Box<SocketScan>,
        /// Events of the whole host that no program handled so far; `None` if the kernel does not count them.
        missed: Option<u64>,
    },
    /// A sample of the latency histograms.
    Latency(Box<LatencySample>),
    /// The time of all inputs since the last tick.
    Tick {
        /// Wall-clock time.
        time: Timestamp,
        /// `CLOCK_MONOTONIC` in ns.
        monotonic_ns: u64,
    },
    /// The last tick ended an interval. The first interval is the base for the later ones.
    IntervalEnd,
    /// No records and no owners follow.
    StreamEnd,
    /// The last input: the totals.
    End(Box<EndCounts>),
}

#[cfg(test)]
impl Event {
    /// A transition without any other facts.
    pub(crate) fn between(from: TcpState, to: TcpState) -> Self {
        let address = Address::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
        Self {
            unix_ns: 0,
            monotonic_ns: 0,
            id: None,
            cookie: None,
            family: Family::Ipv4,
            local: address,
            lport: None,
            remote: address,
            rport: None,
            from,
            to,
            opened: None,
            bound: None,
            dwell_ns: None,
            netns: None,
            owner: None,
            inode: None,
            evidence: None,
        }
    }
}
