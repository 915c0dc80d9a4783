//! Between what a port is used.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Between what a port can be used once.
///
/// One that connect(2) chose may be used again to another destination. One that bind(2) took, because it was called for an
/// address without `IP_BIND_ADDRESS_NO_PORT`, is the source address's alone, whatever the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// This side's address.
    pub source: IpAddr,
    /// The other side's, with its port; `None` for whatever there is.
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
    /// Whether bind(2) took it, and not connect(2); `None` where that was not seen.
    pub bound: Option<bool>,
}

impl Port {
    /// Between what connect(2) could not choose it again.
    pub(crate) const fn to_destination(self) -> Ends {
        Ends {
            source: self.source,
            destination: Some(self.destination),
        }
    }

    /// Between what bind(2) cannot take it again.
    pub(crate) const fn of_source(self) -> Ends {
        Ends {
            source: self.source,
            destination: None,
        }
    }
}
