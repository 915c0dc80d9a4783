//! The part of the filter that the BPF programs apply.

use bytemuck::{Pod, Zeroable};

use crate::record::AF_INET;

/// Maximum number of address ranges for each side.
pub const CIDR_MAX: usize = 8;

/// Words of 64 ports in a port set.
pub const PORT_WORDS: u32 = 1024;
/// First word of the set of local ports in the map of port sets.
pub const PORTS_LOCAL: u32 = 0;
/// First word of the set of remote ports.
pub const PORTS_REMOTE: u32 = PORT_WORDS;
/// First word of the set of ports that may be on either side.
pub const PORTS_EITHER: u32 = 2 * PORT_WORDS;

/// An address range: 16 bytes in network order, IPv4 in its mapped form `::ffff:a.b.c.d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Cidr {
    /// The network's address, host bits zero.
    pub network: [u32; 4],
    /// Ones where the address must equal the network's.
    pub mask: [u32; 4],
    /// 1 for a range given as IPv6. It contains no IPv4 socket.
    pub ipv6: u32,
}

impl Cidr {
    /// Whether `address` (mapped form for an IPv4 socket) of a socket of `family` is in the range.
    #[inline(always)]
    #[must_use]
    pub const fn contains(&self, family: u8, address: &[u32; 4]) -> bool {
        if self.ipv6 != 0 && family == AF_INET {
            return false;
        }
        (address[0] & self.mask[0]) == self.network[0]
            && (address[1] & self.mask[1]) == self.network[1]
            && (address[2] & self.mask[2]) == self.network[2]
            && (address[3] & self.mask[3]) == self.network[3]
    }
}

/// Selects the sockets to count; all given conditions must hold. The port sets are in a separate map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Address family; 0 for both.
    pub family: u32,
    /// Inode number of the network namespace; 0 for all.
    pub netns: u32,
    /// Count transitions from or to one of these states ([`crate::StateSet`]).
    pub states: u32,
    /// 1 to apply the set of local ports.
    pub by_lport: u32,
    /// 1 to apply the set of remote ports.
    pub by_rport: u32,
    /// 1 to apply the set of ports on either side.
    pub by_port: u32,
    /// Number of used ranges in `local`.
    pub locals: u32,
    /// Number of used ranges in `remote`.
    pub remotes: u32,
    /// The local address must be in one of these.
    pub local: [Cidr; CIDR_MAX],
    /// The remote address must be in one of these.
    pub remote: [Cidr; CIDR_MAX],
}

impl Filter {
    /// Matches every socket.
    pub const ALL: Self = Self {
        family: 0,
        netns: 0,
        states: u32::MAX,
        by_lport: 0,
        by_rport: 0,
        by_port: 0,
        locals: 0,
        remotes: 0,
        local: [Cidr {
            network: [0; 4],
            mask: [0; 4],
            ipv6: 0,
        }; CIDR_MAX],
        remote: [Cidr {
            network: [0; 4],
            mask: [0; 4],
            ipv6: 0,
        }; CIDR_MAX],
    };

    /// Whether the filter needs ports or addresses.
    #[must_use]
    pub const fn reads_endpoints(&self) -> bool {
        self.by_lport != 0 || self.by_rport != 0 || self.by_port != 0 || self.locals != 0 || self.remotes != 0
    }
}
