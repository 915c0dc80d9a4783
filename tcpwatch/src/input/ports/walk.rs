//! The ports that a walk of all sockets finds held.

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use tcpwatch_common::TcpState;

use super::bits::PortBits;
use super::ends::Ends;
use super::range::PortRange;
use crate::input::socket::{Kind, Socket};

/// Destinations a walk counts at most, about 60 bytes each.
pub const WALK_MAX: usize = 65_536;

/// Source addresses with a set of ports of their own, at most; 16 KB each.
pub const SOURCES_MAX: usize = 256;

/// The ports that sockets hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldPorts {
    /// By destination, the one with the most ports first; destinations with few ports are left out.
    pub to: Vec<PortsHeld>,
    /// By source address, whatever the destination.
    pub of: Vec<PortsHeld>,
    /// Whether all sockets were walked. If not, more ports may be held.
    pub whole: bool,
}

/// Ports of one source address, held to one destination or to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortsHeld {
    /// The source, and the destination if it is one.
    pub ends: Ends,
    /// Number of ports.
    pub used: u64,
    /// Ports of these in `TIME_WAIT`.
    pub time_wait: u64,
}

/// Ports held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) used: u64,
    pub(crate) time_wait: u64,
}

/// Ports of one source address, each once however many connections share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) held: PortBits,
    /// Those of them not in TIME_WAIT alone.
    pub(crate) live: PortBits,
}

/// The sockets of a network namespace that hold an ephemeral port, counted as a walk finds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    pub(crate) destinations: HashMap<Ends, Held>,
    pub(crate) sources: HashMap<IpAddr, Ports>,
    pub(crate) left_out: u64,
    most: usize,
    most_sources: usize,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            destinations: HashMap::new(),
            sources: HashMap::new(),
            left_out: 0,
            most: WALK_MAX,
            most_sources: SOURCES_MAX,
        }
    }
}

impl Walk {
    /// Counts `socket`, where it has another side and a port of `range`.
    ///
    /// Connections made to a listener whose port is in the range count too: a walk does not show who opened a connection.
    pub fn add(&mut self, socket: &Socket, range: &PortRange) {
        let is_request = socket.kind == Some(Kind::Request);
        if is_request || socket.state == TcpState::Listen || socket.rport == 0 || !range.contains(socket.lport) {
            return;
        }
        // Sockets of both families share the ports of an IPv4 address.
        let source = socket.local.ip.to_canonical();
        let ends = Ends {
            source,
            destination: Some(SocketAddr::new(socket.remote.ip.to_canonical(), socket.rport)),
        };
        let waits = socket.state == TcpState::TimeWait || socket.kind == Some(Kind::Timewait);
        if self.sources.len() < self.most_sources || self.sources.contains_key(&source) {
            let ports = self.sources.entry(source).or_default();
            ports.held.insert(socket.lport);
            if !waits {
                ports.live.insert(socket.lport);
            }
        }
        if self.destinations.len() >= self.most && !self.destinations.contains_key(&ends) {
            self.left_out += 1;
            return;
        }
        let held = self.destinations.entry(ends).or_default();
        held.used += 1;
        held.time_wait += u64::from(waits);
    }

    /// Takes out the ports held between `ends`; `None` if they are unknown, because the walk may have had no room for them.
    pub(crate) fn take(&mut self, ends: &Ends) -> Option<Held> {
        if ends.destination.is_some() {
            let held = self.destinations.remove(ends);
            return held.or((self.left_out == 0).then(Held::default));
        }
        let Some(ports) = self.sources.get(&ends.source) else {
            return (self.sources.len() < self.most_sources).then(Held::default);
        };
        let (held, live) = (ports.held.len(), ports.live.len());
        Some(Held {
            used: held.into(),
            time_wait: (held - live).into(),
        })
    }

    /// The destinations and the sources with the most ports, `most` of each. `whole` is whether all sockets were walked.
    #[must_use]
    pub fn held(&self, most: usize, whole: bool) -> HeldPorts {
        let to = self.destinations.iter().map(|(&ends, held)| PortsHeld {
            ends,
            used: held.used,
            time_wait: held.time_wait,
        });
        let of = self.sources.iter().map(|(&source, ports)| PortsHeld {
            ends: Ends {
                source,
                destination: None,
            },
            used: ports.held.len().into(),
            time_wait: (ports.held.len() - ports.live.len()).into(),
        });
        let first = |mut all: Vec<PortsHeld>| {
            all.sort_unstable_by_key(|held| (std::cmp::Reverse(held.used), held.ends));
            all.truncate(most);
            all
        };
        HeldPorts {
            to: first(to.collect()),
            of: first(of.collect()),
            whole: whole && self.left_out == 0,
        }
    }

    /// The destinations that [`Self::take`] did not take, those with the most ports first.
    pub(crate) fn rest(self) -> Vec<(Ends, Held)> {
        let mut rest: Vec<(Ends, Held)> = self.destinations.into_iter().collect();
        rest.sort_unstable_by_key(|&(ends, held)| (std::cmp::Reverse(held.used), ends));
        rest
    }

    /// A walk that finds `used` ports held to `ends`, and as many of its source, `time_wait` of them by TIME_WAIT.
    #[cfg(test)]
    pub(crate) fn found(ends: Ends, used: u64, time_wait: u64) -> Self {
        let mut walk = Self::default();
        walk.find(ends, used, time_wait);
        walk
    }

    /// Adds `used` ports of `ends`.
    #[cfg(test)]
    pub(crate) fn find(&mut self, ends: Ends, used: u64, time_wait: u64) {
        if ends.destination.is_some() {
            if used > 0 {
                self.destinations.insert(ends, Held { used, time_wait });
            }
            return;
        }
        let ports = self.sources.entry(ends.source).or_default();
        for (port, index) in (1..=u16::MAX).zip(0..used) {
            ports.held.insert(port);
            if index >= time_wait {
                ports.live.insert(port);
            }
        }
    }

    /// Sockets not counted, for want of room for their destinations.
    #[must_use]
    pub const fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::socket::{Address, Family};

    fn ends(port: u16) -> Ends {
        Ends {
            source: "10.0.0.1".parse().unwrap(),
            destination: Some(SocketAddr::new("10.0.0.9".parse().unwrap(), port)),
        }
    }

    fn socket(state: TcpState, kind: Kind, lport: u16, rport: u16) -> Socket {
        let address = |text: &str| Address::new(text.parse().unwrap(), 0);
        Socket {
            family: Family::Ipv4,
            state,
            kind: Some(kind),
            local: address("10.0.0.1"),
            lport,
            remote: address("10.0.0.9"),
            rport,
            uid: None,
            inode: None,
            netns: 1,
        }
    }

    #[test]
    fn a_walk_counts_what_holds_a_port_of_the_range() {
        let range = PortRange::parse("40000 40999", "40500").unwrap();
        let mut walk = Walk::default();
        for socket in [
            socket(TcpState::Established, Kind::Full, 40_000, 80),
            socket(TcpState::TimeWait, Kind::Timewait, 40_001, 80),
            socket(TcpState::FinWait2, Kind::Timewait, 40_002, 80),
            socket(TcpState::FinWait2, Kind::Full, 40_003, 80),
            socket(TcpState::SynSent, Kind::Full, 40_004, 443),
            // None of these was given its port by connect(2).
            socket(TcpState::Established, Kind::Full, 8080, 50_000),
            socket(TcpState::Established, Kind::Full, 40_500, 80),
            socket(TcpState::Listen, Kind::Full, 40_005, 0),
            socket(TcpState::SynRecv, Kind::Request, 40_005, 50_000),
            socket(TcpState::Close, Kind::Full, 40_006, 0),
        ] {
            walk.add(&socket, &range);
        }
        let held = |used, time_wait| Some(Held { used, time_wait });
        let source = Ends {
            destination: None,
            ..ends(80)
        };
        assert_eq!(walk.take(&source), held(5, 2));
        assert_eq!((walk.take(&ends(80)), walk.take(&ends(443))), (held(4, 2), held(1, 0)));
        assert_eq!(walk.take(&ends(80)), held(0, 0));
        assert!(walk.rest().is_empty());
    }

    #[test]
    fn a_port_that_connections_share_is_one_of_the_source_address() {
        let range = PortRange::parse("40000 40999", "").unwrap();
        let mut walk = Walk::default();
        for (state, kind, lport, rport) in [
            (TcpState::TimeWait, Kind::Timewait, 40_000, 80),
            (TcpState::Established, Kind::Full, 40_000, 443),
            (TcpState::TimeWait, Kind::Timewait, 40_001, 80),
            (TcpState::TimeWait, Kind::Timewait, 40_001, 443),
        ] {
            walk.add(&socket(state, kind, lport, rport), &range);
        }
        let source = Ends {
            destination: None,
            ..ends(80)
        };
        let held = Held { used: 2, time_wait: 1 };
        assert_eq!(walk.take(&source), Some(held));
    }

    #[test]
    fn both_families_share_the_ports_of_an_ipv4_address() {
        let range = PortRange::parse("40000 40999", "").unwrap();
        let mut walk = Walk::default();
        let mapped = |text: &str| Address::new(text.parse().unwrap(), 0);
        walk.add(&socket(TcpState::Established, Kind::Full, 40_000, 80), &range);
        let other = Socket {
            family: Family::Ipv6,
            local: mapped("::ffff:10.0.0.1"),
            remote: mapped("::ffff:10.0.0.9"),
            ..socket(TcpState::TimeWait, Kind::Timewait, 40_001, 80)
        };
        walk.add(&other, &range);
        assert_eq!(walk.take(&ends(80)), Some(Held { used: 2, time_wait: 1 }));
    }

    #[test]
    fn who_holds_the_most_comes_first() {
        let range = PortRange::parse("40000 40999", "").unwrap();
        let mut walk = Walk::default();
        for (state, kind, lport, rport) in [
            (TcpState::Established, Kind::Full, 40_000, 443),
            (TcpState::Established, Kind::Full, 40_000, 80),
            (TcpState::TimeWait, Kind::Timewait, 40_001, 80),
            (TcpState::Established, Kind::Full, 40_000, 81),
        ] {
            walk.add(&socket(state, kind, lport, rport), &range);
        }
        let held = walk.held(2, true);
        let ports = |held: &[PortsHeld]| -> Vec<_> {
            let all = held
                .iter()
                .map(|held| (held.ends.destination.map(|to| to.port()), held.used, held.time_wait));
            all.collect()
        };
        assert_eq!(ports(&held.to), [(Some(80), 2, 1), (Some(81), 1, 0)]);
        assert_eq!(ports(&held.of), [(None, 2, 1)]);
        assert!(held.whole && !walk.held(2, false).whole);
    }

    #[test]
    fn a_walk_is_bounded() {
        let range = PortRange::parse("1 65535", "").unwrap();
        let mut walk = Walk {
            most: 2,
            ..Walk::default()
        };
        for rport in [80, 81, 82, 80, 83] {
            walk.add(&socket(TcpState::Established, Kind::Full, 40_000, rport), &range);
        }
        assert_eq!((walk.destinations.len(), walk.left_out()), (2, 2));
        assert!(!walk.held(9, true).whole, "what found no room may hold more");
        let used = |held: Option<Held>| held.map(|held| held.used);
        assert_eq!(
            (used(walk.take(&ends(80))), used(walk.take(&ends(82)))),
            (Some(2), None)
        );
        // The room for sources is another.
        walk.most_sources = 1;
        let source = |ip: &str| Ends {
            source: ip.parse().unwrap(),
            destination: None,
        };
        assert_eq!(used(walk.take(&source("10.0.0.1"))), Some(1));
        assert_eq!(used(walk.take(&source("10.0.0.2"))), None);
    }
}
