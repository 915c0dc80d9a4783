//! Between what a port is used.

use std::net::IpAddr;

/// Between what a port can be used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ends {
    /// This side's address.
    pub source: IpAddr,
    /// The other side's.
    pub destination: IpAddr,
    /// And its port.
    pub port: u16,
}
