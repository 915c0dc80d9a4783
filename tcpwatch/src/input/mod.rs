//! What reaches the model: decoded transitions, and everything else a source may say.

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
use self::owner::{Comm, How, Owner};
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
    /// When, by the clock that never jumps, ns.
    pub monotonic_ns: u64,
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
    /// Whether `bind()` had given it its local port before `connect()` was called; `None` where that was not seen.
    pub bound: Option<bool>,
    /// Time spent in `from`, ns; `None` for a birth, and where the start was not seen.
    pub dwell_ns: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
    /// Whose it is; `None` where that is not known.
    pub owner: Option<Owner>,
    /// Inode number of the socket, where it has one and its owner is not known, or where it ends in `CLOSE_WAIT` or `FIN_WAIT2`.
    pub inode: Option<NonZeroU32>,
    /// What is known of its end, at `*>CLOSE`.
    pub evidence: Option<Evidence>,
}

/// A finished connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its last transition.
    pub last: Event,
    /// Time spent in each state, ns, as [`SPENT`] orders them; 0 for one it was not in, or that nobody saw it enter: time is
    /// counted from one transition to the next, so that the state it was first seen in has none.
    pub spent_ns: [u64; SPENT.len()],
    /// What it carried; `None` where the kernel does not tell.
    pub traffic: Option<Traffic>,
    /// Who closed it, where that is not the owner.
    pub closer: Option<Owner>,
}

/// What a connection carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of payload sent, each once, acknowledged or not.
    pub sent: u64,
    /// Bytes of payload received.
    pub received: u64,
    /// Smoothed round-trip time (RFC 6298), us; `None` when never measured.
    pub srtt_us: Option<u32>,
    /// Segments sent again, SYN and SYN-ACK too.
    pub retransmits: u32,
}

/// What the stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A transition.
    Transition(Event),
    /// A finished connection.
    Connection(Connection),
    /// What is known of the end of the life with this number now.
    Amendment(NonZeroU64, Evidence),
}

impl Record {
    /// Reads a record of the kernel side, which tells its kind by its size; `to_unix_ns` is added to its time. `None` for bytes
    /// that are no record.
    #[must_use]
    pub fn decode(bytes: &[u8], to_unix_ns: i64) -> Option<Self> {
        const TRANSITION: usize = size_of::<Transition>();
        const LIFE: usize = size_of::<event::Connection>();
        const AMENDMENT: usize = size_of::<event::Amendment>();
        // The ring's records are rounded up to eight bytes, which these are already.
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

    /// The states it is known how long it was in, and that time, ns.
    pub fn spent(&self) -> impl Iterator<Item = (TcpState, u64)> {
        SPENT
            .into_iter()
            .zip(self.spent_ns)
            .filter(|(_, ns)| *ns > 0)
            .filter_map(|(number, ns)| Some((TcpState::from_kernel(number)?, ns)))
    }

    /// Time from the opening to the end, ns; `None` where it was not seen whole.
    #[must_use]
    pub fn lifetime_ns(&self) -> Option<u64> {
        let first = match self.last.opened? {
            Opened::Active => TcpState::SynSent,
            Opened::Passive => TcpState::SynRecv,
        };
        // Time is remembered apart from the opening, and the kernel may have refused room for it until later.
        self.spent().find(|(state, _)| *state == first)?;
        Some(self.spent_ns.iter().fold(0, |sum, ns| sum.saturating_add(*ns)))
    }

    /// When it was opened, ns since the Unix epoch; `None` where that was not seen.
    #[must_use]
    pub fn opened_unix_ns(&self) -> Option<i64> {
        Some(self.last.unix_ns.saturating_sub_unsigned(self.lifetime_ns()?))
    }
}

/// Bytes of payload sent, each once.
///
/// The kernel's own count has what this host's queue refused at every try, its sequence numbers have the SYN and the FIN
/// (RFC 9293, section 3.4). Where it was not seen who opened the connection, and so whether a SYN is among them, the two
/// differ by it, and the smaller is right.
fn sent(record: &event::Connection) -> u64 {
    let syn = record.last.opened == OPENED_ACTIVE;
    let closed_here = matches!(
        TcpState::from_kernel(record.last.from),
        Some(TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
    );
    // The FIN is the last there is to send.
    let fin = closed_here && record.unsent == 0;
    let numbers = record.bytes_acked + u64::from(record.in_flight);
    record
        .bytes_sent
        .min(numbers.saturating_sub(u64::from(syn) + u64::from(fin)))
}

/// An owner as the kernel side has it.
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
    /// The inode number of the socket, if its owner is unknown: /proc may show the process that holds it.
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

/// The ledger's counts at one moment, summed over the CPUs, all since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSample {
    /// Transitions, `moves[from][to]` by the kernel's state numbers.
    pub moves: [[u64; STATES]; STATES],
    /// Full sockets in each state now, by the kernel's state numbers.
    pub sockets: [i64; STATES],
    /// Connections ended, by what is known of it.
    pub ends: Vec<(Evidence, i64)>,
    /// Those there was no place for in `ends`.
    pub uncounted_ends: u64,
    /// Records that found no room.
    pub lost: u64,
    /// Runs of the kernel side that the kernel skipped; `None` where it does not count them.
    pub missed: Option<u64>,
    /// Resets that were not heard of; `None` where that is not known.
    pub missed_resets: Option<u64>,
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
    /// Timewait sockets an outgoing connection took over since then (`TcpExt:TWRecycled`).
    pub recycled: Option<u64>,
    /// Timewait sockets gone since then, for whatever reason: those that entered and are not there. No counter of the kernel's
    /// tells of one ended by an incoming SYN, a reset or an administrator.
    pub left: Option<u64>,
    /// Timewait sockets now, those in `FIN_WAIT2` included (sockstat `tw`).
    pub population: Option<u64>,
    /// Most there may be (`tcp_max_tw_buckets`); `None` where there are several namespaces, each with a limit of its own.
    pub limit: Option<u64>,
    /// The namespace that is nearest to its limit.
    pub fullest: Option<FullestNamespace>,
}

/// The timewait sockets of the network namespace that is nearest to its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullestNamespace {
    /// Its inode number.
    pub netns: u32,
    /// How many there are, whatever the filter (sockstat `tw`).
    pub population: u64,
    /// Most there may be (`tcp_max_tw_buckets`).
    pub limit: u64,
}

impl FullestNamespace {
    /// The fuller one.
    #[must_use]
    pub fn or(self, other: Option<Self>) -> Self {
        // a/b < c/d without a division.
        let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
        other
            .filter(|other| product(other.population, self.limit) > product(self.population, other.limit))
            .unwrap_or(self)
    }
}

/// Sockets that no process holds any more and that have not ended yet, of the whole host; `None` for what this kernel does not
/// tell, or not in this network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    /// How many there are (sockstat `orphan`).
    pub now: Option<u64>,
    /// Most there may be (`tcp_max_orphans`).
    pub limit: Option<u64>,
    /// Memory that all TCP sockets hold, pages (sockstat `mem`).
    pub mem_pages: Option<u64>,
}

/// What the kernel itself says of TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// TIME_WAIT, of the connections looked at.
    pub time_wait: TimeWaitCounters,
    /// Counters since some moment, summed over the namespaces looked at, whatever the filter.
    pub counters: CounterValues,
    /// Orphans now.
    pub orphans: Orphans,
    /// By what settings half-open connections are bounded.
    pub syn: SynSettings,
    /// The network namespace looked at; `None` where it is not one alone.
    pub namespace: Option<Namespace>,
}

/// Settings of the network namespace that bound half-open connections; `None` is unknown, or not one namespace's.
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
    /// When the walk ended, by the clock that never jumps, ns.
    pub monotonic_ns: u64,
    /// By what settings.
    pub settings: Settings,
    /// Who holds them.
    pub walk: Walk,
}

/// What is known when a run starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// When it started, by the clock that never jumps, ns.
    pub monotonic_ns: u64,
    /// What the kernel's numbers for the reasons of resets mean.
    pub reasons: Reasons,
    /// Resets that were missed so far; `None` where resets are not watched.
    pub missed_resets: Option<u64>,
    /// Whether transitions tell their network namespace.
    pub knows_namespaces: bool,
    /// Whether transitions are read at all.
    pub watches: bool,
}

/// What did not reach the stream of records since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Records that found no room, or could not be read.
    pub lost: u64,
    /// Resets that were missed; `None` where resets are not watched.
    pub missed_resets: Option<u64>,
    /// Whether all records that there were had been read before this was.
    pub emptied: bool,
}

/// What the kernel side counted from the start to the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndCounts {
    /// Transitions, `moves[from][to]` by the kernel's state numbers.
    pub moves: [[u64; STATES]; STATES],
    /// Records that found no room, or could not be read.
    pub lost: u64,
    /// Events of the whole host that no program handled; `None` where the kernel does not count them.
    pub missed: Option<u64>,
    /// Rows that the reader of the output did not take in time.
    pub dropped: u64,
}

/// A fact: all that the model ever learns. The live kernel, a recording and a test all speak it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first: what is known when the run starts.
    Session(Box<Session>),
    /// A transition.
    Transition(Event),
    /// A finished connection.
    Connection(Connection),
    /// What is known by now of how a connection ended.
    CloseAmended {
        /// Number of the life.
        id: NonZeroU64,
        /// What is known.
        evidence: Evidence,
    },
    /// The answer to the question that each record raises which has an inode number and no owner: who holds the socket.
    SocketOwner {
        /// The socket.
        inode: NonZeroU32,
        /// Its holder; `None` where that cannot be known.
        owner: Option<Owner>,
    },
    /// The cgroup of a process that a record names.
    CgroupPath {
        /// The process.
        owner: Owner,
        /// Its cgroup; `None` where that cannot be known.
        cgroup: Option<Arc<Cgroup>>,
    },
    /// What the stream of records has lost.
    Loss(Loss),
    /// The ledger, read.
    Ledger(Box<LedgerSample>),
    /// Sockets that fire no transitions (requests, timewait), counted.
    Sockets(Box<Pass>),
    /// The kernel's counters, read.
    HostFacts(Box<HostFacts>),
    /// The ephemeral ports, walked.
    Ports(Box<PortsSample>),
    /// Listeners that dropped something since the last interval, and how much, the most first.
    ListenerDrops(Vec<Listener>),
    /// A scan of the sockets in states that should pass begins: what leaves from now on is not there any more when it ends.
    ScanStart {
        /// Whether it is what later scans are compared with.
        is_base: bool,
    },
    /// What the scan found, as of the last tick.
    SocketScan {
        /// The sockets, and who holds them.
        scan: Box<SocketScan>,
        /// Events of the whole host that no program handled so far; `None` where the kernel does not count them.
        missed: Option<u64>,
    },
    /// Latency histograms, read.
    Latency(Box<LatencySample>),
    /// All that came since the last tick belongs to this moment.
    Tick {
        /// Time of day.
        time: Timestamp,
        /// The clock that never jumps, ns.
        monotonic_ns: u64,
    },
    /// The last tick ended an interval. The first such interval is what the later ones are compared with.
    IntervalEnd,
    /// No record comes any more, and no answer to one.
    StreamEnd,
    /// The last: what was counted in all.
    End(Box<EndCounts>),
}

#[cfg(test)]
impl Event {
    /// A transition of which nothing else is known.
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
