//! The kinds of findings.

use serde::{Serialize, Serializer};

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// Sockets that their application never closes.
    Leak,
    /// Many connections for one or a few requests each.
    Churn,
    /// Many connections opened at once.
    Burst,
    /// Local ports run out.
    PortExhaustion,
    /// The kernel refused timewait sockets (`tcp_max_tw_buckets`).
    TimeWaitOverflow,
    /// Accept queues were full.
    AcceptQueueOverflow,
    /// A listener's SYN queue was full: the kernel sent cookies or dropped SYNs.
    SynFlood,
    /// Half-open connections pile up.
    HalfOpen,
    /// Outgoing connections fail.
    ConnectFailures,
    /// The number of orphans is at its limit (`tcp_max_orphans`).
    OrphanLimit,
    /// Many retransmissions.
    RetransmitStorm,
    /// tcpwatch lost or missed events.
    EventLoss,
    /// A setting of the host is harmful or has no effect.
    Host,
}

impl FindingKind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Leak,
        Self::Churn,
        Self::Burst,
        Self::PortExhaustion,
        Self::TimeWaitOverflow,
        Self::AcceptQueueOverflow,
        Self::SynFlood,
        Self::HalfOpen,
        Self::ConnectFailures,
        Self::OrphanLimit,
        Self::RetransmitStorm,
        Self::EventLoss,
        Self::Host,
    ];

    /// The name in machine output and for `tcpwatch explain`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::Churn => "churn",
            Self::Burst => "burst",
            Self::PortExhaustion => "port_exhaustion",
            Self::TimeWaitOverflow => "time_wait_overflow",
            Self::AcceptQueueOverflow => "accept_queue_overflow",
            Self::SynFlood => "syn_flood",
            Self::HalfOpen => "half_open",
            Self::ConnectFailures => "connect_failures",
            Self::OrphanLimit => "orphan_limit",
            Self::RetransmitStorm => "retransmit_storm",
            Self::EventLoss => "event_loss",
            Self::Host => "host",
        }
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}
