//! A socket found by a walk of the kernel's tables, and its addresses.

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
            tcpwatch_common::record::AF_INET => Some(Self::Ipv4),
            tcpwatch_common::record::AF_INET6 => Some(Self::Ipv6),
            _ => None,
        }
    }

    /// The kernel's number, `AF_INET` or `AF_INET6`.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ipv4 => tcpwatch_common::record::AF_INET,
            Self::Ipv6 => tcpwatch_common::record::AF_INET6,
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
    /// The address `ip` of a socket bound to interface `ifindex`. Only link-local addresses keep the zone.
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
    /// `10.0.0.1`, `::1`, `::ffff:10.0.0.1`, `fe80::1%2`: the zone is a number, which is valid wherever a name is (RFC 4007,
    /// 11.2).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone {
            0 => self.ip.fmt(f),
            zone => write!(f, "{}%{zone}", self.ip),
        }
    }
}

/// The kind of kernel object for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A full socket (`struct sock`), the only kind that fires transitions.
    Full,
    /// A half-open request (`struct request_sock`), shown as `SYN_RECV`.
    Request,
    /// A timewait socket (`struct inet_timewait_sock`), in `TIME_WAIT` or `FIN_WAIT2`.
    Timewait,
}

/// A socket found by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Address family.
    pub family: Family,
    /// State, as `ss` shows it.
    pub state: TcpState,
    /// The kind of kernel object; `None` if the source does not show it.
    pub kind: Option<Kind>,
    /// Local address.
    pub local: Address,
    /// Local port.
    pub lport: u16,
    /// Remote address; unspecified for a listener.
    pub remote: Address,
    /// Remote port; 0 for a listener.
    pub rport: u16,
    /// User ID of the owner; `None` if the kernel keeps none (request and timewait sockets).
    pub uid: Option<u32>,
    /// Inode number of the socket, which /proc/PID/fd shows. `None` for a socket without a file: request and timewait sockets,
    /// connections not accepted yet, orphans.
    pub inode: Option<NonZeroU32>,
    /// Inode number of the network namespace the walk was made in.
    pub netns: u32,
}

/// Retransmissions since the peer last acknowledged data (`struct tcp_info`, `linux/tcp.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmissions {
    /// Number of retransmissions (`tcpi_retransmits`).
    pub times: u8,
    /// How often the retransmission timeout was doubled (`tcpi_backoff`), also by retransmissions acknowledged since.
    pub backoff: u8,
    /// Retransmission timeout, us (`tcpi_rto`).
    pub rto_us: u32,
    /// Time since the first retransmission, ms (`tcpi_total_rto_time`, since Linux 6.7); `None` if the value includes earlier
    /// retransmissions.
    pub since_first_ms: Option<u32>,
}

/// A socket and its details; `None` if the source does not show a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The socket.
    pub socket: Socket,
    /// The cookie, as in `ss -e`.
    pub cookie: Option<NonZeroU64>,
    /// Unread bytes, `Recv-Q` of `ss`; an unread FIN counts as one. For a listener: connections in the accept queue.
    pub receive_queue: Option<u32>,
    /// Unacknowledged bytes, `Send-Q` of `ss`; a SYN or a FIN counts as one.
    pub send_queue: Option<u32>,
    /// Time since the last ACK arrived, ms (`tcpi_last_ack_recv`); only for full sockets.
    pub last_ack_ms: Option<u32>,
    /// Time since data was last sent, ms (`tcpi_last_data_sent`); only for full sockets.
    pub last_sent_ms: Option<u32>,
    /// Time since data last arrived, ms (`tcpi_last_data_recv`); only for full sockets.
    pub last_received_ms: Option<u32>,
    /// Retransmissions of unacknowledged data; only for full sockets.
    pub retransmissions: Option<Retransmissions>,
    /// Packets dropped since the socket was created (`sk_drops`), `d` of `ss -m`. For a listener mostly SYNs and ACKs without
    /// room (`tcp_listendrop`). It wraps at 2^32.
    pub drops: Option<u32>,
}

impl Detail {
    /// `socket` without any details.
    #[must_use]
    pub const fn from_socket(socket: Socket) -> Self {
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

    /// Bytes of data that wait to be read; `None` where the source does not show the queue.
    #[must_use]
    pub fn unread_bytes(&self) -> Option<u32> {
        // In CLOSE_WAIT the peer's FIN takes a number of its own, until it is read.
        let fin = u32::from(self.socket.state == TcpState::CloseWait);
        self.receive_queue.map(|queue| queue.saturating_sub(fin))
    }
}
