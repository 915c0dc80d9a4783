//! Connections and their transitions.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use tcpwatch_common::ledger::STATES;
use tcpwatch_common::record::SPENT;
use tcpwatch_common::{Evidence, TcpState};

use super::owner::Owner;
use super::socket::{Address, Family};

/// Who opened a connection (RFC 9293, section 3.10.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// This side called `connect()`.
    Active,
    /// The peer called `connect()`.
    Passive,
}

impl Opened {
    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

/// One transition of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Time of the transition, ns since the Unix epoch.
    pub unix_ns: i64,
    /// Time of the transition, `CLOCK_MONOTONIC` in ns.
    pub monotonic_ns: u64,
    /// Connection number, unique within one run; `None` if the kernel had no room to keep it.
    pub id: Option<NonZeroU64>,
    /// The socket's cookie, as `ss -e` shows it.
    pub cookie: Option<NonZeroU64>,
    /// Address family.
    pub family: Family,
    /// Local address.
    pub local: Address,
    /// Local port; `None` if not chosen yet.
    pub lport: Option<NonZeroU16>,
    /// Remote address.
    pub remote: Address,
    /// Remote port; `None` for a listener.
    pub rport: Option<NonZeroU16>,
    /// State left.
    pub from: TcpState,
    /// State entered.
    pub to: TcpState,
    /// Which side opened the connection; `None` if tcpwatch did not see it.
    pub opened: Option<Opened>,
    /// Whether the socket had its local port from `bind()` before `connect()`; `None` if tcpwatch did not see it.
    pub bound: Option<bool>,
    /// Time spent in `from`, ns; `None` for a new connection, and if tcpwatch did not see the start.
    pub dwell_ns: Option<u64>,
    /// Inode number of the network namespace.
    pub netns: Option<NonZeroU32>,
    /// The owner of the socket; `None` if unknown.
    pub owner: Option<Owner>,
    /// Inode number of the socket, if it has one and its owner is unknown, or if it ends in `CLOSE_WAIT` or `FIN_WAIT2`.
    pub inode: Option<NonZeroU32>,
    /// Evidence of how the connection ended, at `*>CLOSE`.
    pub evidence: Option<Evidence>,
}

/// A finished connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The last transition.
    pub last: Transition,
    /// Time spent in each state, ns, in the order of [`SPENT`]. 0 if the connection was not in the state, or if tcpwatch did
    /// not see it enter: the first state seen has no time.
    pub spent_ns: [u64; SPENT.len()],
    /// Bytes and segments; `None` if the kernel does not show them.
    pub traffic: Option<Traffic>,
    /// The process that closed it, if that is not the owner.
    pub closer: Option<Owner>,
}

/// Bytes and segments of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Payload bytes sent, without retransmissions, acknowledged or not.
    pub sent: u64,
    /// Payload bytes received.
    pub received: u64,
    /// Smoothed round-trip time (RFC 6298), us; `None` if never measured.
    pub srtt_us: Option<u32>,
    /// Retransmitted segments, including SYN and SYN-ACK.
    pub retransmits: u32,
}

impl Transition {
    /// The inode number of the socket, if its owner must be looked up in /proc.
    #[must_use]
    pub fn asks_owner(&self) -> Option<NonZeroU32> {
        self.inode.filter(|_| self.owner.is_none())
    }

    /// Counts it in `moves[from][to]`, by the kernel's state numbers.
    pub fn count_in(&self, moves: &mut [[u64; STATES]; STATES]) {
        moves[usize::from(self.from.number())][usize::from(self.to.number())] += 1;
    }
}

impl Connection {
    /// The states with a known time, and that time, ns.
    pub fn spent(&self) -> impl Iterator<Item = (TcpState, u64)> {
        SPENT
            .into_iter()
            .zip(self.spent_ns)
            .filter(|(_, ns)| *ns > 0)
            .filter_map(|(number, ns)| Some((TcpState::from_kernel(number)?, ns)))
    }

    /// Time from the opening to the end, ns; `None` if tcpwatch did not see all of it.
    #[must_use]
    pub fn lifetime_ns(&self) -> Option<u64> {
        let first = match self.last.opened? {
            Opened::Active => TcpState::SynSent,
            Opened::Passive => TcpState::SynRecv,
        };
        // The kernel side may have had no room to keep the times when the connection opened.
        self.spent().find(|(state, _)| *state == first)?;
        Some(self.spent_ns.iter().fold(0, |sum, ns| sum.saturating_add(*ns)))
    }

    /// When the connection opened, ns since the Unix epoch; `None` if tcpwatch did not see it.
    #[must_use]
    pub fn opened_unix_ns(&self) -> Option<i64> {
        Some(self.last.unix_ns.saturating_sub_unsigned(self.lifetime_ns()?))
    }
}

#[cfg(test)]
impl Transition {
    /// A transition without any other facts.
    pub(crate) fn between(from: TcpState, to: TcpState) -> Self {
        let address = Address::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
        Self {
            unix_ns: 0,
            monotonic_ns: 0,
            id: None,
            cookie: None,
            family: Family::Ipv4,
            local: address,
            lport: None,
            remote: address,
            rport: None,
            from,
            to,
            opened: None,
            bound: None,
            dwell_ns: None,
            netns: None,
            owner: None,
            inode: None,
            evidence: None,
        }
    }
}
