//! The sysctls that matter to TCP connections.

/// A sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// `net.ipv4.tcp_syncookies`.
    TcpSyncookies,
    /// `net.ipv4.tcp_tw_reuse`.
    TcpTwReuse,
    /// `net.ipv4.tcp_tw_recycle`, removed in Linux 4.12.
    TcpTwRecycle,
    /// `net.ipv4.tcp_fin_timeout`.
    TcpFinTimeout,
    /// `net.ipv4.tcp_max_tw_buckets`.
    TcpMaxTwBuckets,
    /// `net.ipv4.ip_local_port_range`.
    IpLocalPortRange,
    /// `net.ipv4.ip_local_reserved_ports`.
    IpLocalReservedPorts,
    /// `net.core.somaxconn`.
    Somaxconn,
    /// `net.ipv4.tcp_max_syn_backlog`.
    TcpMaxSynBacklog,
    /// `net.ipv4.tcp_abort_on_overflow`.
    TcpAbortOnOverflow,
    /// `net.ipv4.tcp_max_orphans`.
    TcpMaxOrphans,
    /// `net.ipv4.tcp_orphan_retries`.
    TcpOrphanRetries,
    /// `net.ipv4.tcp_keepalive_time`.
    TcpKeepaliveTime,
    /// `net.ipv4.tcp_keepalive_intvl`.
    TcpKeepaliveIntvl,
    /// `net.ipv4.tcp_keepalive_probes`.
    TcpKeepaliveProbes,
    /// `net.ipv4.tcp_retries1`.
    TcpRetries1,
    /// `net.ipv4.tcp_retries2`.
    TcpRetries2,
    /// `net.ipv4.tcp_syn_retries`.
    TcpSynRetries,
    /// `net.ipv4.tcp_synack_retries`.
    TcpSynackRetries,
    /// `net.ipv4.tcp_timestamps`.
    TcpTimestamps,
    /// `fs.file-max`.
    FileMax,
    /// `fs.nr_open`.
    NrOpen,
    /// `net.netfilter.nf_conntrack_max`.
    NfConntrackMax,
}

impl Setting {
    /// All settings, in output order.
    pub const ALL: [Self; 23] = [
        Self::TcpSyncookies,
        Self::TcpTwReuse,
        Self::TcpTwRecycle,
        Self::TcpFinTimeout,
        Self::TcpMaxTwBuckets,
        Self::IpLocalPortRange,
        Self::IpLocalReservedPorts,
        Self::Somaxconn,
        Self::TcpMaxSynBacklog,
        Self::TcpAbortOnOverflow,
        Self::TcpMaxOrphans,
        Self::TcpOrphanRetries,
        Self::TcpKeepaliveTime,
        Self::TcpKeepaliveIntvl,
        Self::TcpKeepaliveProbes,
        Self::TcpRetries1,
        Self::TcpRetries2,
        Self::TcpSynRetries,
        Self::TcpSynackRetries,
        Self::TcpTimestamps,
        Self::FileMax,
        Self::NrOpen,
        Self::NfConntrackMax,
    ];

    /// The name in sysctl(8).
    #[must_use]
    pub const fn sysctl(self) -> &'static str {
        match self {
            Self::TcpSyncookies => "net.ipv4.tcp_syncookies",
            Self::TcpTwReuse => "net.ipv4.tcp_tw_reuse",
            Self::TcpTwRecycle => "net.ipv4.tcp_tw_recycle",
            Self::TcpFinTimeout => "net.ipv4.tcp_fin_timeout",
            Self::TcpMaxTwBuckets => "net.ipv4.tcp_max_tw_buckets",
            Self::IpLocalPortRange => "net.ipv4.ip_local_port_range",
            Self::IpLocalReservedPorts => "net.ipv4.ip_local_reserved_ports",
            Self::Somaxconn => "net.core.somaxconn",
            Self::TcpMaxSynBacklog => "net.ipv4.tcp_max_syn_backlog",
            Self::TcpAbortOnOverflow => "net.ipv4.tcp_abort_on_overflow",
            Self::TcpMaxOrphans => "net.ipv4.tcp_max_orphans",
            Self::TcpOrphanRetries => "net.ipv4.tcp_orphan_retries",
            Self::TcpKeepaliveTime => "net.ipv4.tcp_keepalive_time",
            Self::TcpKeepaliveIntvl => "net.ipv4.tcp_keepalive_intvl",
            Self::TcpKeepaliveProbes => "net.ipv4.tcp_keepalive_probes",
            Self::TcpRetries1 => "net.ipv4.tcp_retries1",
            Self::TcpRetries2 => "net.ipv4.tcp_retries2",
            Self::TcpSynRetries => "net.ipv4.tcp_syn_retries",
            Self::TcpSynackRetries => "net.ipv4.tcp_synack_retries",
            Self::TcpTimestamps => "net.ipv4.tcp_timestamps",
            Self::FileMax => "fs.file-max",
            Self::NrOpen => "fs.nr_open",
            Self::NfConntrackMax => "net.netfilter.nf_conntrack_max",
        }
    }

    /// The last part of the name, used by `tcpwatch explain` and in findings.
    #[must_use]
    pub fn key(self) -> &'static str {
        let name = self.sysctl();
        name.rsplit_once('.').map_or(name, |(_, key)| key)
    }
}
