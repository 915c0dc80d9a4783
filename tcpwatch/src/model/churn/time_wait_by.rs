//! Counts the timewait sockets of an interval by local port, by peer and by process.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use super::{Opener, Route};
use crate::model::owner_group::OwnerGroup;

/// The local end of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalEnd {
    /// The port that peers connect to; `None` for all connections opened here, whose ports connect(2) chooses.
    pub port: Option<u16>,
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
}

/// The remote end of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteEnd {
    /// Its address.
    pub address: IpAddr,
    /// The port that is connected to; `None` for all connections that the peer opened.
    pub port: Option<u16>,
    /// Inode number of the network namespace here.
    pub netns: Option<NonZeroU32>,
}

/// Connections that ended in a timewait socket here, counted three ways. Each list starts with the largest count, and has no zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitBy {
    /// By local end.
    pub lport: Vec<(LocalEnd, u64)>,
    /// By remote end.
    pub peer: Vec<(RemoteEnd, u64)>,
    /// By the process here that has the connection; `None` if it is unknown.
    pub process: Vec<(Option<OwnerGroup>, u64)>,
    /// Connections in none of the lists: there was no room for their opener and destination.
    pub other: u64,
    /// More connections that are not in the list by process: there was no room for their process.
    pub other_processes: u64,
}

impl TimeWaitBy {
    /// Counts the timewait sockets of `routes`.
    #[must_use]
    pub fn from_routes(routes: &[Route]) -> Self {
        let (mut lports, mut peers, mut processes) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (mut other, mut other_processes) = (0, 0);
        for route in routes {
            let count = route.tally.time_wait;
            let Some(to) = route.destination else {
                other += count;
                continue;
            };
            let netns = to.netns;
            match &route.opener {
                Opener::Here(group) => {
                    add(&mut lports, LocalEnd { port: None, netns }, count);
                    let peer = RemoteEnd {
                        address: to.address.ip,
                        port: Some(to.port),
                        netns,
                    };
                    add(&mut peers, peer, count);
                    add(&mut processes, group.clone(), count);
                }
                Opener::Peer { address, .. } => {
                    let port = Some(to.port);
                    add(&mut lports, LocalEnd { port, netns }, count);
                    let peer = RemoteEnd {
                        address: *address,
                        port: None,
                        netns,
                    };
                    add(&mut peers, peer, count);
                    for (process, count) in route.tally.served.processes() {
                        add(&mut processes, process.cloned(), count);
                    }
                    other_processes += route.tally.served.beyond();
                }
            }
        }
        Self {
            lport: sorted(lports),
            peer: sorted(peers),
            process: sorted(processes),
            other,
            other_processes,
        }
    }
}

fn add<K: Eq + Hash>(counts: &mut HashMap<K, u64>, key: K, count: u64) {
    if count > 0 {
        *counts.entry(key).or_default() += count;
    }
}

fn sorted<K: Ord>(counts: HashMap<K, u64>) -> Vec<(K, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts
}
