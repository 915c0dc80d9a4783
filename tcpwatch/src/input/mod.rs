//! The facts that reach the model: transitions and everything else that a source emits.

pub mod connection;
pub mod container;
pub mod counter;
pub mod escaped;
pub mod histogram;
pub mod host;
pub mod host_facts;
pub mod latency;
pub mod listener;
pub mod namespace;
pub mod needs;
pub mod netns_selector;
pub mod owner;
pub mod ports;
pub mod record;
pub mod release;
pub mod reset_reasons;
pub mod setting;
pub mod setting_defaults;
pub mod socket;
pub mod socket_owner;
pub mod socket_scan;
pub mod stacks;

use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;

use jiff::Timestamp;
use tcpwatch_common::Evidence;
use tcpwatch_common::ledger::{Pass, STATES};

pub use self::connection::{Connection, Opened, Traffic, Transition};
use self::container::Cgroup;
pub use self::host_facts::{FullestNamespace, HostFacts, Orphans, SynSettings, TimeWaitCounters};
use self::latency::LatencySample;
use self::listener::Listener;
use self::namespace::NamespaceNames;
use self::owner::{Owner, UnknownOwner};
use self::ports::settings::Settings;
use self::ports::walk::Walk;
pub use self::record::Record;
use self::reset_reasons::Reasons;
use self::socket_scan::SocketScan;

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

/// The ephemeral ports of a network namespace, as a walk of its sockets found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortsSample {
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
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
    /// Records that were left out since the start because their owners are unknown, while the run asks for some.
    pub unknown_owners: u64,
    /// Whether the ring buffer was read to its end. All records made until the next [`Input::Tick`], whose time is from before that
    /// reading, are known then.
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
    /// Records that were left out for their owners before they reached the model and the recording.
    pub unmatched: u64,
}

/// A fact. The model learns nothing in any other way, whether the source is the live kernel, a recording or a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The first input: facts that are known at the start.
    Session(Box<Session>),
    /// A transition.
    Transition(Transition),
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
    /// Lost records, after a reading of the stream.
    Loss(Loss),
    /// A sample of the ledger.
    Ledger(Box<LedgerSample>),
    /// Counts of the sockets that fire no transitions (request and timewait sockets).
    Sockets(Box<Pass>),
    /// A sample of the kernel's counters.
    HostFacts(Box<HostFacts>),
    /// The ephemeral ports in use; `None` if they are not walked: there are several namespaces, which have separate ports.
    Ports(Option<Box<PortsSample>>),
    /// The names of the network namespaces, if several are watched; again where they have changed.
    NamespaceNames(NamespaceNames),
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
    /// The time of all inputs since the last tick; after a reading of the stream the time at which that began.
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

impl Input {
    /// The transition of a record: of a finished connection the last one. `None` if it is no record.
    #[must_use]
    pub const fn event(&self) -> Option<&Transition> {
        match self {
            Self::Transition(event) => Some(event),
            Self::Connection(connection) => Some(&connection.last),
            _ => None,
        }
    }

    /// The same, to be completed.
    #[must_use]
    pub const fn event_mut(&mut self) -> Option<&mut Transition> {
        match self {
            Self::Transition(event) => Some(event),
            Self::Connection(connection) => Some(&mut connection.last),
            _ => None,
        }
    }
}
