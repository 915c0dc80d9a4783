//! The counters of the kernel that tcpwatch reads.

/// A counter of a network namespace (net/ipv4/proc.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Counter {
    /// Outgoing connections that sent a SYN.
    ActiveOpens,
    /// Connections created by listeners.
    PassiveOpens,
    /// Handshakes that failed, on either side.
    AttemptFails,
    /// Established connections reset, by either side.
    EstabResets,
    /// Segments sent, without retransmissions.
    OutSegs,
    /// Retransmitted segments.
    RetransSegs,
    /// Resets sent.
    OutRsts,
    /// Times an accept queue was full.
    ListenOverflows,
    /// SYNs and ACKs dropped by listeners, for this or any other reason.
    ListenDrops,
    /// SYNs dropped because the SYN queue was full.
    TcpReqQFullDrop,
    /// SYNs answered with a cookie because the SYN queue was full.
    TcpReqQFullDoCookies,
    /// SYN cookies sent.
    SyncookiesSent,
    /// Valid SYN cookies received.
    SyncookiesRecv,
    /// ACKs without a valid SYN cookie.
    SyncookiesFailed,
    /// Timewait sockets refused.
    TcpTimeWaitOverflow,
    /// Timewait sockets reused by an outgoing connection.
    TwRecycled,
    /// Orphans given up because of their number or of missing memory.
    TcpAbortOnMemory,
    /// Times TCP entered memory pressure.
    TcpMemoryPressures,
    /// Keepalive probes sent.
    TcpKeepAlive,
    /// Connections given up because the peer acknowledged nothing.
    TcpAbortOnTimeout,
    /// Retransmitted SYNs and SYN-ACKs.
    TcpSynRetrans,
    /// Retransmission timeouts.
    TcpTimeouts,
    /// SYNs dropped by `tcp_tw_recycle` because of their timestamp (until Linux 4.11).
    PawsPassive,
}

impl Counter {
    /// All counters. Each is at the index of its discriminant.
    pub const ALL: [Self; 23] = [
        Self::ActiveOpens,
        Self::PassiveOpens,
        Self::AttemptFails,
        Self::EstabResets,
        Self::OutSegs,
        Self::RetransSegs,
        Self::OutRsts,
        Self::ListenOverflows,
        Self::ListenDrops,
        Self::TcpReqQFullDrop,
        Self::TcpReqQFullDoCookies,
        Self::SyncookiesSent,
        Self::SyncookiesRecv,
        Self::SyncookiesFailed,
        Self::TcpTimeWaitOverflow,
        Self::TwRecycled,
        Self::TcpAbortOnMemory,
        Self::TcpMemoryPressures,
        Self::TcpKeepAlive,
        Self::TcpAbortOnTimeout,
        Self::TcpSynRetrans,
        Self::TcpTimeouts,
        Self::PawsPassive,
    ];

    /// Group and name in /proc/net/snmp or /proc/net/netstat. nstat(8) prints them as one word.
    #[must_use]
    pub const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::ActiveOpens => ("Tcp", "ActiveOpens"),
            Self::PassiveOpens => ("Tcp", "PassiveOpens"),
            Self::AttemptFails => ("Tcp", "AttemptFails"),
            Self::EstabResets => ("Tcp", "EstabResets"),
            Self::OutSegs => ("Tcp", "OutSegs"),
            Self::RetransSegs => ("Tcp", "RetransSegs"),
            Self::OutRsts => ("Tcp", "OutRsts"),
            Self::ListenOverflows => ("TcpExt", "ListenOverflows"),
            Self::ListenDrops => ("TcpExt", "ListenDrops"),
            Self::TcpReqQFullDrop => ("TcpExt", "TCPReqQFullDrop"),
            Self::TcpReqQFullDoCookies => ("TcpExt", "TCPReqQFullDoCookies"),
            Self::SyncookiesSent => ("TcpExt", "SyncookiesSent"),
            Self::SyncookiesRecv => ("TcpExt", "SyncookiesRecv"),
            Self::SyncookiesFailed => ("TcpExt", "SyncookiesFailed"),
            Self::TcpTimeWaitOverflow => ("TcpExt", "TCPTimeWaitOverflow"),
            Self::TwRecycled => ("TcpExt", "TWRecycled"),
            Self::TcpAbortOnMemory => ("TcpExt", "TCPAbortOnMemory"),
            Self::TcpMemoryPressures => ("TcpExt", "TCPMemoryPressures"),
            Self::TcpKeepAlive => ("TcpExt", "TCPKeepAlive"),
            Self::TcpAbortOnTimeout => ("TcpExt", "TCPAbortOnTimeout"),
            Self::TcpSynRetrans => ("TcpExt", "TCPSynRetrans"),
            Self::TcpTimeouts => ("TcpExt", "TCPTimeouts"),
            Self::PawsPassive => ("TcpExt", "PAWSPassive"),
        }
    }
}

/// The value of every counter; `None` if this kernel does not have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValues([Option<u64>; Counter::ALL.len()]);

impl Default for CounterValues {
    fn default() -> Self {
        Self([None; Counter::ALL.len()])
    }
}

impl CounterValues {
    /// Reads every counter with `read`.
    pub fn read(mut read: impl FnMut(Counter) -> Option<u64>) -> Self {
        Self(Counter::ALL.map(&mut read))
    }

    /// The value of `counter`.
    #[must_use]
    pub fn get(&self, counter: Counter) -> Option<u64> {
        self.0[counter as usize]
    }

    /// The increase of each counter since `before`; `None` if either value is unknown.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self::read(|counter| Some(self.get(counter)?.saturating_sub(before.get(counter)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_at_its_own_number() {
        for (number, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, number);
        }
    }

    #[test]
    fn what_came_since_is_known_where_both_are() {
        let before = CounterValues::read(|counter| (counter != Counter::OutRsts).then_some(3));
        let now = CounterValues::read(|counter| (counter != Counter::TcpTimeouts).then_some(5));
        let since = now.since(&before);
        assert_eq!(since.get(Counter::ActiveOpens), Some(2));
        assert_eq!(since.get(Counter::OutRsts), None);
        assert_eq!(since.get(Counter::TcpTimeouts), None);
    }
}
