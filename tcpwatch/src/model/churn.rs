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
use super::cgroups::CgroupPaths;
use super::ending::{Ending, EndingCounts};
use super::filter::Filter;
use super::owner_group::OwnerGroup;
use super::ports::row::Row;
use super::ports::table::PortUse;
use super::recent::Recent;
use super::stat::StatFrame;
use crate::input::histogram::Histogram;
use crate::input::listener::Listener;
use crate::input::owner::{Owner, OwnerBy, Process};
use crate::input::ports::ends::Port;
use crate::input::ports::settings::Settings;
use crate::input::socket::Address;
use crate::input::{Connection, Opened, PortsSample, Traffic, Transition};

/// Connections opened here whose other end may still be established here, at least: that takes a moment.
const OPENED_HERE: usize = 8192;

/// The two ends of a connection, as the side that opened it has them: its own, and the other; and the network namespace, if the addresses
/// are those of its loopback device.
type Ends = (
    (IpAddr, Option<NonZeroU16>),
    (IpAddr, Option<NonZeroU16>),
    Option<NonZeroU32>,
);

/// The opener of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opener {
    /// A process here, or a group of processes; `None` if it is unknown.
    Here(Option<OwnerGroup>),
    /// A peer elsewhere.
    Peer {
        /// Its address.
        address: IpAddr,
        /// Inode number of the network namespace that it connects to: equal addresses may be two hosts for two namespaces.
        netns: Option<NonZeroU32>,
    },
}

impl Opener {
    /// The process here, or the group of processes; `None` if it is unknown, or if the opener is a peer.
    #[must_use]
    pub const fn group(&self) -> Option<&OwnerGroup> {
        match self {
            Self::Here(group) => group.as_ref(),
            Self::Peer { .. } => None,
        }
    }

    /// The process here, without a PID if there are several of its name; `None` if it is unknown, a peer, or a group of several names.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        self.group().and_then(OwnerGroup::process)
    }

    /// Inode number of the network namespace that a peer connects to; `None` if unknown, and for processes here.
    #[must_use]
    pub const fn netns(&self) -> Option<NonZeroU32> {
        match self {
            Self::Here(_) => None,
            Self::Peer { netns, .. } => *netns,
        }
    }
}

impl From<Process> for Opener {
    fn from(process: Process) -> Self {
        Self::Here(Some(process.into()))
    }
}

impl Grouped for Opener {
    /// All processes of its name.
    fn group(&self) -> Self {
        match self {
            Self::Here(group) => Self::Here(group.as_ref().map(OwnerGroup::by_name)),
            peer @ Self::Peer { .. } => peer.clone(),
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
            Self::Here(Some(group)) => group.fmt(f),
            Self::Here(None) => f.write_str("?"),
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
    /// What stands for the processes.
    pub by: OwnerBy,
    /// Whether a filter selects connections by their ends. The kernel counts entries and exits of TIME_WAIT for all connections together,
    /// so the numbers of the selected ones are unknown.
    pub is_filtered: bool,
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
    /// Records left out since the start, because their owners are unknown, and the filter asks for some.
    pub unknown_owners: u64,
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
    /// Whether the connections passed a filter on their ends.
    is_filtered: bool,
    by: OwnerBy,
    /// The ends of connections that were opened here lately: a peer's opening between the same ends is theirs.
    opened_here: Recent<Ends>,
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
        Self::filtered(&Filter::default(), OwnerBy::default(), monotonic_ns)
    }

    /// The same where only the connections come that pass `filter`, and processes are grouped `by` what they have in common.
    #[must_use]
    pub fn filtered(filter: &Filter, by: OwnerBy, monotonic_ns: u64) -> Self {
        Self {
            is_filtered: !filter.of_sockets().is_any_socket(),
            by,
            opened_here: Recent::new(OPENED_HERE),
            routes: Routes::default(),
            over: None,
            bursts: BurstTracker::new(monotonic_ns),
            ended_bursts: Vec::new(),
            ports: None,
            dropping: Vec::new(),
        }
    }

    /// A connection was established. `cgroups` has the cgroup of its owner, if that decides its group.
    pub(crate) fn opened(&mut self, event: &Transition, cgroups: &CgroupPaths) {
        if event.to != TcpState::Established || self.is_counted_at_other_end(event) {
            return;
        }
        let group = self.group(event.owner, cgroups);
        let Some((opener, destination)) = route(event, group.as_ref()) else {
            return;
        };
        let tally = self
            .routes_at(event.monotonic_ns)
            .active(opener.clone(), destination, event.monotonic_ns);
        tally.opened += 1;
        if matches!(opener, Opener::Peer { .. }) {
            tally.served.opened(group);
        }
        self.bursts.opened(opener, event.monotonic_ns);
        if let Some((ports, port)) = self.ports_of(event) {
            ports.opened(&port, event.monotonic_ns);
        }
    }

    /// A connection ended, with this ending. `cgroups` has the cgroup of its owner, if that decides its group.
    pub(crate) fn ended(&mut self, life: &Connection, ending: Ending, cgroups: &CgroupPaths) {
        let last = &life.last;
        let group = self.group(last.owner, cgroups);
        let Some((opener, destination)) = route(last, group.as_ref()) else {
            return;
        };
        let is_served = matches!(opener, Opener::Peer { .. });
        if !is_served {
            self.opened_here.remove(&ends(last));
        }
        let connecting = last.from == TcpState::SynSent;
        let timewait = ending.timewait().is_some();
        let lifetime = life.lifetime_ns();
        let tally = self
            .routes_at(last.monotonic_ns)
            .active(opener, destination, last.monotonic_ns);
        tally.time_wait += u64::from(timewait);
        if is_served {
            tally.served.ended(group, timewait);
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

    /// All connections that were opened until `known_ns` are known. Call it every second or more often.
    pub fn tick(&mut self, known_ns: u64) {
        self.ended_bursts.extend(self.bursts.tick(known_ns));
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

    /// What stands for `owner`, if that is known.
    fn group(&self, owner: Option<Owner>, cgroups: &CgroupPaths) -> Option<OwnerGroup> {
        owner.and_then(|owner| OwnerGroup::new(&owner, self.by, cgroups))
    }

    /// Whether the opening is counted at the other end of the connection: it is on this host, and was established before this end.
    ///
    /// Endings are counted at each end, for each may have a TIME_WAIT of its own.
    fn is_counted_at_other_end(&mut self, event: &Transition) -> bool {
        match event.opened {
            Some(Opened::Active) => {
                self.opened_here.insert(ends(event));
                false
            }
            Some(Opened::Passive) => {
                let (local, remote, netns) = ends(event);
                self.opened_here.remove(&(remote, local, netns))
            }
            None => false,
        }
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
        self.tick(monotonic_ns);
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
            by: self.by,
            is_filtered: self.is_filtered,
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
            unknown_owners: 0,
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
        .then_with(|| (&a.opener, a.destination).cmp(&(&b.opener, b.destination)))
}

/// The opener and destination of the connection of `event`, which is of `group`; `None` if its opening was not seen.
fn route(event: &Transition, group: Option<&OwnerGroup>) -> Option<(Opener, Destination)> {
    match event.opened? {
        Opened::Active => {
            let destination = Destination {
                netns: event.netns,
                address: event.remote,
                port: event.rport?.get(),
            };
            Some((Opener::Here(group.cloned()), destination))
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

/// The ends of the connection of `event`, its own first.
fn ends(event: &Transition) -> Ends {
    let end = |address: Address, port| (address.ip.to_canonical(), port);
    let (local, remote) = (end(event.local, event.lport), end(event.remote, event.rport));
    let netns = event.netns.filter(|_| remote.0.is_loopback());
    (local, remote, netns)
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
pub(crate) mod tests;
