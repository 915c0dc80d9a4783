//! Lengths of time that the kernel side measured.

use std::fmt;

use tcpwatch_common::TcpState;

use super::histogram::Histogram;
use super::owner::Process;
use super::socket::Address;

/// What to group histograms by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencyBy {
    /// Nothing: all connections together.
    #[default]
    All,
    /// Local port.
    Lport,
    /// Remote address.
    Remote,
    /// Owner.
    Process,
}

impl LatencyBy {
    /// The name, as typed after `--by` and as the key in machine output; nothing for all together.
    #[must_use]
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Lport => Some("lport"),
            Self::Remote => Some("remote"),
            Self::Process => Some("process"),
        }
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A client's handshake: from SYN to SYN-ACK, where that came (RFC 9293, section 3.5).
    HandshakeClient,
    /// A server's handshake: from SYN-ACK to ACK, by the kernel's first measure of the round-trip time (`srtt_us`). Unknown where
    /// the SYN-ACK was sent again.
    HandshakeServer,
    /// From `ESTABLISHED` until `accept()` returned the connection.
    Accept,
    /// Time in a state, whatever followed. A server's `SYN_RECV` is the kernel's own work of microseconds, and no handshake.
    State(TcpState),
}

impl What {
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

    /// For people.
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

/// Of which connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// All of them.
    All,
    /// Those with this local port; 0 where none was chosen.
    Lport(u16),
    /// Those with this peer.
    Remote(Address),
    /// Those of this process.
    Process(Process),
    /// Those whose port, peer or owner is not known.
    Unknown,
    /// Those of groups for which there was no room.
    Other,
}

impl fmt::Display for Group {
    /// For people and for CSV.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Lport(port) => port.fmt(f),
            Self::Remote(address) => address.fmt(f),
            Self::Process(process) => process.fmt(f),
            Self::Unknown => f.write_str("?"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// The histogram of one length of time in one group of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// What.
    pub what: What,
    /// Of which connections.
    pub group: Group,
    /// The lengths.
    pub histogram: Histogram,
}

/// Segments sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmits {
    /// SYNs, of connections opened from here.
    pub syn: u64,
    /// SYN-ACKs, of connections opened from elsewhere.
    pub syn_ack: u64,
    /// All others.
    pub data: u64,
}

/// All that was measured until one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencySample {
    /// Histograms since the start.
    pub measured: Vec<Measured>,
    /// Segments sent again since then.
    pub retransmits: Retransmits,
    /// Lengths there was no room to count.
    pub unmeasured: u64,
    /// Runs of the kernel side that the kernel skipped; `None` where it does not say.
    pub missed: Option<u64>,
}
