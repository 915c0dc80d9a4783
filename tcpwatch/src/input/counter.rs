//! The kernel's own counters, those that somebody here looks at.

/// A counter of a network namespace (net/ipv4/proc.c).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Counter {
    /// Connects that sent a SYN.
    ActiveOpens,
    /// Connections that listeners made.
    PassiveOpens,
    /// Handshakes that failed, on either side.
    AttemptFails,
    /// Established connections reset, by either side.
    EstabResets,
    /// Segments sent, those sent again not among them.
    OutSegs,
    /// Segments sent again.
    RetransSegs,
    /// Resets sent.
    OutRsts,
    /// Times an accept queue was full.
    ListenOverflows,
    /// SYNs and ACKs that listeners dropped, for that or another reason.
    ListenDrops,
    /// SYNs dropped because too many were half-open.
    TcpReqQFullDrop,
    /// SYNs answered with a cookie for that reason.
    TcpReqQFullDoCookies,
    /// SYN cookies sent.
    SyncookiesSent,
    /// Valid cookies that came back.
    SyncookiesRecv,
    /// ACKs that carried no valid cookie.
    SyncookiesFailed,
    /// Timewait sockets refused.
    TcpTimeWaitOverflow,
    /// Timewait sockets an outgoing connection took over.
    TwRecycled,
    /// Orphans given up for want of memory, or for there were too many.
    TcpAbortOnMemory,
    /// Times TCP came under memory pressure.
    TcpMemoryPressures,
    /// Keepalive probes sent.
    TcpKeepAlive,
    /// Connections given up for nothing was acknowledged.
    TcpAbortOnTimeout,
    /// SYNs and SYN-ACKs sent again.
    TcpSynRetrans,
    /// Retransmission timeouts.
    TcpTimeouts,
    /// SYNs refused for their timestamp, by `tcp_tw_recycle` (until Linux 4.11).
    PawsPassive,
}

impl Counter {
    /// All of them, each at its own number.
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

    /// Its group and name in /proc/net/snmp or /proc/net/netstat; nstat(8) writes them as one.
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

/// A value for every counter; `None` where the kernel has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterValues([Option<u64>; Counter::ALL.len()]);

impl Default for CounterValues {
    fn default() -> Self {
        Self([None; Counter::ALL.len()])
    }
}

impl CounterValues {
    /// What `read` gives for each.
    pub fn read(mut read: impl FnMut(Counter) -> Option<u64>) -> Self {
        Self(Counter::ALL.map(&mut read))
    }

    /// The value of `counter`.
    #[must_use]
    pub fn get(&self, counter: Counter) -> Option<u64> {
        self.0[counter as usize]
    }

    /// How far each has come since `before`; `None` where either is unknown.
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
