//! The kinds of trouble that detectors find.

use serde::{Serialize, Serializer};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sockets that their application never closes.
    Leak,
    /// Connections opened for a request or few each.
    Churn,
    /// Many connections at once.
    Burst,
    /// Local ports that run out.
    PortExhaustion,
    /// Timewait sockets refused (`tcp_max_tw_buckets`).
    TimeWaitOverflow,
    /// Accept queues that were full.
    AcceptQueueOverflow,
    /// More SYNs than a listener takes: cookies sent, or SYNs dropped.
    SynFlood,
    /// Half-open connections that pile up.
    HalfOpen,
    /// Connects that fail.
    ConnectFailures,
    /// Orphans at their limit.
    OrphanLimit,
    /// Much is sent again.
    RetransmitStorm,
    /// Events of our own that were lost or missed.
    EventLoss,
    /// A setting of the host that hurts, or does not do what it was set for.
    Host,
}

impl Kind {
    /// All of them.
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

    /// The name in machine output, and of what `tcpwatch explain` tells about it.
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

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.key())
    }
}
