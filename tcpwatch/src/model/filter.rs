//! The filter on sockets: what `--port`, `--remote` and similar options mean, here and on the kernel side.

pub mod owner;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use tcpwatch_common::filter::{CIDR_MAX, Cidr, PORT_WORDS, PORTS_EITHER, PORTS_LOCAL, PORTS_REMOTE};
use tcpwatch_common::{StateSet, TcpState};

use owner::OwnerFilter;

use crate::input::socket::{Family, Socket};

/// Ports and ranges of ports, as in `80,443,8000-8999`. An empty set contains every port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    /// Whether the set contains every port.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set contains `port`.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.is_any() || self.0.iter().any(|range| range.contains(&port))
    }

    /// The ranges that make up the set; none if it contains every port.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeInclusive<u16>> {
        self.0.iter()
    }

    /// Adds the ports of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sets the bit of each port in the kernel side's bitmap, which starts at word `first` of `words`.
    fn write_bits(&self, words: &mut [u64], first: u32) {
        for port in self.0.iter().flat_map(RangeInclusive::clone) {
            words[first as usize + usize::from(port / 64)] |= 1 << (port % 64);
        }
    }
}

impl From<RangeInclusive<u16>> for PortSet {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self(vec![range])
    }
}

impl FromStr for PortSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| {
            text.trim().parse::<u16>().ok().filter(|&port| port > 0).ok_or(format!(
                "'{text}' is not a port: ports are 1 to 65535, as in 80,443,8000-8999"
            ))
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("the range '{part}' ends before it starts"));
            }
            ranges.push(first..=last);
        }
        Ok(Self(ranges))
    }
}

impl std::fmt::Display for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Selects sockets. A socket matches if every part that was given matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Local port.
    pub lport: PortSet,
    /// Remote port.
    pub rport: PortSet,
    /// Local or remote port.
    pub port: PortSet,
    /// Ranges of local addresses; empty for any.
    pub local: Vec<IpNet>,
    /// Ranges of remote addresses; empty for any.
    pub remote: Vec<IpNet>,
    /// Address family; `None` for both.
    pub family: Option<Family>,
    /// States: the current one in a snapshot; the one left or entered in a transition.
    pub states: StateSet,
    /// User id of the socket's owner.
    pub uid: Option<u32>,
    /// Process that holds the socket. Neither the kernel side nor [`Self::matches_socket`] checks it.
    pub owner: OwnerFilter,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            lport: PortSet::default(),
            rport: PortSet::default(),
            port: PortSet::default(),
            local: Vec::new(),
            remote: Vec::new(),
            family: None,
            states: StateSet::ALL,
            uid: None,
            owner: OwnerFilter::default(),
        }
    }
}

impl Filter {
    /// The same for every owner: what a socket itself shows.
    #[must_use]
    pub fn of_sockets(&self) -> Self {
        Self {
            owner: OwnerFilter::default(),
            ..self.clone()
        }
    }

    /// Whether every socket matches, apart from its state.
    #[must_use]
    pub fn is_any_socket(&self) -> bool {
        *self
            == Self {
                states: self.states,
                ..Self::default()
            }
    }

    /// Whether `socket` matches, apart from its state and its owner's process.
    #[must_use]
    pub fn matches_socket(&self, socket: &Socket) -> bool {
        let (local, remote) = ((socket.local.ip, socket.lport), (socket.remote.ip, socket.rport));
        self.matches_ends(socket.family, local, remote) && self.uid.is_none_or(|uid| socket.uid == Some(uid))
    }

    /// Whether a socket of `family` with these ends matches, each an address and a port, as far as these decide.
    #[must_use]
    pub fn matches_ends(&self, family: Family, local: (IpAddr, u16), remote: (IpAddr, u16)) -> bool {
        self.family.is_none_or(|wanted| wanted == family)
            && self.lport.contains(local.1)
            && self.rport.contains(remote.1)
            && (self.port.is_any() || self.port.contains(local.1) || self.port.contains(remote.1))
            && contains(&self.local, family, local.0)
            && contains(&self.remote, family, remote.0)
    }

    /// The filter of the kernel side, for the network namespace with inode number `netns` (0 for all).
    ///
    /// # Errors
    /// There are more address ranges than the kernel side holds.
    pub fn for_kernel(&self, netns: u32) -> Result<tcpwatch_common::Filter, String> {
        let mut filter = tcpwatch_common::Filter {
            family: self.family.map_or(0, |family| u32::from(family.number())),
            netns,
            states: self.states.0,
            by_lport: u32::from(!self.lport.is_any()),
            by_rport: u32::from(!self.rport.is_any()),
            by_port: u32::from(!self.port.is_any()),
            ..tcpwatch_common::Filter::ALL
        };
        filter.locals = write_ranges(&self.local, &mut filter.local)?;
        filter.remotes = write_ranges(&self.remote, &mut filter.remote)?;
        Ok(filter)
    }

    /// The kernel side's bitmaps of local, remote and either port, in this order; 64 ports a word.
    #[must_use]
    pub fn port_words(&self) -> Vec<u64> {
        let mut words = vec![0; 3 * PORT_WORDS as usize];
        self.lport.write_bits(&mut words, PORTS_LOCAL);
        self.rport.write_bits(&mut words, PORTS_REMOTE);
        self.port.write_bits(&mut words, PORTS_EITHER);
        words
    }
}

/// Whether one of `ranges` contains `ip`, the address of a socket of `family`. No ranges at all contain every address.
///
/// An IPv4 range contains IPv4-mapped IPv6 addresses too. An IPv6 range contains no address of an IPv4 socket.
fn contains(ranges: &[IpNet], family: Family, ip: IpAddr) -> bool {
    ranges.is_empty()
        || ranges
            .iter()
            .any(|range| kernel_range(range).contains(family.number(), &address_words(ip)))
}

/// `ip` as the kernel side compares it: 16 bytes in network order, IPv4 as a mapped address (RFC 4291, section 2.5.5.2).
fn address_words(ip: IpAddr) -> [u32; 4] {
    let bytes = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    bytemuck::cast(bytes)
}

/// `range` as the kernel side compares it.
fn kernel_range(range: &IpNet) -> Cidr {
    let (length, ipv6) = match range {
        IpNet::V4(range) => (96 + range.prefix_len(), 0),
        IpNet::V6(range) => (range.prefix_len(), 1),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    Cidr {
        network: address_words(range.network()),
        mask: bytemuck::cast(mask.to_be_bytes()),
        ipv6,
    }
}

/// Writes `ranges` into the kernel side's table; returns their number.
fn write_ranges(ranges: &[IpNet], into: &mut [Cidr; CIDR_MAX]) -> Result<u32, String> {
    if ranges.len() > CIDR_MAX {
        return Err(format!(
            "{} address ranges given, but a filter holds {CIDR_MAX} for each end; try fewer and wider ranges",
            ranges.len()
        ));
    }
    for (slot, range) in into.iter_mut().zip(ranges) {
        *slot = kernel_range(range);
    }
    Ok(u32::try_from(ranges.len()).unwrap_or(u32::MAX))
}

/// Parses the name of a state: as tcpwatch, `ss`, netstat or the kernel spells it, in upper or lower case.
///
/// # Errors
/// `text` names no state; the message lists the names.
pub fn parse_state(text: &str) -> Result<TcpState, String> {
    let key = text.trim().to_ascii_lowercase().replace('-', "_");
    let key = match key.strip_prefix("tcp_").unwrap_or(&key) {
        "estab" => "established",
        "fin_wait_1" => "fin_wait1",
        "fin_wait_2" => "fin_wait2",
        "syn_received" | "syn_rcvd" => "syn_recv",
        "closed" | "unconn" => "close",
        "listening" => "listen",
        other => other,
    };
    TcpState::ALL
        .into_iter()
        .find(|state| state.key() == key)
        .ok_or_else(|| {
            let keys: Vec<_> = TcpState::ALL.iter().map(|state| state.key()).collect();
            format!("'{text}' is not a TCP state; states are {}", keys.join(", "))
        })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::input::socket::{Address, Kind};

    fn socket(family: Family, local: &str, lport: u16, remote: &str, rport: u16) -> Socket {
        let address = |text: &str| Address::new(text.parse().unwrap(), 0);
        Socket {
            family,
            state: TcpState::Established,
            kind: Some(Kind::Full),
            local: address(local),
            lport,
            remote: address(remote),
            rport,
            uid: Some(0),
            inode: None,
            netns: 1,
        }
    }

    #[test]
    fn ports_are_parsed_from_lists_and_ranges_alone() {
        let ports: PortSet = "80,443,8000-8999".parse().unwrap();
        assert!(ports.contains(80) && ports.contains(443) && ports.contains(8000) && ports.contains(8999));
        assert!(!ports.contains(81) && !ports.contains(9000));
        assert_eq!(ports.to_string(), "80,443,8000-8999");
        for bad in ["70000", "0", "", "a", "9-8", "1-", "-1", "1,,2"] {
            assert!(bad.parse::<PortSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_matches_as_a_number_and_not_as_digits() {
        let filter = Filter {
            port: "80".parse().unwrap(),
            ..Filter::default()
        };
        assert!(filter.matches_socket(&socket(Family::Ipv4, "10.0.0.1", 80, "10.0.0.2", 40000)));
        assert!(filter.matches_socket(&socket(Family::Ipv4, "10.0.0.1", 40000, "10.0.0.2", 80)));
        assert!(!filter.matches_socket(&socket(Family::Ipv4, "10.80.0.1", 8080, "10.0.0.80", 40080)));
    }

    #[test]
    fn an_ipv4_range_matches_mapped_addresses_and_an_ipv6_range_no_ipv4_socket() {
        let filter = |range: &str| Filter {
            remote: vec![range.parse().unwrap()],
            ..Filter::default()
        };
        let plain = socket(Family::Ipv4, "10.0.0.1", 1, "10.1.2.3", 2);
        let mapped = socket(Family::Ipv6, "::ffff:10.0.0.1", 1, "::ffff:10.1.2.3", 2);
        let native = socket(Family::Ipv6, "2001:db8::1", 1, "2001:db8::2", 2);
        assert!(filter("10.1.0.0/16").matches_socket(&plain) && filter("10.1.0.0/16").matches_socket(&mapped));
        assert!(!filter("10.2.0.0/16").matches_socket(&plain) && !filter("10.1.0.0/16").matches_socket(&native));
        assert!(
            filter("0.0.0.0/0").matches_socket(&plain)
                && filter("0.0.0.0/0").matches_socket(&mapped)
                && !filter("0.0.0.0/0").matches_socket(&native)
        );
        assert!(
            !filter("::/0").matches_socket(&plain)
                && filter("::/0").matches_socket(&mapped)
                && filter("::/0").matches_socket(&native)
        );
        assert!(filter("10.1.2.3/32").matches_socket(&plain) && !filter("10.1.2.4/32").matches_socket(&plain));
    }

    #[test]
    fn states_are_parsed_as_other_tools_spell_them() {
        for name in ["close_wait", "CLOSE-WAIT", "Close_Wait"] {
            assert_eq!(parse_state(name), Ok(TcpState::CloseWait));
        }
        assert_eq!(parse_state("TCP_CLOSE_WAIT"), Ok(TcpState::CloseWait));
        assert_eq!(parse_state("ESTAB"), Ok(TcpState::Established));
        assert_eq!(parse_state("FIN-WAIT-2"), Ok(TcpState::FinWait2));
        assert!(parse_state("open").unwrap_err().contains("established"));
    }

    #[test]
    fn the_kernel_sides_bitmaps_hold_the_ports_of_the_filter() {
        let filter = Filter {
            lport: "64".parse().unwrap(),
            port: "65535".parse().unwrap(),
            ..Filter::default()
        };
        let words = filter.port_words();
        assert_eq!(words[1], 1);
        assert_eq!(words[3071], 1 << 63);
        assert_eq!(words.iter().map(|word| word.count_ones()).sum::<u32>(), 2);
    }

    #[test]
    fn the_address_of_an_ipv4_socket_is_the_first_word() {
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(Family::Ipv4.address([word, 9, 9, 9]), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
