//! A socket as a walk of the kernel's tables finds it, and the words to name its ends.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroU64};

use tcpwatch_common::TcpState;

/// Address family of a socket; an IPv4-mapped one is [`Family::Ipv6`], as `ss` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// `AF_INET`.
    Ipv4,
    /// `AF_INET6`.
    Ipv6,
}

impl Family {
    /// The name in machine output: `ipv4`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }

    /// The family of the kernel's number.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        match number {
            tcpwatch_common::event::AF_INET => Some(Self::Ipv4),
            tcpwatch_common::event::AF_INET6 => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The kernel's number, `AF_INET` or `AF_INET6`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => tcpwatch_common::event::AF_INET,
            Self::Ipv6 => tcpwatch_common::event::AF_INET6,
        }
    }

    /// The address in `words` (network order) of a socket of this family.
    #[must_use]
    pub fn address(self, words: [u32; 4]) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::from(words[0].to_ne_bytes())),
            Self::Ipv6 => {
                let mut bytes = [0; 16];
                for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
                    chunk.copy_from_slice(&word.to_ne_bytes());
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
        }
    }
}

/// An address with the zone that makes a link-local one unique (RFC 4007).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The address; IPv4-mapped ones stay IPv6.
    pub ip: IpAddr,
    /// Interface number of a link-local address; 0 for none.
    pub zone: u32,
}

impl Address {
    /// `ip` seen on a socket bound to interface `ifindex`; the zone is kept for link-local addresses alone.
    #[must_use]
    pub fn new(ip: IpAddr, ifindex: u32) -> Self {
        let zone = match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => ifindex,
            _ => 0,
        };
        Self { ip, zone }
    }
}

impl fmt::Display for Address {
    /// `10.0.0.1`, `::1`, `::ffff:10.0.0.1`, `fe80::1%2`: the zone by number, valid everywhere a name is (RFC 4007, 11.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone {
            0 => self.ip.fmt(f),
            zone => write!(f, "{}%{zone}", self.ip),
        }
    }
}

/// What the kernel keeps for a connection: it shrinks at both ends of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A full socket (`struct sock`), the only kind that fires transitions.
    Full,
    /// A half-open request (`struct request_sock`), shown as `SYN_RECV`.
    Request,
    /// What remains after closing (`struct inet_timewait_sock`), in `TIME_WAIT` or `FIN_WAIT2`.
    Timewait,
}

/// One socket, as found by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Address family.
    pub family: Family,
    /// State, as `ss` shows it.
    pub state: TcpState,
    /// What the kernel keeps for it; `None` where the source cannot tell.
    pub kind: Option<Kind>,
    /// Local address.
    pub local: Address,
    /// Local port.
    pub lport: u16,
    /// Remote address; unspecified for a listener.
    pub remote: Address,
    /// Remote port; 0 for a listener.
    pub rport: u16,
    /// Owner's user id; `None` where the kernel keeps none (requests, timewait).
    pub uid: Option<u32>,
    /// Inode number of the socket, by which /proc tells who holds it; `None` for one without a file: requests, timewait,
    /// what is not accepted yet, what is closed and not over.
    pub inode: Option<NonZeroU32>,
    /// Inode number of the network namespace the walk was made in.
    pub netns: u32,
}

/// How what the peer does not acknowledge was sent again, since it last acknowledged anything (`struct tcp_info`, `linux/tcp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmissions {
    /// How often (`tcpi_retransmits`).
    pub times: u8,
    /// How often the time until the next was doubled (`tcpi_backoff`), also by what was acknowledged since.
    pub backoff: u8,
    /// That time, us (`tcpi_rto`).
    pub rto_us: u32,
    /// How long ago it was sent again first, ms (`tcpi_total_rto_time`, since Linux 6.7); `None` also where earlier ones are counted
    /// with these.
    pub since_first_ms: Option<u32>,
}

/// A socket, and what the kernel tells of it beside; `None` for what the source does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The socket.
    pub socket: Socket,
    /// Its cookie, as `ss -e` shows it.
    pub cookie: Option<NonZeroU64>,
    /// Bytes that wait to be read, `Recv-Q` of `ss`: a FIN that is not read yet counts one. A listener's are connections.
    pub receive_queue: Option<u32>,
    /// Bytes that the peer has not acknowledged, `Send-Q` of `ss`: a SYN or a FIN counts one.
    pub send_queue: Option<u32>,
    /// How long ago the last ACK came, ms (`tcpi_last_ack_recv`); of full sockets alone.
    pub last_ack_ms: Option<u32>,
    /// How long ago data was sent last, ms (`tcpi_last_data_sent`); of full sockets alone.
    pub last_sent_ms: Option<u32>,
    /// How long ago data came last, ms (`tcpi_last_data_recv`); of full sockets alone.
    pub last_received_ms: Option<u32>,
    /// How what is not acknowledged was sent again; of full sockets alone.
    pub retransmissions: Option<Retransmissions>,
    /// Packets it dropped since it was made (`sk_drops`), `d` of `ss -m`: a listener's are those it had no room for, first of all
    /// (`tcp_listendrop`). It wraps.
    pub drops: Option<u32>,
}

impl Detail {
    /// `socket`, of which nothing else is known.
    #[must_use]
    pub const fn of(socket: Socket) -> Self {
        Self {
            socket,
            cookie: None,
            receive_queue: None,
            send_queue: None,
            last_ack_ms: None,
            last_sent_ms: None,
            last_received_ms: None,
            retransmissions: None,
            drops: None,
        }
    }
}
