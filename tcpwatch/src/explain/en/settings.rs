//! Settings of the host.

use crate::explain::page::SettingText;
use crate::input::setting::Setting;

pub(super) fn text(setting: Setting) -> SettingText {
    match setting {
        Setting::TcpSyncookies => SettingText {
            about: "What happens to a SYN when a listener's SYN queue is full",
            does: &[
                "1: the kernel answers with a SYN cookie and stores nothing until the last ACK returns the \
                cookie. 0: it drops the SYN. 2: it answers every SYN with a cookie.",
            ],
            does_not: &[
                "It does not help against a full accept queue: the kernel then drops SYNs with or \
            without cookies.",
            ],
            change: &["Leave it at 1. 2 is for tests."],
            risk: &[
                "With 0, some dozens of forged SYNs a second block a port for all clients.",
                "Connections made from cookies have window scaling and SACK only if both sides use timestamps.",
            ],
        },
        Setting::TcpTwReuse => SettingText {
            about: "Whether connect() may reuse the port of a connection in TIME_WAIT",
            does: &[
                "0: never. 1: yes. 2: on loopback only. It applies to connections opened by this host, whose \
                TIME_WAIT is on this host, to the same destination. The port can be reused 1 s after the last \
                segment (since Linux 6.14: after net.ipv4.tcp_tw_reuse_delay). Both sides must use timestamps, \
                which separate late segments from new ones.",
            ],
            does_not: &[
                "It does nothing for a server: an incoming connection may always replace one in TIME_WAIT.",
                "It does not shorten TIME_WAIT. The number of timewait sockets stays the same until their ports \
                are needed.",
                "It does nothing if tcp_timestamps is 0 on either side.",
            ],
            change: &[
                "Set 1 if connect() fails because no port is free (no_port, EADDRNOTAVAIL), TIME_WAIT occupies \
                the ports, and the application cannot keep connections open.",
            ],
            risk: &[
                "Small with timestamps. If our last ACK was lost and the peer is still in LAST_ACK, the new \
                connection takes a second longer. The peer answers the SYN with an ACK, our reset clears the old \
                connection there, and the SYN is retransmitted.",
            ],
        },
        Setting::TcpTwRecycle => SettingText {
            about: "Removed in Linux 4.12. It broke clients behind NAT",
            does: &[
                "On Linux 4.12 and later: nothing. The file does not exist, `sysctl -p` reports that it cannot \
                find it, and a line in a sysctl file has no effect.",
                "Before 4.12: timewait sockets ended after a few RTOs, and the kernel stored the last timestamp \
                of each peer address. It silently dropped a SYN with an older timestamp.",
            ],
            does_not: &[
                "It is no safe way to reduce TIME_WAIT on any kernel. Clients behind one NAT address have \
                different clocks, so some of them could not connect. Since Linux 4.10 each connection has its \
                own random timestamp offset, so even a single client could fail.",
            ],
            change: &[
                "Never. Delete the line: `tcpwatch doctor` shows where it is. On a kernel before 4.12 set it to 0.",
            ],
            risk: &["Deleting it: none. Keeping it: somebody believes that it works."],
        },
        Setting::TcpFinTimeout => SettingText {
            about: "How long a closed socket waits in FIN_WAIT2 for the peer's FIN",
            does: &[
                "It limits the time in FIN_WAIT2, in seconds, of sockets that no process holds any more (after \
                close()). TCP_LINGER2 does the same for one socket.",
            ],
            does_not: &[
                "It does not shorten TIME_WAIT, which is fixed at 60 s (TCP_TIMEWAIT_LEN). Many believe so \
                because both values are 60 s by default.",
                "It does not end a socket that a process still holds after shutdown(SHUT_WR), and does not \
                affect CLOSE_WAIT.",
                "It makes no difference to a peer that still sends: the kernel answers data that arrives after \
                close() with a reset, at any value.",
            ],
            change: &[
                "Rarely. Lower it if very many sockets without an owner stay in FIN_WAIT2 because peers do not \
                close.",
            ],
            risk: &[
                "A peer that closes later than this gets a reset for its FIN, because the timewait socket is gone.",
                "Above 60 the real time differs from the value: the socket waits (value - 60) s as a full \
                socket, then the same time again as a timewait socket. 62 means 4 s in total.",
            ],
        },
        Setting::TcpMaxTwBuckets => SettingText {
            about: "The maximum number of timewait sockets",
            does: &[
                "At the limit, a connection that would enter TIME_WAIT goes directly to CLOSE, and \
                TcpExtTCPTimeWaitOverflow counts it. The default depends on memory size.",
            ],
            does_not: &[
                "Lowering it is no cure for TIME_WAIT: it removes the protection and leaves the cause. The \
                kernel's documentation advises against it.",
            ],
            change: &[
                "Raise it if TCPTimeWaitOverflow rises and memory is available: about 250 bytes for each \
            socket.",
            ],
            risk: &[
                "Raising: memory, and more ports in use on a client. Lowering: the kernel answers the peer's \
                late FIN with a reset, and late segments may reach a new connection.",
            ],
        },
        Setting::IpLocalPortRange => SettingText {
            about: "The range of local ports for outgoing connections",
            does: &[
                "connect(), and bind() to port 0, take a free port from this range: 28,232 ports by default. \
                Ports in ip_local_reserved_ports are excluded.",
            ],
            does_not: &[
                "It does not limit the whole host: each pair of source address and destination (address and \
                port) can use the full range. It does not limit servers either: all connections of a listener \
                share its port.",
            ],
            change: &[
                "Widen it if ports to one destination run low (`tcpwatch churn`) and connections cannot be \
                reused: for example 10240 65535.",
            ],
            risk: &[
                "A service that listens on a port inside the range may fail to start because an outgoing \
                connection uses the port. Add such ports to ip_local_reserved_ports first.",
            ],
        },
        Setting::IpLocalReservedPorts => SettingText {
            about: "Ports in ip_local_port_range that the kernel does not assign",
            does: &[
                "connect(), and bind() to port 0, do not take these ports. bind() to one of them by number still \
                works.",
            ],
            does_not: &["It does not take a port away from a connection that uses it."],
            change: &[
                "Set it if a service listens on a port inside ip_local_port_range, so that the service can \
                always start.",
            ],
            risk: &[
                "Each reserved port is one less for outgoing connections. Writing the setting replaces the \
            whole list.",
            ],
        },
        Setting::Somaxconn => SettingText {
            about: "The maximum length of a listener's accept queue",
            does: &[
                "The queue limit is the smaller of this value and the backlog given to listen(). The same limit \
                applies to the listener's half-open requests.",
            ],
            does_not: &[
                "It does not lengthen a queue whose backlog is smaller: nginx and Redis ask for 511, Java for \
                50. Go asks for somaxconn.",
                "It does not affect existing listeners: the kernel reads it when listen() is called, so restart \
                the services.",
                "It does not make a slow application faster.",
            ],
            change: &[
                "Raise it if TcpExtListenOverflows rises and `ss -ltn` shows a listener whose limit (Send-Q) \
                equals this value. Raise the application's backlog too.",
            ],
            risk: &[
                "Small: memory for waiting connections. With a long queue and a slow application, clients give \
                up before they are served.",
            ],
        },
        Setting::TcpMaxSynBacklog => SettingText {
            about: "The maximum number of half-open requests of a listener, without SYN cookies",
            does: &[
                "With tcp_syncookies 0, a listener drops SYNs of unknown peers once three quarters of this \
                number are in use.",
            ],
            does_not: &[
                "With tcp_syncookies on (the default) it has done nothing since Linux 4.4: the listener's \
                backlog, at most somaxconn, limits half-open requests. Many guides still recommend it.",
            ],
            change: &[
                "Raise it if tcp_syncookies is 0 and TcpExtListenDrops rises without ListenOverflows. It is \
                better to turn cookies on.",
            ],
            risk: &["Memory: about 300 bytes for each half-open request."],
        },
        Setting::TcpAbortOnOverflow => SettingText {
            about: "Whether a full accept queue resets the client",
            does: &[
                "0: the kernel drops the last ACK of the handshake. The client believes that it is connected. If \
                the queue has room again, its next data or a retransmitted SYN-ACK completes the connection. If \
                not, the server forgets the request after tcp_synack_retries (63 s). A client that only waits \
                notices nothing; the first segment it sends is answered with a reset. 1: the client gets a reset \
                at once.",
            ],
            does_not: &["It makes no room in the queue. Clients get an error instead of a delay."],
            change: &[
                "Only if a quick error serves clients better: for example a load balancer that then tries \
            the next server.",
            ],
            risk: &["A short burst that would be an unnoticed delay becomes connection reset by peer."],
        },
        Setting::TcpMaxOrphans => SettingText {
            about: "The maximum number of orphans: closed sockets that still have data to send",
            does: &[
                "Above it the kernel resets sockets that no process holds any more. It counts them for the whole \
                host, all namespaces together. Orphans without progress are given up already at a half or a \
                quarter of the limit. The default depends on memory size.",
            ],
            does_not: &[
                "It does not affect TIME_WAIT (timewait sockets are no orphans) or CLOSE_WAIT (these sockets \
                have an owner).",
            ],
            change: &[
                "Raise it if TcpExtTCPAbortOnMemory rises, the kernel log shows too many orphaned sockets, and \
                memory is available.",
            ],
            risk: &[
                "Raising: up to 64 KB of unswappable memory for each orphan. Lowering: clients lose the end of \
                responses.",
            ],
        },
        Setting::TcpOrphanRetries => SettingText {
            about: "How many retransmissions before the kernel gives up a closed socket",
            does: &[
                "It limits FIN_WAIT1, LAST_ACK and CLOSING of sockets that no process holds any more, if the \
                peer does not answer. 0, the default, means 8: about 100 s where the round trip is short.",
            ],
            does_not: &[
                "0 does not mean no retransmissions. It does not affect sockets that a process holds: \
            tcp_retries2 does.",
            ],
            change: &["Lower it to 2 or 3 on a busy server with many orphans whose peers are gone."],
            risk: &["Clients on bad networks lose the end of their responses."],
        },
        Setting::TcpKeepaliveTime => SettingText {
            about: "How long a connection is idle before the first keepalive probe",
            does: &["In seconds, for sockets with SO_KEEPALIVE and without TCP_KEEPIDLE."],
            does_not: &[
                "It does nothing for a socket without SO_KEEPALIVE, which is off unless the application turns it on.",
                "It is not HTTP keep-alive, which reuses a connection for several requests.",
                "It does not end CLOSE_WAIT leaks: the peer's host answers or resets, and the descriptor stays open.",
            ],
            change: &[
                "Lower it if a firewall, NAT or load balancer forgets idle connections sooner than 2 h: choose \
                less than its timeout. It is better to set TCP_KEEPIDLE in the application.",
            ],
            risk: &[
                "Traffic on idle connections and wake-ups of mobile clients. Connections that would survive a \
                short outage end.",
            ],
        },
        Setting::TcpKeepaliveIntvl => SettingText {
            about: "The time between unanswered keepalive probes",
            does: &[
                "In seconds. After tcp_keepalive_probes unanswered probes, 11 minutes by default, the kernel \
                ends the connection (timeout_keepalive).",
            ],
            does_not: &["It does not set how often the kernel probes a peer that answers: tcp_keepalive_time does."],
            change: &[
                "Change it together with tcp_keepalive_time if dead peers must be found sooner. It is better to \
                set TCP_KEEPINTVL in the application.",
            ],
            risk: &["A short outage of the network ends connections."],
        },
        Setting::TcpKeepaliveProbes => SettingText {
            about: "How many unanswered keepalive probes end a connection",
            does: &[
                "After this number of probes the kernel resets the connection, and the application gets \
                ETIMEDOUT. TCP_KEEPCNT sets it for one socket; TCP_USER_TIMEOUT, if set, replaces it.",
            ],
            does_not: &["It does nothing while sent data is unacknowledged: tcp_retries2 decides then."],
            change: &["Change it together with tcp_keepalive_intvl."],
            risk: &["With fewer probes, a few lost packets end a connection."],
        },
        Setting::TcpRetries1 => SettingText {
            about: "How many retransmissions before TCP asks for another route",
            does: &[
                "After this number TCP asks the network layer for another route, and may try smaller packets \
                (tcp_mtu_probing).",
            ],
            does_not: &["It ends no connection."],
            change: &["Rarely."],
            risk: &["None worth mentioning."],
        },
        Setting::TcpRetries2 => SettingText {
            about: "How many retransmissions end an established connection",
            does: &[
                "The kernel converts it to a time: 15 means at least 924.6 s, more where the round trip is long. \
                After that the application gets ETIMEDOUT (timeout_retransmit).",
            ],
            does_not: &[
                "It does not affect idle connections (keepalive does), the handshake (tcp_syn_retries), or \
                closed sockets (tcp_orphan_retries).",
            ],
            change: &[
                "Lower it if applications must notice a failover sooner: 8 is about 100 s, the minimum of RFC \
                1122. It is better to set TCP_USER_TIMEOUT in the application.",
            ],
            risk: &["Shorter outages end all connections of the namespace."],
        },
        Setting::TcpSynRetries => SettingText {
            about: "How long the kernel retransmits a SYN before connect() fails",
            does: &[
                "6: connect() fails with ETIMEDOUT after 131 s or slightly more. Since Linux 6.5 the kernel \
                retransmits the SYN tcp_syn_linear_timeouts (4) times one second apart, then 6 times with \
                doubling intervals: at about 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s. Before Linux 6.5: 6 \
                retransmissions, 127 s.",
                "2 and 1 mean 7 s and 3 s on any kernel: connect() also fails once 2^(N+1) - 1 seconds are over. \
                TCP_SYNCNT sets it for one socket.",
            ],
            does_not: &[
                "It does nothing if the peer answers with a reset, and nothing for incoming connections \
                (tcp_synack_retries).",
            ],
            change: &[
                "Lower it if applications have no connect timeout and hang for two minutes. It is better to give \
                them a timeout.",
            ],
            risk: &["With too few, one or two lost SYNs on a bad network make connect() fail."],
        },
        Setting::TcpSynackRetries => SettingText {
            about: "How many SYN-ACK retransmissions before the kernel drops the request",
            does: &[
                "5: the kernel drops a half-open request after 63 s. It matters for the accept queue too: if the \
                queue is full, these retransmissions keep the handshake alive.",
            ],
            does_not: &["It does not help against a SYN flood with cookies on: the kernel then stores no requests."],
            change: &["Lower it to 2 or 3 if half-open requests of vanished clients fill the queue."],
            risk: &["Clients that lose a few packets cannot connect."],
        },
        Setting::TcpTimestamps => SettingText {
            about: "Timestamps in every segment (RFC 7323)",
            does: &[
                "Timestamps measure round trips, protect against old segments (PAWS), make tcp_tw_reuse \
                possible, and carry the options of connections made from SYN cookies. 1: with a random offset \
                for each connection. 2: without the offset. 0: off.",
            ],
            does_not: &[
                "Since Linux 4.10, with 1, they do not reveal the uptime of the host. 12 bytes a segment are no \
                reason to turn them off.",
            ],
            change: &["Leave it at 1. If it is 0, set it back to 1."],
            risk: &[
                "With 0, tcp_tw_reuse does nothing, fast networks lose protection against wrapped sequence \
                numbers, and SYN cookies lose window scaling and SACK.",
            ],
        },
        Setting::FileMax => SettingText {
            about: "The maximum number of open files of the whole host",
            does: &[
                "Above it open(), socket() and accept() fail with ENFILE, except for privileged processes \
                (CAP_SYS_ADMIN). fs.file-nr shows the current number. The default is one for each 10 KB of \
                memory; systemd since version 240 sets the largest possible number.",
            ],
            does_not: &[
                "It does not raise the limit of a process. Too many open files (EMFILE) is about that limit: \
                `ulimit -n`, LimitNOFILE= in a systemd unit.",
            ],
            change: &["Raise it if fs.file-nr comes close to it."],
            risk: &["Kernel memory. A descriptor leak is noticed later."],
        },
        Setting::NrOpen => SettingText {
            about: "The highest open-file limit that a process can have",
            does: &[
                "setrlimit(RLIMIT_NOFILE) above it fails, also for root. A service with a larger LimitNOFILE= \
                does not get that limit.",
            ],
            does_not: &["It does not change the limit of any process."],
            change: &[
                "Raise it if one process needs more than a million descriptors. Raise it first, then the \
            limit of the process.",
            ],
            risk: &[
                "Programs that loop over all possible descriptors (older daemons, before they exec) become slow \
                with a huge limit.",
            ],
        },
        Setting::NfConntrackMax => SettingText {
            about: "The maximum number of connections that netfilter tracks",
            does: &[
                "When the table is full, the kernel drops packets of new connections and logs nf_conntrack: \
                table full, dropping packet. net.netfilter.nf_conntrack_count shows the current number. The \
                default depends on memory size: 262,144 above 4 GB.",
            ],
            does_not: &[
                "It is not a limit of TCP: without netfilter rules that need it, no connection is tracked. It \
                also counts connections that TCP has forgotten: TIME_WAIT stays for 120 s, an idle connection \
                for 5 days.",
            ],
            change: &[
                "Raise it if nf_conntrack_count comes close to it. Raise nf_conntrack_buckets too, or exempt \
                connections that need no tracking (notrack).",
            ],
            risk: &["Memory: about 300 bytes for each connection. Only the initial network namespace can change it."],
        },
    }
}
