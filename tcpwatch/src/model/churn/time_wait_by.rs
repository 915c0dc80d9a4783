//! Whose the timewait sockets are that an interval made.

use std::hash::Hash;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::{Opener, Route};
use crate::input::owner::Process;

/// The other end of a connection: its port where it is the one connected to, `None` where it is a peer's, chosen for it.
pub type Peer = (IpAddr, Option<u16>);

/// Connections that ended in a timewait socket on this side, counted three ways; the most first, and none of which there are
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimeWaitBy {
    /// By local port; `None` for the ports of all connections opened here, which are chosen for them.
    pub lport: Vec<(Option<u16>, u64)>,
    /// By peer.
    pub peer: Vec<(Peer, u64)>,
    /// By the process here that has the connection; `None` where nobody knows which.
    pub process: Vec<(Option<Process>, u64)>,
    /// Those in none of the lists, for there were too many to tell apart.
    pub other: u64,
    /// Those missing from the list by process besides.
    pub other_processes: u64,
}

impl TimeWaitBy {
    /// Those of `routes`.
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
            match route.opener {
                Opener::Here(_) | Opener::Named(_) => {
                    add(&mut lports, None, count);
                    add(&mut peers, (to.address.ip, Some(to.port)), count);
                    add(&mut processes, route.opener.process(), count);
                }
                Opener::Peer(address) => {
                    add(&mut lports, Some(to.port), count);
                    add(&mut peers, (address, None), count);
                    for (process, count) in route.tally.served.processes() {
                        add(&mut processes, process, count);
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
