//! Which sockets the user asked for: the meaning of `--port`, `--remote` and their like, in userspace and for the kernel.

pub mod owner;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use tcpwatch_common::filter::{CIDR_MAX, Cidr, PORT_WORDS, PORTS_EITHER, PORTS_LOCAL, PORTS_REMOTE};
use tcpwatch_common::{StateSet, TcpState};

use owner::OwnerFilter;

use crate::input::socket::{Family, Socket};

/// Ports and ranges of ports: `80,443,8000-8999`. Empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

impl PortSet {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port` was asked for; any port is, of an empty set.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.is_any() || self.0.iter().any(|range| range.contains(&port))
    }

    /// Adds what `other` asks for.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Sets the bit of every port in the kernel's set starting at word `first` of `words`.
    fn write(&self, words: &mut [u64], first: u32) {
        for port in self.0.iter().flat_map(RangeInclusive::clone) {
            words[first as usize + usize::from(port / 64)] |= 1 << (port % 64);
        }
    }
}

impl FromStr for PortSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let port = |text: &str| {
            text.trim().parse::<u16>().ok().filter(|&port| port > 0).ok_or(format!(
                "'{text}' is no port: ports are 1 to 65535, as in 80,443,8000-8999"
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

/// What a socket must be to be shown; every part given must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Local port.
    pub lport: PortSet,
    /// Remote port.
    pub rport: PortSet,
    /// Either port.
    pub port: PortSet,
    /// The local address is in one of these; any when empty.
    pub local: Vec<IpNet>,
    /// The remote address is in one of these; any when empty.
    pub remote: Vec<IpNet>,
    /// Address family; `None` for both.
    pub family: Option<Family>,
    /// States: the current one of a snapshot, from or to of a transition.
    pub states: StateSet,
    /// Owner's user id.
    pub uid: Option<u32>,
    /// Processes that hold it, which neither the kernel side nor [`Self::matches_ends`] knows.
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
    /// Whether every socket passes, whatever its state.
    #[must_use]
    pub fn is_any_socket(&self) -> bool {
        *self
            == Self {
                states: self.states,
                ..Self::default()
            }
    }

    /// Whether `socket` is asked for, whatever its state and whoever holds it.
    #[must_use]
    pub fn matches_ends(&self, socket: &Socket) -> bool {
        self.family.is_none_or(|family| family == socket.family)
            && self.lport.contains(socket.lport)
            && self.rport.contains(socket.rport)
            && (self.port.is_any() || self.port.contains(socket.lport) || self.port.contains(socket.rport))
            && in_any(&self.local, socket.family, socket.local.ip)
            && in_any(&self.remote, socket.family, socket.remote.ip)
            && self.uid.is_none_or(|uid| socket.uid == Some(uid))
    }

    /// The part the kernel side applies, for the namespace with inode `netns` (0 for all).
    ///
    /// # Errors
    /// One line, where more ranges are given than the kernel side holds.
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

    /// The kernel's three port sets: one bit a port, 64 a word, local, remote and either in this order.
    #[must_use]
    pub fn port_words(&self) -> Vec<u64> {
        let mut words = vec![0; 3 * PORT_WORDS as usize];
        self.lport.write(&mut words, PORTS_LOCAL);
        self.rport.write(&mut words, PORTS_REMOTE);
        self.port.write(&mut words, PORTS_EITHER);
        words
    }
}

/// Whether `ip` of a socket of `family` is in one of `ranges`, or there are none.
///
/// An IPv4 range matches the IPv4 part of a mapped address; an IPv6 range matches no IPv4 socket.
fn in_any(ranges: &[IpNet], family: Family, ip: IpAddr) -> bool {
    ranges.is_empty()
        || ranges
            .iter()
            .any(|range| kernel_range(range).contains(family.number(), &words(ip)))
}

/// `ip` as the kernel side compares it: 16 bytes in network order, IPv4 mapped.
fn words(ip: IpAddr) -> [u32; 4] {
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
        network: words(range.network()),
        mask: bytemuck::cast(mask.to_be_bytes()),
        ipv6,
    }
}

/// Writes `ranges` for the kernel side; how many there are.
fn write_ranges(ranges: &[IpNet], into: &mut [Cidr; CIDR_MAX]) -> Result<u32, String> {
    if ranges.len() > CIDR_MAX {
        return Err(format!(
            "{} address ranges given, the kernel side holds {CIDR_MAX} a side: name fewer, wider ones",
            ranges.len()
        ));
    }
    for (slot, range) in into.iter_mut().zip(ranges) {
        *slot = kernel_range(range);
    }
    Ok(u32::try_from(ranges.len()).unwrap_or(u32::MAX))
}

/// Reads a state by its key, or by the name `ss`, netstat or the kernel has for it, in any case.
///
/// # Errors
/// One line that lists the keys, for a name that is none.
pub fn parse_state(text: &str) -> Result<TcpState, String> {
    let key = text.trim().to_ascii_lowercase().replace('-', "_");
    let key = match key.as_str() {
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
            format!("'{text}' is no TCP state; states are {}", keys.join(", "))
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
    fn ports_read_lists_and_ranges_and_refuse_the_rest() {
        let ports: PortSet = "80,443,8000-8999".parse().unwrap();
        assert!(ports.contains(80) && ports.contains(443) && ports.contains(8000) && ports.contains(8999));
        assert!(!ports.contains(81) && !ports.contains(9000));
        assert_eq!(ports.to_string(), "80,443,8000-8999");
        for bad in ["70000", "0", "", "a", "9-8", "1-", "-1", "1,,2"] {
            assert!(bad.parse::<PortSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_matched_and_not_every_line_with_its_digits() {
        let filter = Filter {
            port: "80".parse().unwrap(),
            ..Filter::default()
        };
        assert!(filter.matches_ends(&socket(Family::Ipv4, "10.0.0.1", 80, "10.0.0.2", 40000)));
        assert!(filter.matches_ends(&socket(Family::Ipv4, "10.0.0.1", 40000, "10.0.0.2", 80)));
        assert!(!filter.matches_ends(&socket(Family::Ipv4, "10.80.0.1", 8080, "10.0.0.80", 40080)));
    }

    #[test]
    fn an_ipv4_range_matches_the_mapped_form_and_an_ipv6_one_no_ipv4_socket() {
        let of = |range: &str| Filter {
            remote: vec![range.parse().unwrap()],
            ..Filter::default()
        };
        let plain = socket(Family::Ipv4, "10.0.0.1", 1, "10.1.2.3", 2);
        let mapped = socket(Family::Ipv6, "::ffff:10.0.0.1", 1, "::ffff:10.1.2.3", 2);
        let native = socket(Family::Ipv6, "2001:db8::1", 1, "2001:db8::2", 2);
        assert!(of("10.1.0.0/16").matches_ends(&plain) && of("10.1.0.0/16").matches_ends(&mapped));
        assert!(!of("10.2.0.0/16").matches_ends(&plain) && !of("10.1.0.0/16").matches_ends(&native));
        assert!(
            of("0.0.0.0/0").matches_ends(&plain)
                && of("0.0.0.0/0").matches_ends(&mapped)
                && !of("0.0.0.0/0").matches_ends(&native)
        );
        assert!(
            !of("::/0").matches_ends(&plain) && of("::/0").matches_ends(&mapped) && of("::/0").matches_ends(&native)
        );
        assert!(of("10.1.2.3/32").matches_ends(&plain) && !of("10.1.2.4/32").matches_ends(&plain));
    }

    #[test]
    fn states_are_read_by_every_name_the_field_has() {
        for name in ["close_wait", "CLOSE-WAIT", "Close_Wait"] {
            assert_eq!(parse_state(name), Ok(TcpState::CloseWait));
        }
        assert_eq!(parse_state("ESTAB"), Ok(TcpState::Established));
        assert_eq!(parse_state("FIN-WAIT-2"), Ok(TcpState::FinWait2));
        assert!(parse_state("open").unwrap_err().contains("established"));
    }

    #[test]
    fn the_kernels_port_sets_hold_the_bits_asked_for() {
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
    fn addresses_of_ipv4_sockets_come_from_the_first_word() {
        let word = u32::from_ne_bytes([127, 0, 0, 1]);
        assert_eq!(Family::Ipv4.address([word, 9, 9, 9]), IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
}
