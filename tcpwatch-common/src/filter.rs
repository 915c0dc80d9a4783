//! Which sockets to count: the part of the filter the kernel side applies, in the shape it reads.

use bytemuck::{Pod, Zeroable};

use crate::event::AF_INET;

/// Address ranges a side can name.
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
    /// 1 for a range given as IPv6, which no IPv4 socket is in.
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

/// What a socket must be to be counted; every part given must hold. Port sets live in a map of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Filter {
    /// Address family; 0 for both.
    pub family: u32,
    /// Inode number of the network namespace; 0 for all.
    pub netns: u32,
    /// Transitions from or to one of these states ([`crate::StateSet`]) are counted.
    pub states: u32,
    /// 1 when the set of local ports counts.
    pub by_lport: u32,
    /// 1 when the set of remote ports counts.
    pub by_rport: u32,
    /// 1 when the set of ports on either side counts.
    pub by_port: u32,
    /// Ranges in use in `local`.
    pub locals: u32,
    /// Ranges in use in `remote`.
    pub remotes: u32,
    /// The local address must be in one of these.
    pub local: [Cidr; CIDR_MAX],
    /// The remote address must be in one of these.
    pub remote: [Cidr; CIDR_MAX],
}

impl Filter {
    /// Lets everything through.
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

    /// Whether it reads ports or addresses.
    #[must_use]
    pub const fn looks_at_ends(&self) -> bool {
        self.by_lport != 0 || self.by_rport != 0 || self.by_port != 0 || self.locals != 0 || self.remotes != 0
    }
}
