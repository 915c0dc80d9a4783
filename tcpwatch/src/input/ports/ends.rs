//! The ends between which a port is used.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The ends between which a port can be used once.
///
/// A port that connect(2) chose can be used again to another destination. A port that bind(2) took, because a program bound an address
/// without `IP_BIND_ADDRESS_NO_PORT`, is used up for the source address, whatever the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// This side's address.
    pub source: IpAddr,
    /// The other side's, with its port; `None` for all destinations.
    pub destination: Option<SocketAddr>,
}

impl fmt::Display for Ends {
    /// `10.0.0.1 > 10.0.0.9:6379`; `10.0.0.1 by bind()` for all of a source address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            Some(to) => write!(f, "{} > {to}", self.source),
            None => write!(f, "{} by bind()", self.source),
        }
    }
}

/// The port of a connection opened from here, by canonical addresses: sockets of both families share the ports of an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// This side's address.
    pub source: IpAddr,
    /// The other side's, with its port.
    pub destination: SocketAddr,
    /// Its number.
    pub number: u16,
    /// Whether bind(2) took it, and not connect(2); `None` if that was not seen.
    pub bound: Option<bool>,
}

impl Port {
    /// The ends between which connect(2) cannot choose it again.
    pub(crate) const fn to_destination(self) -> Ends {
        Ends {
            source: self.source,
            destination: Some(self.destination),
        }
    }

    /// The ends between which bind(2) cannot take it again.
    pub(crate) const fn of_source(self) -> Ends {
        Ends {
            source: self.source,
            destination: None,
        }
    }
}
