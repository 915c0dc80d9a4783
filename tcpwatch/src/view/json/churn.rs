//! `churn` as JSON: `tcpwatch.churn/1`, one object per interval, followed by one per finding.

use std::io::{self, Write};
use std::num::NonZeroU32;

use serde::Serialize;

use super::lifetime::Lifetime;
use super::owner_group::GroupObject;
use super::{finding, line};
use crate::detect::finding::Finding;
use crate::input::counter::Counter;
use crate::input::histogram::Histogram;
use crate::model::burst::Burst;
use crate::model::churn::time_wait_by::{LocalEnd, TimeWaitBy};
use crate::model::churn::{ChurnFrame, Opener, Route};
use crate::model::ending::{Ending, EndingCounts};
use crate::model::frame::Frame;
use crate::model::owner_group::OwnerGroup;
use crate::model::ports::row::{Limit, Row};
use crate::model::stat::TimeWait;
use crate::view::View;
use crate::view::timestamp::rfc3339;

/// One object per interval, and one per finding.
#[derive(Debug)]
pub struct Json;

/// One interval.
#[derive(Serialize)]
struct ChurnObject<'a> {
    schema: &'static str,
    time: String,
    interval_s: f64,
    by: &'static str,
    owners: Vec<OwnerObject<'a>>,
    peers: Vec<PeerObject<'a>>,
    other: Option<Sums>,
    routes_evicted: u64,
    failed: Failed,
    bursts: Vec<BurstObject<'a>>,
    burst_going: Option<BurstObject<'a>>,
    burst_openers_evicted: u64,
    ports: Option<Vec<PortsObject>>,
    ports_evicted: Option<u64>,
    ports_left_out: Option<u64>,
    time_wait: TimeWait,
    time_wait_by: TimeWaitByObject<'a>,
    accept_queues: AcceptQueues,
    lost: u64,
    unknown_owners: u64,
}

/// A process of this host that opens connections, or a group of them; null where the process is unknown.
#[derive(Serialize)]
struct OwnerObject<'a> {
    owner: Option<GroupObject<'a>>,
    #[serde(flatten)]
    sums: Sums,
    destinations: Vec<DestinationObject>,
}

/// A peer that opens connections to this host.
#[derive(Serialize)]
struct PeerObject<'a> {
    netns: Option<NonZeroU32>,
    remote: String,
    #[serde(flatten)]
    sums: Sums,
    destinations: Vec<LocalDestinationObject<'a>>,
}

#[derive(Serialize)]
struct Sums {
    opened: u64,
    failed: u64,
    time_wait: u64,
    lifetime_ns: Lifetime,
}

#[derive(Serialize)]
struct DestinationObject {
    netns: Option<NonZeroU32>,
    remote: String,
    rport: u16,
    opened: u64,
    failed: u64,
    time_wait: u64,
}

#[derive(Serialize)]
struct LocalDestinationObject<'a> {
    netns: Option<NonZeroU32>,
    local: String,
    lport: u16,
    opened: u64,
    time_wait: u64,
    listener: Option<GroupObject<'a>>,
    owners: Vec<ProcessCount<'a>>,
}

/// Connections that left a timewait socket on this host, by three properties. The lists leave out `other`; the list of processes leaves
/// out `other_processes`, too.
#[derive(Serialize)]
struct TimeWaitByObject<'a> {
    lport: Vec<PortCount>,
    peer: Vec<PeerCount>,
    process: Vec<ProcessCount<'a>>,
    other: u64,
    other_processes: u64,
}

/// Connections of a local port; null stands for all connections that this host opened from ephemeral ports.
#[derive(Serialize)]
struct PortCount {
    netns: Option<NonZeroU32>,
    lport: Option<u16>,
    time_wait: u64,
}

/// Connections with a peer; the port is null where the peer opened them.
#[derive(Serialize)]
struct PeerCount {
    netns: Option<NonZeroU32>,
    remote: String,
    rport: Option<u16>,
    time_wait: u64,
}

/// Connections of a process of this host, or of a group of them; null where the process is unknown.
#[derive(Serialize)]
struct ProcessCount<'a> {
    owner: Option<GroupObject<'a>>,
    time_wait: u64,
}

impl<'a> ProcessCount<'a> {
    fn list(counts: impl IntoIterator<Item = (Option<&'a OwnerGroup>, u64)>) -> Vec<Self> {
        let objects = counts.into_iter().map(|(owner, time_wait)| Self {
            owner: owner.map(GroupObject),
            time_wait,
        });
        objects.collect()
    }
}

impl<'a> From<&'a TimeWaitBy> for TimeWaitByObject<'a> {
    fn from(by: &'a TimeWaitBy) -> Self {
        let ports = by.lport.iter().copied();
        let peers = by.peer.iter().copied();
        Self {
            lport: ports
                .map(|(LocalEnd { port, netns }, time_wait)| PortCount {
                    netns,
                    lport: port,
                    time_wait,
                })
                .collect(),
            peer: peers
                .map(|(remote, time_wait)| PeerCount {
                    netns: remote.netns,
                    remote: remote.address.to_string(),
                    rport: remote.port,
                    time_wait,
                })
                .collect(),
            process: ProcessCount::list(by.process.iter().map(|(owner, count)| (owner.as_ref(), *count))),
            other: by.other,
            other_processes: by.other_processes,
        }
    }
}

/// Failed connects, by how they failed.
#[derive(Serialize)]
struct Failed {
    total: u64,
    refused: u64,
    timeout_connect: u64,
    unreachable: u64,
    no_port: u64,
    connect_abandoned: u64,
    other: u64,
}

#[derive(Serialize)]
struct BurstObject<'a> {
    start: String,
    end: Option<String>,
    opened: u64,
    peak_per_s: u64,
    owner: Option<GroupObject<'a>>,
    /// The peer and the network namespace that it connects to; null if a process of this host opened the connections.
    remote: Option<String>,
    netns: Option<NonZeroU32>,
}

#[derive(Serialize)]
struct PortsObject {
    netns: Option<NonZeroU32>,
    source: String,
    /// Null for ports that `bind()` takes, whatever their destination.
    destination: Option<String>,
    used: u64,
    time_wait: u64,
    range: Option<u32>,
    free: Option<u64>,
    /// How long TIME_WAIT holds a port before it can be reused.
    time_wait_held_ms: Option<u32>,
    opened_per_s: f64,
    growth_per_s: Option<f64>,
    exhausted_in_s: Option<f64>,
    exhausted_limit: Option<&'static str>,
}

#[derive(Serialize)]
struct AcceptQueues {
    overflows: Option<u64>,
    drops: Option<u64>,
    syn_drops: Option<u64>,
}

impl From<EndingCounts> for Failed {
    fn from(counts: EndingCounts) -> Self {
        let total = counts.total();
        let [refused, timeout_connect, unreachable, no_port, connect_abandoned] = [
            Ending::Refused,
            Ending::TimeoutConnect,
            Ending::Unreachable,
            Ending::NoPort,
            Ending::ConnectAbandoned,
        ]
        .map(|ending| counts.get(ending));
        Self {
            total,
            refused,
            timeout_connect,
            unreachable,
            no_port,
            connect_abandoned,
            other: total - refused - timeout_connect - unreachable - no_port - connect_abandoned,
        }
    }
}

impl Sums {
    /// Adds up `routes`, which have one opener.
    fn add_up<'a>(routes: impl Iterator<Item = &'a Route>) -> Self {
        let mut lifetime = Histogram::default();
        let (mut opened, mut failed, mut time_wait) = (0, 0, 0);
        for route in routes {
            opened += route.tally.opened;
            failed += route.tally.failed.total();
            time_wait += route.tally.time_wait;
            lifetime.merge(&route.tally.lifetime);
        }
        Self {
            opened,
            failed,
            time_wait,
            lifetime_ns: Lifetime::from(&lifetime),
        }
    }
}

impl<'a> BurstObject<'a> {
    fn new(frame: &ChurnFrame, burst: &'a Burst<Opener>) -> Self {
        Self {
            start: rfc3339(frame.time(burst.start_ns)),
            end: burst.end_ns.map(|end| rfc3339(frame.time(end))),
            opened: burst.opened,
            peak_per_s: burst.peak_per_s,
            owner: burst.owner.as_ref().and_then(Opener::group).map(GroupObject),
            remote: match &burst.owner {
                Some(Opener::Peer { address, .. }) => Some(address.to_string()),
                _ => None,
            },
            netns: burst.owner.as_ref().and_then(Opener::netns),
        }
    }
}

impl PortsObject {
    fn new(netns: Option<NonZeroU32>, row: &Row) -> Self {
        Self {
            netns,
            source: row.ends.source.to_string(),
            destination: row.ends.destination.map(|to| to.to_string()),
            used: row.used,
            time_wait: row.time_wait,
            range: row.range,
            free: row.free,
            time_wait_held_ms: row.held_ms,
            opened_per_s: row.opened_per_s,
            growth_per_s: row.growth_per_s,
            exhausted_in_s: row.exhausted_in_s,
            exhausted_limit: row.limit.map(Limit::key),
        }
    }
}

/// The openers of `routes`, each once, in the order of `routes`: the busiest first.
fn openers(routes: &[Route]) -> Vec<&Opener> {
    let mut openers = Vec::new();
    for route in routes.iter().filter(|route| route.destination.is_some()) {
        if !openers.contains(&&route.opener) {
            openers.push(&route.opener);
        }
    }
    openers
}

impl View for Json {
    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.churn else {
            return Ok(());
        };
        let (mut owners, mut peers) = (Vec::new(), Vec::new());
        for opener in openers(&frame.routes) {
            let routes_of_opener = || {
                let routes = frame.routes.iter().filter(move |route| route.opener == *opener);
                routes.filter_map(|route| Some((route, route.destination?)))
            };
            let sums = Sums::add_up(routes_of_opener().map(|(route, _)| route));
            match opener {
                Opener::Here(group) => owners.push(OwnerObject {
                    owner: group.as_ref().map(GroupObject),
                    sums,
                    destinations: routes_of_opener()
                        .map(|(route, to)| DestinationObject {
                            netns: to.netns,
                            remote: to.address.to_string(),
                            rport: to.port,
                            opened: route.tally.opened,
                            failed: route.tally.failed.total(),
                            time_wait: route.tally.time_wait,
                        })
                        .collect(),
                }),
                Opener::Peer { address, netns } => peers.push(PeerObject {
                    netns: *netns,
                    remote: address.to_string(),
                    sums,
                    destinations: routes_of_opener()
                        .map(|(route, to)| LocalDestinationObject {
                            netns: to.netns,
                            local: to.address.to_string(),
                            lport: to.port,
                            opened: route.tally.opened,
                            time_wait: route.tally.time_wait,
                            listener: route.tally.served.listener().map(GroupObject),
                            owners: ProcessCount::list(route.tally.served.processes()),
                        })
                        .collect(),
                }),
            }
        }
        let time_wait_by = TimeWaitBy::from_routes(&frame.routes);
        let counter = |counter| frame.stat.counters.get(counter);
        let object = ChurnObject {
            schema: "tcpwatch.churn/1",
            time: rfc3339(frame.stat.time),
            interval_s: frame.stat.interval_s,
            by: frame.by.key(),
            owners,
            peers,
            other: frame
                .routes
                .iter()
                .find(|route| route.destination.is_none())
                .map(|route| Sums::add_up(std::iter::once(route))),
            routes_evicted: frame.routes_evicted,
            failed: frame.failed().into(),
            bursts: frame
                .bursts
                .iter()
                .map(|burst| BurstObject::new(frame, burst))
                .collect(),
            burst_going: frame.going.as_ref().map(|burst| BurstObject::new(frame, burst)),
            burst_openers_evicted: frame.burst_openers_evicted,
            ports: frame.ports.as_ref().map(|rows| {
                rows.iter()
                    .map(|row| PortsObject::new(frame.ports_netns, row))
                    .collect()
            }),
            ports_evicted: frame.ports_evicted,
            ports_left_out: frame.ports_left_out,
            time_wait: frame.stat.time_wait,
            time_wait_by: (&time_wait_by).into(),
            accept_queues: AcceptQueues {
                overflows: counter(Counter::ListenOverflows),
                drops: counter(Counter::ListenDrops),
                syn_drops: counter(Counter::TcpReqQFullDrop),
            },
            lost: frame.lost,
            unknown_owners: frame.unknown_owners,
        };
        line::write(out, &object)?;
        findings
            .iter()
            .try_for_each(|finding| finding::write(finding, frame.stat.time, out))
    }
}
