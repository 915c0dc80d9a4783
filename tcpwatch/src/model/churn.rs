//! Which processes and peers open connections, how long these live, and what they cost.

mod by_name;
mod routes;
pub mod served;
pub mod time_wait_by;

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use jiff::Timestamp;
use tcpwatch_common::TcpState;

use routes::Routes;
use served::Served;

use super::burst::{Burst, BurstTracker, Grouped};
use super::ending::{Ending, EndingCounts};
use super::filter::Filter;
use super::ports::row::Row;
use super::ports::table::PortUse;
use super::stat::StatFrame;
use crate::input::histogram::Histogram;
use crate::input::listener::Listener;
use crate::input::owner::{Comm, Process};
use crate::input::ports::ends::Port;
use crate::input::ports::settings::Settings;
use crate::input::socket::{Address, Family};
use crate::input::{Connection, Opened, PortsSample, Traffic, Transition};

/// The opener of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opener {
    /// A process here; `None` if it is unknown.
    Here(Option<Process>),
    /// Several processes here that have this name.
    Named(Comm),
    /// A peer elsewhere.
    Peer {
        /// Its address.
        address: IpAddr,
        /// Inode number of the network namespace that it connects to: equal addresses may be two hosts for two namespaces.
        netns: Option<NonZeroU32>,
    },
}

impl Opener {
    /// The process here, without a PID if there are several; `None` if it is unknown, or if the opener is a peer.
    #[must_use]
    pub const fn process(self) -> Option<Process> {
        match self {
            Self::Here(process) => process,
            Self::Named(comm) => Some(Process { pid: None, comm }),
            Self::Peer { .. } => None,
        }
    }

    /// Inode number of the network namespace that a peer connects to; `None` if unknown, and for processes here.
    #[must_use]
    pub const fn netns(self) -> Option<NonZeroU32> {
        match self {
            Self::Here(_) | Self::Named(_) => None,
            Self::Peer { netns, .. } => netns,
        }
    }
}

impl Grouped for Opener {
    /// All processes of its name.
    fn group(self) -> Self {
        match self {
            Self::Here(Some(process)) => Self::Named(process.comm),
            other => other,
        }
    }
}

/// The end that an opener connects to: the remote end of a connection opened here, the local end of one that a peer opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// Inode number of the network namespace that the connection is in: equal addresses of two are not the same place.
    pub netns: Option<NonZeroU32>,
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for Opener {
    /// `nginx[812]`, `nginx[*]`, `10.0.3.17`, or `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here(Some(process)) => process.fmt(f),
            Self::Here(None) => f.write_str("?"),
            Self::Named(comm) => write!(f, "{comm}[*]"),
            Self::Peer { address, .. } => address.fmt(f),
        }
    }
}

impl fmt::Display for Destination {
    /// `10.0.0.9:6379`, `[::1]:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.ip {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.port),
            IpAddr::V6(_) => write!(f, "[{}]:{}", self.address, self.port),
        }
    }
}

/// What connections carried, each in the direction that carried less. That is little for a small request with a large answer, and for
/// a large request with a small answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Connections whose traffic is known.
    pub connections: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl Exchanged {
    fn add(&mut self, traffic: Traffic) {
        self.connections += 1;
        self.bytes = self.bytes.saturating_add(traffic.sent.min(traffic.received));
    }

    /// Bytes per connection, on average; `None` if the traffic of none is known.
    #[must_use]
    pub const fn mean(&self) -> Option<u64> {
        self.bytes.checked_div(self.connections)
    }
}

/// What one opener did with one destination in an interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Connections established.
    pub opened: u64,
    /// Connections that were never established, by how they failed; kinds of [`Ending`] that are no failure to connect are 0.
    pub failed: EndingCounts,
    /// Connections that ended in a timewait socket here, if the kernel had room for it.
    pub time_wait: u64,
    /// Lifetimes of the connections that ended in the interval, from the opening to the end.
    pub lifetime: Histogram,
    /// What the same connections carried.
    pub exchanged: Exchanged,
    /// The processes here that serve them, if a peer opened them.
    pub served: Served,
}

impl Tally {
    /// Adds what `other` counted, except `served`.
    fn merge(&mut self, other: &Self) {
        self.opened = self.opened.saturating_add(other.opened);
        self.failed += other.failed;
        self.time_wait = self.time_wait.saturating_add(other.time_wait);
        self.lifetime.merge(&other.lifetime);
        self.exchanged.connections = self.exchanged.connections.saturating_add(other.exchanged.connections);
        self.exchanged.bytes = self.exchanged.bytes.saturating_add(other.exchanged.bytes);
    }
}

/// One line of churn.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The opener; unknown for the sum of the evicted ones.
    pub opener: Opener,
    /// The end that it connects to; `None` for the sum of the evicted ones.
    pub destination: Option<Destination>,
    /// The counts.
    pub tally: Tally,
}

/// One interval.
#[derive(Clone, Debug, PartialEq)]
pub struct ChurnFrame {
    /// The host's own numbers of the interval.
    pub stat: StatFrame,
    /// The openers and destinations, the busiest first.
    pub routes: Vec<Route>,
    /// The same with many processes of one name merged into one opener.
    pub by_name: Vec<Route>,
    /// Bursts that ended in the interval.
    pub bursts: Vec<Burst<Opener>>,
    /// The burst that goes on.
    pub going: Option<Burst<Opener>>,
    /// Openers evicted since the start: a burst of one of them may have no owner.
    pub burst_openers_evicted: u64,
    /// What to add to a burst's monotonic time for Unix time, ns.
    pub to_unix_ns: i64,
    /// Ephemeral ports, the destination nearest to exhaustion first; `None` if they are not walked.
    pub ports: Option<Vec<Row>>,
    /// Inode number of the network namespace of the ports; `None` if it is unknown, or as `ports`.
    pub ports_netns: Option<NonZeroU32>,
    /// Destinations and source addresses evicted since the walks began; `None` as `ports`.
    pub ports_evicted: Option<u64>,
    /// Sockets that the last walk left out for want of room; `None` as `ports`.
    pub ports_left_out: Option<u64>,
    /// Listeners with the packets that they dropped in the interval, the most first.
    pub dropping: Vec<Listener>,
    /// Pairs of opener and destination that were evicted, and are counted together.
    pub routes_evicted: u64,
    /// Records lost since the start.
    pub lost: u64,
}

/// The ephemeral ports of the namespace `netns`, since the first walk.
#[derive(Debug)]
struct WalkedPorts {
    netns: Option<NonZeroU32>,
    in_use: PortUse,
}

/// Counts connections as they open and end, and gives a frame for each interval.
#[derive(Debug)]
pub struct Churn {
    /// The filter that the connections passed.
    filter: Filter,
    routes: Routes,
    /// The end of the interval that is over, and its routes, until all of its records are known.
    over: Option<(u64, Routes)>,
    bursts: BurstTracker<Opener>,
    /// The bursts that ended since the last frame: one in two seconds at most.
    ended_bursts: Vec<Burst<Opener>>,
    /// The ports of the namespace that is walked; `None` while none is.
    ports: Option<WalkedPorts>,
    /// The listeners of the interval that ends.
    dropping: Vec<Listener>,
}

impl Churn {
    /// Nothing known yet, from `monotonic_ns` on. All connections are counted.
    #[must_use]
    pub fn new(monotonic_ns: u64) -> Self {
        Self::filtered(Filter::default(), monotonic_ns)
    }

    /// The same where only the connections come that pass `filter`.
    #[must_use]
    pub fn filtered(filter: Filter, monotonic_ns: u64) -> Self {
        Self {
            filter,
            routes: Routes::default(),
            over: None,
            bursts: BurstTracker::new(monotonic_ns),
            ended_bursts: Vec::new(),
            ports: None,
            dropping: Vec::new(),
        }
    }

    /// A connection was established.
    pub fn opened(&mut self, event: &Transition) {
        if event.to != TcpState::Established {
            return;
        }
        let Some((opener, destination)) = route(event).filter(|_| !self.is_counted_by_local_opener(event)) else {
            return;
        };
        let tally = self
            .routes_at(event.monotonic_ns)
            .active(opener, destination, event.monotonic_ns);
        tally.opened += 1;
        if matches!(opener, Opener::Peer { .. }) {
            tally.served.opened(event.owner.map(Process::from));
        }
        self.bursts.opened(opener, event.monotonic_ns);
        if let Some((ports, port)) = self.ports_of(event) {
            ports.opened(&port, event.monotonic_ns);
        }
    }

    /// A connection ended, with this ending.
    pub fn ended(&mut self, life: &Connection, ending: Ending) {
        let last = &life.last;
        let Some((opener, destination)) = route(last) else {
            return;
        };
        let connecting = last.from == TcpState::SynSent;
        let timewait = ending.timewait().is_some();
        let lifetime = life.lifetime_ns();
        let tally = self
            .routes_at(last.monotonic_ns)
            .active(opener, destination, last.monotonic_ns);
        tally.time_wait += u64::from(timewait);
        if matches!(opener, Opener::Peer { .. }) {
            tally.served.ended(last.owner.map(Process::from), timewait);
        }
        match lifetime {
            _ if connecting => tally.failed.add(ending, 1),
            Some(ns) => tally.lifetime.record(ns),
            None => tally.lifetime.record_unknown(),
        }
        if let Some(traffic) = life.traffic.filter(|_| !connecting) {
            tally.exchanged.add(traffic);
        }
        if let Some((ports, port)) = self.ports_of(last) {
            if connecting {
                // It held its port from the SYN on, but no record came before this one.
                ports.opened(&port, last.monotonic_ns);
            }
            if timewait {
                ports.time_wait(&port, last.monotonic_ns);
            } else {
                ports.freed(&port, last.monotonic_ns);
            }
        }
    }

    /// It is `monotonic_ns`, and all connections that were opened until then are known. Call it every second or more often.
    pub fn tick(&mut self, monotonic_ns: u64) {
        self.ended_bursts.extend(self.bursts.tick(monotonic_ns));
    }

    /// The routes of the interval that `monotonic_ns` is in.
    fn routes_at(&mut self, monotonic_ns: u64) -> &mut Routes {
        match &mut self.over {
            Some((end_ns, routes)) if monotonic_ns <= *end_ns => routes,
            _ => &mut self.routes,
        }
    }

    /// Takes the result of a walk of the ports; `None` if they are walked no more, and unknown from now on.
    pub fn walked(&mut self, sample: Option<PortsSample>) {
        let Some(sample) = sample else {
            self.ports = None;
            return;
        };
        let before = self.ports.take().filter(|ports| ports.netns == sample.netns);
        let ports = self.ports.insert(before.unwrap_or_else(|| WalkedPorts {
            netns: sample.netns,
            in_use: PortUse::new(Settings::default()),
        }));
        ports.in_use.set(sample.settings);
        ports.in_use.walk(sample.walk, sample.monotonic_ns);
    }

    /// Whether the opening is counted at the other end of the connection: that end is on this host too, and passes the filter.
    ///
    /// A connection from an address of this host to another one is not recognized, and counted at both ends. Endings are counted at each
    /// end, for each may have a TIME_WAIT of its own.
    fn is_counted_by_local_opener(&self, event: &Transition) -> bool {
        let [local, remote] = [event.local, event.remote].map(|address| address.ip.to_canonical());
        // A client of a socket for both families has an IPv4 socket.
        let family = if remote.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        let port = |port: Option<NonZeroU16>| port.map_or(0, NonZeroU16::get);
        event.opened == Some(Opened::Passive)
            && (remote.is_loopback() || event.remote == event.local)
            && self
                .filter
                .matches_ends(family, (remote, port(event.rport)), (local, port(event.lport)))
    }

    /// The port that the connection of `event` uses, and the ports that it is one of; `None` if these are not walked.
    fn ports_of(&mut self, event: &Transition) -> Option<(&mut PortUse, Port)> {
        let port = port(event)?;
        let ports = self.ports.as_mut()?;
        let is_elsewhere = event.netns.is_some() && ports.netns.is_some() && event.netns != ports.netns;
        (!is_elsewhere).then_some((&mut ports.in_use, port))
    }

    /// Takes the listeners that dropped something in the interval that ends, and how much.
    pub fn dropped(&mut self, listeners: Vec<Listener>) {
        self.dropping = listeners;
    }

    /// Ends the interval at `monotonic_ns`, and begins a new one. Records of the old interval may still come: [`Self::take_routes`] takes
    /// its routes when all of them are known.
    pub fn end_interval(&mut self, monotonic_ns: u64) {
        self.tick(monotonic_ns);
        self.over = Some((monotonic_ns, std::mem::take(&mut self.routes)));
    }

    /// The routes of the interval that is over, in no order, and how many openers and destinations made room for others.
    pub fn take_routes(&mut self) -> (Vec<Route>, u64) {
        self.over
            .take()
            .map_or_else(Default::default, |(_, mut routes)| routes.take())
    }

    /// A whole interval, which ends now.
    #[cfg(test)]
    pub(crate) fn frame(&mut self, stat: StatFrame, unix_ns: i64, monotonic_ns: u64, lost: u64) -> ChurnFrame {
        self.end_interval(monotonic_ns);
        let mut frame = self.frame_without_routes(stat, unix_ns, monotonic_ns, lost);
        frame.set_routes(self.take_routes());
        frame
    }

    /// What there is to show of the interval that ended now, at `unix_ns` and `monotonic_ns`, apart from its routes. `stat` has the
    /// host's numbers of the same interval.
    pub fn frame_without_routes(&mut self, stat: StatFrame, unix_ns: i64, monotonic_ns: u64, lost: u64) -> ChurnFrame {
        let ports = self.ports.as_ref().map(|ports| &ports.in_use);
        ChurnFrame {
            stat,
            by_name: Vec::new(),
            routes: Vec::new(),
            bursts: std::mem::take(&mut self.ended_bursts),
            going: self.bursts.going(),
            burst_openers_evicted: self.bursts.evicted(),
            to_unix_ns: unix_ns.wrapping_sub_unsigned(monotonic_ns),
            ports: ports.map(|ports| ports.rows(monotonic_ns)),
            ports_netns: self.ports.as_ref().and_then(|ports| ports.netns),
            ports_evicted: ports.map(PortUse::evicted),
            ports_left_out: ports.map(PortUse::left_out),
            dropping: std::mem::take(&mut self.dropping),
            routes_evicted: 0,
            lost,
        }
    }
}

impl ChurnFrame {
    /// Sets the routes, and how many openers and destinations made room for others.
    pub fn set_routes(&mut self, (mut routes, evicted): (Vec<Route>, u64)) {
        routes.sort_by(busiest_first);
        self.by_name = by_name::by_name(&routes);
        self.routes = routes;
        self.routes_evicted = evicted;
    }

    /// The time of the monotonic `ns`.
    #[must_use]
    pub fn time(&self, ns: u64) -> Timestamp {
        let unix = self.to_unix_ns.wrapping_add_unsigned(ns);
        Timestamp::from_nanosecond(unix.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Whether the connections are in several network namespaces.
    #[must_use]
    pub fn has_namespaces(&self) -> bool {
        super::are_several(self.routes.iter().filter_map(|route| route.destination?.netns))
    }

    /// Failed connects of all openers, by how they failed.
    #[must_use]
    pub fn failed(&self) -> EndingCounts {
        let mut failed = EndingCounts::default();
        for route in &self.by_name {
            failed += route.tally.failed;
        }
        failed
    }

    /// Connections that all openers opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.by_name
            .iter()
            .fold(0, |sum, route| sum.saturating_add(route.tally.opened))
    }
}

/// The busiest first, and the sum of the evicted ones last.
fn busiest_first(a: &Route, b: &Route) -> Ordering {
    let weight = |route: &Route| {
        let tally = &route.tally;
        (tally.opened.saturating_add(tally.failed.total()), tally.time_wait)
    };
    let is_sum = |route: &Route| route.destination.is_none();
    let by_weight = weight(b).cmp(&weight(a));
    let sum_last = is_sum(a).cmp(&is_sum(b));
    sum_last
        .then(by_weight)
        .then_with(|| (a.opener, a.destination).cmp(&(b.opener, b.destination)))
}

/// The opener and destination of the connection of `event`; `None` if its opening was not seen.
fn route(event: &Transition) -> Option<(Opener, Destination)> {
    match event.opened? {
        Opened::Active => {
            let process = event.owner.map(Process::from);
            let destination = Destination {
                netns: event.netns,
                address: event.remote,
                port: event.rport?.get(),
            };
            Some((Opener::Here(process), destination))
        }
        Opened::Passive => {
            let destination = Destination {
                netns: event.netns,
                address: event.local,
                port: event.lport?.get(),
            };
            let opener = Opener::Peer {
                address: event.remote.ip,
                netns: event.netns,
            };
            Some((opener, destination))
        }
    }
}

/// The ephemeral port of the connection of `event`; `None` if a peer opened it, or if it found no port.
fn port(event: &Transition) -> Option<Port> {
    let number = event.lport?.get();
    (event.opened == Some(Opened::Active)).then_some(Port {
        source: event.local.ip.to_canonical(),
        destination: SocketAddr::new(event.remote.ip.to_canonical(), event.rport?.get()),
        number,
        bound: event.bound,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::time_wait_by::{LocalEnd, RemoteEnd, TimeWaitBy};
    use super::*;
    use crate::input::LedgerSample;
    use crate::input::histogram::bucket;
    use crate::input::owner::{Comm, How, Owner};
    use crate::input::ports::range::PortRange;
    use crate::input::ports::walk::{WALK_MAX, Walk};
    use crate::input::socket::{Kind, Socket};
    use crate::model::ports::table::ENDS_MAX;
    use crate::model::stat::Stat;
    use std::net::Ipv4Addr;

    pub(crate) fn event(opened: Opened, remote: [u8; 4], pid: u32, from: TcpState, to: TcpState) -> Transition {
        Transition {
            unix_ns: 0,
            monotonic_ns: 5,
            id: None,
            cookie: None,
            family: Family::Ipv4,
            local: Address::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0),
            lport: NonZeroU16::new(40_000),
            remote: Address::new(Ipv4Addr::from(remote).into(), 0),
            rport: NonZeroU16::new(80),
            from,
            to,
            opened: Some(opened),
            bound: None,
            dwell_ns: None,
            netns: None,
            owner: Some(Owner {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(b"app"),
                how: How::Connect,
                cgroup: None,
            }),
            inode: None,
            evidence: None,
        }
    }

    fn life(last: Transition, ns: u64) -> Connection {
        Connection {
            last,
            spent_ns: [ns - 1, 1, 0, 0, 0, 0, 0, 0],
            traffic: Some(Traffic {
                sent: 10,
                received: 5000,
                srtt_us: None,
                retransmits: 0,
            }),
            closer: None,
        }
    }

    /// The host's numbers of an interval in which nothing happened.
    pub(crate) fn stat() -> StatFrame {
        let mut stat = Stat::default();
        stat.ledger(Box::new(LedgerSample {
            moves: [[0; 16]; 16],
            sockets: [0; 16],
            ends: Vec::new(),
            uncounted_ends: 0,
            missed_resets: Some(0),
            lost: 0,
            missed: None,
            unmarked: 0,
            drift: None,
        }));
        stat.interval(Timestamp::UNIX_EPOCH, 1).unwrap()
    }

    #[test]
    fn the_busiest_opener_comes_first_with_what_it_cost() {
        use TcpState::{Close, Established, FinWait2, SynSent};
        let mut churn = Churn::new(0);
        for _ in 0..3 {
            let opened = event(Opened::Active, [10, 0, 0, 9], 7, SynSent, Established);
            churn.opened(&opened);
            churn.ended(
                &life(event(Opened::Active, [10, 0, 0, 9], 7, FinWait2, Close), 1000),
                Ending::GracefulActive,
            );
        }
        churn.ended(
            &life(event(Opened::Active, [10, 0, 0, 8], 7, SynSent, Close), 1000),
            Ending::Refused,
        );
        churn.opened(&event(
            Opened::Passive,
            [10, 0, 0, 5],
            8,
            TcpState::SynRecv,
            Established,
        ));
        churn.opened(&event(
            Opened::Passive,
            [127, 0, 0, 1],
            8,
            TcpState::SynRecv,
            Established,
        ));
        let frame = churn.frame(stat(), 100, 10, 0);
        let first = &frame.routes[0];
        assert_eq!(
            first.tally.exchanged,
            Exchanged {
                connections: 3,
                bytes: 30
            }
        );
        assert_eq!(first.tally.exchanged.mean(), Some(10));
        assert_eq!((first.tally.opened, first.tally.time_wait), (3, 3));
        assert_eq!(
            (first.tally.lifetime.count(), first.tally.lifetime.max().map(bucket)),
            (3, Some(bucket(1000)))
        );
        let openers: Vec<_> = frame.routes.iter().map(|route| route.opener).collect();
        assert!(openers.contains(&Opener::Peer {
            address: Ipv4Addr::new(10, 0, 0, 5).into(),
            netns: None
        }));
        assert_eq!(openers.len(), 3, "its other end counts what comes from here");
        assert_eq!((frame.failed().get(Ending::Refused), frame.opened()), (1, 4));
        assert_eq!(frame.time(10), Timestamp::from_nanosecond(100).unwrap());
        assert!(
            churn.frame(stat(), 0, 20, 0).routes.is_empty(),
            "an interval is shown once"
        );
    }

    #[test]
    fn an_opening_over_loopback_is_counted_once_whatever_the_filter() {
        let opened = |options: &[(&str, &str)]| {
            let mut filter = Filter::default();
            for &(option, value) in options {
                match option {
                    "lport" => filter.lport = value.parse().unwrap(),
                    "rport" => filter.rport = value.parse().unwrap(),
                    "port" => filter.port = value.parse().unwrap(),
                    _ => filter.local = vec![value.parse().unwrap()],
                }
            }
            let client = Transition {
                local: Address::new(Ipv4Addr::LOCALHOST.into(), 0),
                ..event(
                    Opened::Active,
                    [127, 0, 0, 1],
                    7,
                    TcpState::SynSent,
                    TcpState::Established,
                )
            };
            let server = Transition {
                lport: client.rport,
                rport: client.lport,
                opened: Some(Opened::Passive),
                ..client
            };
            let mut churn = Churn::filtered(filter.clone(), 0);
            for end in [client, server] {
                let port = |port: Option<NonZeroU16>| port.unwrap().get();
                let (local, remote) = ((end.local.ip, port(end.lport)), (end.remote.ip, port(end.rport)));
                if filter.matches_ends(end.family, local, remote) {
                    churn.opened(&end);
                }
            }
            churn.frame(stat(), 0, 10, 0).opened()
        };
        for filter in [
            ("lport", "80"),
            ("rport", "80"),
            ("port", "80"),
            ("local", "127.0.0.0/8"),
        ] {
            assert_eq!(opened(&[filter]), 1, "{filter:?}");
        }
        assert_eq!(opened(&[]), 1);
        assert_eq!(opened(&[("lport", "81")]), 0);
    }

    #[test]
    fn equal_peers_and_ports_of_two_namespaces_are_apart() {
        use TcpState::{Close, FinWait2, SynRecv};
        let mut churn = Churn::new(0);
        for (netns, times) in [(1, 2), (2, 5)] {
            let netns = NonZeroU32::new(netns);
            let of_peer = |from, to| Transition {
                netns,
                ..event(Opened::Passive, [10, 0, 0, 5], 8, from, to)
            };
            for _ in 0..times {
                churn.opened(&of_peer(SynRecv, TcpState::Established));
                churn.ended(&life(of_peer(FinWait2, Close), 1000), Ending::GracefulActive);
            }
        }
        let frame = churn.frame(stat(), 0, 10, 0);
        let openers: Vec<_> = frame.routes.iter().map(|route| route.opener.netns()).collect();
        let [one, two] = [1, 2].map(NonZeroU32::new);
        assert_eq!(openers, [two, one]);
        let by = TimeWaitBy::from_routes(&frame.routes);
        let lports: Vec<_> = by.lport.iter().map(|(end, count)| (end.netns, *count)).collect();
        let peers: Vec<_> = by.peer.iter().map(|(end, count)| (end.netns, *count)).collect();
        assert_eq!((lports, peers), (vec![(two, 5), (one, 2)], vec![(two, 5), (one, 2)]));
    }

    /// A connection from here to port 80 of `remote`, in TIME_WAIT.
    pub(crate) fn waiting(remote: Address, lport: u16) -> Socket {
        Socket {
            family: Family::Ipv4,
            state: TcpState::TimeWait,
            kind: Some(Kind::Timewait),
            local: Address::new(Ipv4Addr::new(10, 0, 0, 1).into(), 0),
            lport,
            remote,
            rport: 80,
            uid: None,
            inode: None,
            netns: 1,
        }
    }

    #[test]
    fn ports_that_found_no_room_are_counted() {
        let mut churn = Churn::new(0);
        let frame = churn.frame(stat(), 0, 0, 0);
        assert_eq!(
            (frame.ports_evicted, frame.ports_left_out),
            (None, None),
            "the ports are not walked"
        );
        let settings = Settings {
            range: PortRange::parse("40000 40099", ""),
            ..Settings::default()
        };
        let mut walk = Walk::default();
        for to in (0..).take(WALK_MAX + 3) {
            let remote = Address::new(Ipv4Addr::from_bits(to).into(), 0);
            walk.add(&waiting(remote, 40_000), settings.range.as_ref().unwrap());
        }
        let evicted = Some((WALK_MAX - ENDS_MAX) as u64);
        for (walk, left_out) in [(walk, 3), (Walk::default(), 0)] {
            let settings = settings.clone();
            churn.walked(Some(PortsSample {
                netns: None,
                monotonic_ns: 1_000_000_000,
                settings,
                walk,
            }));
            let frame = churn.frame(stat(), 0, 0, 0);
            assert_eq!((frame.ports_evicted, frame.ports_left_out), (evicted, Some(left_out)));
        }
    }

    /// A walk of the namespace `netns` that finds no port in use.
    fn walk(netns: u32) -> PortsSample {
        PortsSample {
            netns: NonZeroU32::new(netns),
            monotonic_ns: 0,
            settings: Settings::default(),
            walk: Walk::default(),
        }
    }

    #[test]
    fn ports_are_those_of_the_namespace_that_is_walked() {
        let mut churn = Churn::new(0);
        let opens = |churn: &mut Churn, netns| {
            churn.opened(&Transition {
                netns: NonZeroU32::new(netns),
                ..event(
                    Opened::Active,
                    [10, 0, 0, 9],
                    7,
                    TcpState::SynSent,
                    TcpState::Established,
                )
            });
        };
        let used = |churn: &mut Churn| {
            let ports = churn.frame(stat(), 0, 10, 0).ports;
            ports.map(|rows| rows.iter().map(|row| row.used).sum::<u64>())
        };
        churn.walked(Some(walk(1)));
        for (netns, times) in [(1, 2), (2, 5)] {
            (0..times).for_each(|_| opens(&mut churn, netns));
        }
        assert_eq!(churn.frame(stat(), 0, 10, 0).ports_netns, NonZeroU32::new(1));
        assert_eq!(used(&mut churn), Some(2), "a container that starts has its own ports");
        churn.walked(None);
        opens(&mut churn, 1);
        assert_eq!(used(&mut churn), None, "there are several namespaces");
        churn.walked(Some(walk(1)));
        assert_eq!(used(&mut churn), Some(0), "what came before is old");
        opens(&mut churn, 1);
        churn.walked(Some(walk(2)));
        assert_eq!(used(&mut churn), Some(0), "it is another namespace");
    }

    #[test]
    fn ports_are_followed_from_the_first_walk_on() {
        let mut churn = Churn::new(0);
        let opened = event(
            Opened::Active,
            [10, 0, 0, 9],
            7,
            TcpState::SynSent,
            TcpState::Established,
        );
        for (is_walked, rows) in [(false, None), (true, Some(1))] {
            if is_walked {
                assert!(churn.ports.is_none(), "ports that are not walked take no memory");
                churn.walked(Some(walk(1)));
            }
            churn.opened(&opened);
            let frame = churn.frame(stat(), 0, 10, 0);
            assert_eq!(frame.ports.map(|rows| rows.len()), rows);
        }
    }

    #[test]
    fn timewait_sockets_are_of_a_process_a_peer_and_a_port_on_either_side() {
        use TcpState::{Close, CloseWait, FinWait2};
        let mut churn = Churn::new(0);
        for (opened, remote, pid, times, ending) in [
            (Opened::Active, [10, 0, 0, 9], 7, 3, Ending::GracefulActive),
            (Opened::Passive, [10, 0, 0, 5], 8, 2, Ending::GracefulActive),
            (Opened::Passive, [10, 0, 0, 5], 9, 4, Ending::ClosedFirst),
            (Opened::Passive, [10, 0, 0, 6], 9, 5, Ending::GracefulPassive),
        ] {
            let from = if ending == Ending::GracefulPassive {
                CloseWait
            } else {
                FinWait2
            };
            for _ in 0..times {
                churn.ended(&life(event(opened, remote, pid, from, Close), 1000), ending);
            }
        }
        let frame = churn.frame(stat(), 0, 10, 0);
        let by = TimeWaitBy::from_routes(&frame.routes);
        let process = |pid| {
            Some(Process {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(b"app"),
            })
        };
        let local = |port| LocalEnd { port, netns: None };
        let remote = |last, port| RemoteEnd {
            address: IpAddr::from([10, 0, 0, last]),
            port,
            netns: None,
        };
        assert_eq!(
            by,
            TimeWaitBy {
                lport: vec![(local(Some(40_000)), 6), (local(None), 3)],
                peer: vec![(remote(5, None), 6), (remote(9, Some(80)), 3)],
                process: vec![(process(9), 4), (process(7), 3), (process(8), 2)],
                other: 0,
                other_processes: 0,
            }
        );
    }
}
