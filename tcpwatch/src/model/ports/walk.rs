//! The ports that a walk of all sockets finds held.

use hashbrown::HashMap;
use tcpwatch_common::TcpState;

use super::ends::Ends;
use super::range::PortRange;
use crate::model::socket::{Kind, Socket};

/// Destinations a walk counts at most, about 60 bytes each.
pub const WALK_MAX: usize = 65_536;

/// Ports held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) used: u64,
    pub(super) time_wait: u64,
}

/// The sockets of a network namespace that hold an ephemeral port, counted as a walk finds them.
#[derive(Debug)]
pub struct Walk {
    pub(super) held: HashMap<Ends, Held>,
    left_out: u64,
    most: usize,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            held: HashMap::new(),
            left_out: 0,
            most: WALK_MAX,
        }
    }
}

impl Walk {
    /// Counts `socket`, where it has another side and a port of `range`.
    ///
    /// Connections made to a listener whose port is in the range count too: a walk does not tell who opened one.
    pub fn add(&mut self, socket: &Socket, range: &PortRange) {
        let is_request = socket.kind == Some(Kind::Request);
        if is_request || socket.state == TcpState::Listen || socket.rport == 0 || !range.contains(socket.lport) {
            return;
        }
        let ends = Ends {
            source: socket.local.ip,
            destination: socket.remote.ip,
            port: socket.rport,
        };
        if self.held.len() >= self.most && !self.held.contains_key(&ends) {
            self.left_out += 1;
            return;
        }
        let held = self.held.entry(ends).or_default();
        held.used += 1;
        let waits = socket.state == TcpState::TimeWait || socket.kind == Some(Kind::Timewait);
        held.time_wait += u64::from(waits);
    }

    /// A walk that finds `used` ports held to `ends`, `time_wait` of them by TIME_WAIT.
    #[cfg(test)]
    pub(super) fn found(ends: Ends, used: u64, time_wait: u64) -> Self {
        let mut walk = Self::default();
        if used > 0 {
            walk.held.insert(ends, Held { used, time_wait });
        }
        walk
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
    use crate::model::socket::{Address, Family};

    fn ends(port: u16) -> Ends {
        Ends {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.0.0.9".parse().unwrap(),
            port,
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
        assert_eq!(walk.held.len(), 2);
        assert_eq!(walk.held.get(&ends(80)).copied(), held(4, 2));
        assert_eq!(walk.held.get(&ends(443)).copied(), held(1, 0));
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
        assert_eq!((walk.held.len(), walk.left_out()), (2, 2));
    }
}
