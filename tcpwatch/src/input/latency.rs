//! Times measured by the kernel side.

use std::fmt;
use std::num::NonZeroU32;

use tcpwatch_common::TcpState;

use super::histogram::Histogram;
use super::owner::{Owner, OwnerBy};
use super::socket::Address;

/// How to group the histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencyBy {
    /// All connections together.
    #[default]
    All,
    /// Local port.
    Lport,
    /// Remote address.
    Remote,
    /// Owner, or what stands for it.
    Owner(OwnerBy),
}

impl LatencyBy {
    /// All but [`Self::All`].
    pub const KEYS: [Self; 7] = [
        Self::Lport,
        Self::Remote,
        Self::Owner(OwnerBy::Process),
        Self::Owner(OwnerBy::Comm),
        Self::Owner(OwnerBy::Cgroup),
        Self::Owner(OwnerBy::Container),
        Self::Owner(OwnerBy::Pod),
    ];

    /// The name after `--by` and in machine output; `None` for all connections together.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Lport => Some("lport"),
            Self::Remote => Some("remote"),
            Self::Owner(by) => Some(by.key()),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// The handshake of a client, from SYN to SYN-ACK (RFC 9293, section 3.5). Failed handshakes are not included.
    HandshakeClient,
    /// The handshake of a server, from SYN-ACK to ACK: the kernel's first round-trip time (`srtt_us`). Unknown if the SYN-ACK
    /// was retransmitted.
    HandshakeServer,
    /// From `ESTABLISHED` until `accept()` returned the connection.
    Accept,
    /// Time in a state, whichever state followed. `SYN_RECV` of a server is microseconds of kernel work, not the handshake.
    State(TcpState),
}

impl Measure {
    /// The name in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::HandshakeClient => "handshake_client",
            Self::HandshakeServer => "handshake_server",
            Self::Accept => "accept",
            Self::State(state) => state.key(),
        }
    }

    /// The name in text output.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::HandshakeClient => "client handshake, SYN to SYN-ACK",
            Self::HandshakeServer => "server handshake, SYN-ACK to ACK",
            Self::Accept => "waiting for accept()",
            Self::State(state) => state.name(),
        }
    }
}

/// The connections that the kernel side counts together, whoever owns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LatencyGroup {
    /// All connections.
    All,
    /// Connections with this local port of a network namespace.
    Lport {
        /// The port; 0 if none was chosen.
        port: u16,
        /// Inode number of the namespace.
        netns: Option<NonZeroU32>,
    },
    /// Connections of a network namespace with this peer.
    Remote {
        /// The address of the peer.
        address: Address,
        /// Inode number of the namespace.
        netns: Option<NonZeroU32>,
    },
    /// Connections with an unknown port or peer.
    Unknown,
    /// Connections of groups without room in the table.
    Other,
}

impl LatencyGroup {
    /// Inode number of the network namespace that the port or address belongs to; `None` if unknown, and for all other groups.
    #[must_use]
    pub const fn netns(self) -> Option<NonZeroU32> {
        match self {
            Self::Lport { netns, .. } | Self::Remote { netns, .. } => netns,
            Self::All | Self::Unknown | Self::Other => None,
        }
    }
}

impl fmt::Display for LatencyGroup {
    /// For text and CSV output, without the network namespace.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Lport { port, .. } => port.fmt(f),
            Self::Remote { address, .. } => address.fmt(f),
            Self::Unknown => f.write_str("?"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// The histogram of one measure in one group of connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The measure.
    pub measure: Measure,
    /// A group of connections.
    pub group: LatencyGroup,
    /// The owner of its connections; `None` if it is unknown, or was not asked for.
    pub owner: Option<Owner>,
    /// The times.
    pub histogram: Histogram,
}

/// Retransmitted segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmits {
    /// SYNs of outgoing connections.
    pub syn: u64,
    /// SYN-ACKs of incoming connections.
    pub syn_ack: u64,
    /// All other segments.
    pub data: u64,
}

/// All measurements since the sample before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySample {
    /// The histograms that are not empty.
    pub measured: Vec<Measured>,
    /// Retransmitted segments since the start.
    pub retransmits: Retransmits,
    /// Times since the start that are in no histogram: there was no room for the start of a wait for `accept()`, or the filter selects
    /// owners and the owner is unknown.
    pub unmeasured: u64,
    /// Runs of the BPF programs since the start that the kernel skipped; `None` if it does not count them.
    pub missed: Option<u64>,
}
