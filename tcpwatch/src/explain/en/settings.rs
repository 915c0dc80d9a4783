//! Settings of the host.

use crate::explain::page::SettingText;
use crate::input::setting::Setting;

pub(super) fn text(setting: Setting) -> SettingText {
    match setting {
        Setting::TcpSyncookies => SettingText {
            about: "What happens to a SYN when a listener's SYN queue is full",
            does: &[
                "1: the kernel answers with a cookie, and remembers nothing until the cookie comes back with \
                the last ACK. 0: it drops the SYN. 2: it answers every SYN with a cookie.",
            ],
            does_not: &["It does not help against a full accept queue: then SYNs are dropped, cookies or not."],
            change: &["Leave it at 1. 2 is for tests."],
            risk: &[
                "0 lets some dozens of forged SYNs a second shut a port.",
                "Connections made from cookies have window scaling and SACK only where both sides use timestamps.",
            ],
        },
        Setting::TcpTwReuse => SettingText {
            about: "Whether connect() may take the port of a connection in TIME_WAIT",
            does: &[
                "0: never. 1: yes. 2: on loopback only. It applies to connections opened here whose TIME_WAIT \
                is here, to the same destination, 1 s after its last segment at the earliest (since Linux 6.14 \
                net.ipv4.tcp_tw_reuse_delay says how long). Timestamps must be on at both sides: they tell \
                late segments from new ones.",
            ],
            does_not: &[
                "It does nothing for a server: connections that come in need no permission to take the place \
                of one in TIME_WAIT.",
                "It does not shorten TIME_WAIT, and does not lower the number of timewait sockets before their \
                ports are wanted.",
                "It does nothing where tcp_timestamps is 0 on either side.",
            ],
            change: &[
                "1, where connect() fails for want of ports (no_port, EADDRNOTAVAIL), TIME_WAIT has them, and \
                the connections cannot be kept open.",
            ],
            risk: &[
                "Small where timestamps are in use. If the peer is still in LAST_ACK because our last ACK was \
                lost, the new connection takes a second longer: its SYN is answered with an ACK, a reset \
                clears the old end, and the SYN is sent again.",
            ],
        },
        Setting::TcpTwRecycle => SettingText {
            about: "Gone since Linux 4.12. It broke clients behind NAT",
            does: &[
                "On Linux 4.12 and later: nothing. The file is not there, `sysctl -p` says that it cannot find \
                it, and a line in a sysctl file is dead.",
                "Before: timewait sockets ended after a few RTOs, and the timestamp of the last segment was \
                remembered for each peer address. A SYN with an older timestamp was dropped without a word.",
            ],
            does_not: &[
                "It is no way to have less TIME_WAIT, on any kernel. Clients behind one NAT address have \
                clocks of their own, so that some of them could not connect. Since Linux 4.10 timestamps have \
                another random offset in each connection, so that even single clients could not.",
            ],
            change: &[
                "Never. Delete the line: `tcpwatch doctor` says where it is. On a kernel before 4.12 set it to 0.",
            ],
            risk: &["Of deleting it: none. Of keeping it: someone trusts that it works."],
        },
        Setting::TcpFinTimeout => SettingText {
            about: "How long a closed socket waits in FIN_WAIT2 for the peer's FIN",
            does: &[
                "It bounds FIN_WAIT2 of sockets that no process holds any more (after close()), in seconds. \
                TCP_LINGER2 does the same for one socket.",
            ],
            does_not: &[
                "It does not shorten TIME_WAIT, which is 60 s, fixed (TCP_TIMEWAIT_LEN). That they have the \
                same default is why it is believed.",
                "It does not end a socket that a process still holds after shutdown(SHUT_WR), and has nothing \
                to do with CLOSE_WAIT.",
                "It makes no difference to a peer that still sends: data that comes after close() is answered \
                with a reset, at any value.",
            ],
            change: &[
                "Hardly ever. Lower it where FIN_WAIT2 without owners are very many, because peers do not close.",
            ],
            risk: &[
                "A peer that closes later than this gets a reset for its FIN: the timewait socket is gone by then.",
                "Above 60 it is not what it says: the socket waits for the value less 60 s as a full one, and \
                as long again as a timewait socket. 62 is 4 s in all.",
            ],
        },
        Setting::TcpMaxTwBuckets => SettingText {
            about: "The most timewait sockets there may be",
            does: &[
                "Above it a connection that would go to TIME_WAIT goes straight to CLOSE, and \
                TcpExtTCPTimeWaitOverflow counts it. The default follows from memory.",
            ],
            does_not: &[
                "Lowering it is no cure for TIME_WAIT. It takes away the protection and leaves the cause, and \
                the kernel's documentation says not to.",
            ],
            change: &["Raise it where TCPTimeWaitOverflow rises and memory is there: some 250 bytes each."],
            risk: &[
                "Raising: memory, and more ports in use at a client. Lowering: the peer's late FIN is answered \
                by a reset, and late segments may reach a new connection.",
            ],
        },
        Setting::IpLocalPortRange => SettingText {
            about: "The local ports that connect() takes from",
            does: &[
                "connect(), and bind() to port 0, take a free port of this range: 28,232 by default. Those in \
                ip_local_reserved_ports are left out.",
            ],
            does_not: &[
                "It is no limit for the host: each destination address and port has all of them, from each \
                source address. It is no limit for servers either: a listener's connections all have its one \
                port.",
            ],
            change: &[
                "Widen it where ports to one destination run low (`tcpwatch churn`), after keeping connections \
                was considered: 10240 65535, say.",
            ],
            risk: &[
                "A service that listens on a port of the range may not start because an outgoing connection \
                has it. Put such ports in ip_local_reserved_ports first.",
            ],
        },
        Setting::IpLocalReservedPorts => SettingText {
            about: "Ports of the range that are not given out",
            does: &[
                "connect(), and bind() to port 0, leave these ports alone. bind() to one of them by its number \
                works as ever.",
            ],
            does_not: &["It does not take a port away from a connection that has it."],
            change: &[
                "Where a service listens on a port inside ip_local_port_range, so that it can start at any time.",
            ],
            risk: &["Every port reserved is one fewer to connect from. Writing it replaces the whole list."],
        },
        Setting::Somaxconn => SettingText {
            about: "The most a listener's accept queue may hold",
            does: &[
                "listen(backlog) gets the smaller of the two. The same number bounds the listener's half-open \
                requests.",
            ],
            does_not: &[
                "It does not make a queue longer that asked for less: nginx and Redis ask for 511, Java for \
                50; Go asks for somaxconn.",
                "It does not reach listeners that listen already: the limit is taken when listen() is called, \
                so restart them.",
                "It does not make a slow application faster.",
            ],
            change: &[
                "Where TcpExtListenOverflows rises and `ss -ltn` shows a listener whose limit (Send-Q) is this \
                number. Raise the application's own backlog with it.",
            ],
            risk: &[
                "Small: memory of connections that wait. A long queue before a slow application means that \
                clients have given up when they are served.",
            ],
        },
        Setting::TcpMaxSynBacklog => SettingText {
            about: "How many half-open requests a listener remembers, without SYN cookies",
            does: &[
                "With tcp_syncookies 0, SYNs of peers not known from before are dropped once three quarters of \
                it are taken, for each listener.",
            ],
            does_not: &[
                "With tcp_syncookies on, as by default, it does nothing since Linux 4.4: the listener's \
                backlog, at most somaxconn, bounds the half-open requests. It is set by many guides all the \
                same.",
            ],
            change: &[
                "Where tcp_syncookies is 0 and TcpExtListenDrops rises without ListenOverflows. Or, better, \
                turn cookies on.",
            ],
            risk: &["Memory: some 300 bytes for each half-open request."],
        },
        Setting::TcpAbortOnOverflow => SettingText {
            about: "Whether a full accept queue resets the client",
            does: &[
                "0: the last ACK of the handshake is dropped. The client, which believes that it is connected, \
                is let in by what it sends next, or by a SYN-ACK that is sent again, if there is room by then. \
                If there is none until tcp_synack_retries are over (63 s), the server forgets it without a \
                word: a client that only waits hears nothing, and its first segment is answered with a reset. \
                1: it gets a reset at once.",
            ],
            does_not: &["It makes no room. Clients get an error instead of a delay."],
            change: &["Only where clients do better with a quick error: a load balancer that tries the next server."],
            risk: &["A short burst, which would have been a delay nobody notices, becomes connection reset by peer."],
        },
        Setting::TcpMaxOrphans => SettingText {
            about: "The most closed sockets that still have something to send",
            does: &[
                "Above it the kernel resets sockets that no process holds any more. It counts them on the \
                whole host, all namespaces together. Those that make no progress are given up at a half or a \
                quarter of it already. The default follows from memory.",
            ],
            does_not: &[
                "It has nothing to do with TIME_WAIT (timewait sockets are no orphans), nor with CLOSE_WAIT \
                (those have an owner).",
            ],
            change: &[
                "Raise it where TcpExtTCPAbortOnMemory rises, the kernel log says too many orphaned sockets, \
                and memory is there.",
            ],
            risk: &[
                "Raising: up to 64 KB for each, which cannot be swapped out. Lowering: the end of responses \
                gets lost.",
            ],
        },
        Setting::TcpOrphanRetries => SettingText {
            about: "How often a closed socket sends again before it is given up",
            does: &[
                "It bounds FIN_WAIT1, LAST_ACK and CLOSING of sockets that no process holds any more, when the \
                peer does not answer. 0, the default, stands for 8: some 100 s where the round trip is short.",
            ],
            does_not: &["0 does not mean none. It does not reach sockets that a process holds: that is tcp_retries2."],
            change: &["Lower it (2, 3) on a busy server with many orphans to peers that are gone."],
            risk: &["Clients on bad networks lose the end of their responses."],
        },
        Setting::TcpKeepaliveTime => SettingText {
            about: "How long a connection is idle before its peer is probed",
            does: &["In seconds, for sockets that have SO_KEEPALIVE and no TCP_KEEPIDLE of their own."],
            does_not: &[
                "It does nothing for a socket without SO_KEEPALIVE, and that is off unless the application \
                turns it on.",
                "It is not HTTP keep-alive, which is about using a connection again.",
                "It does not end CLOSE_WAIT leaks: a peer's host that is alive answers, or resets, and the \
                descriptor stays.",
            ],
            change: &[
                "Where a firewall, NAT or load balancer forgets connections that are idle for less than 2 h: \
                make it shorter than that timeout. Better in the application (TCP_KEEPIDLE).",
            ],
            risk: &[
                "Traffic on idle connections, wake-ups of mobile clients; connections that would have outlived \
                a short outage are given up.",
            ],
        },
        Setting::TcpKeepaliveIntvl => SettingText {
            about: "How long between keepalive probes that nobody answers",
            does: &[
                "In seconds. tcp_keepalive_probes of them, 11 minutes by default, after which the connection \
                is given up (timeout_keepalive).",
            ],
            does_not: &[
                "It is not how often an idle connection is probed while the peer answers: that is \
                tcp_keepalive_time.",
            ],
            change: &[
                "Together with tcp_keepalive_time, where dead peers must be found sooner. Better in the \
                application (TCP_KEEPINTVL).",
            ],
            risk: &["A short outage of the network ends connections."],
        },
        Setting::TcpKeepaliveProbes => SettingText {
            about: "How many keepalive probes go unanswered before the end",
            does: &[
                "After so many the connection is reset, and the application gets ETIMEDOUT. TCP_KEEPCNT sets \
                it for one socket, and TCP_USER_TIMEOUT takes its place where it is set.",
            ],
            does_not: &["It does nothing while data is unacknowledged: then tcp_retries2 decides."],
            change: &["Together with tcp_keepalive_intvl."],
            risk: &["Fewer probes: a few lost packets end a connection."],
        },
        Setting::TcpRetries1 => SettingText {
            about: "After how many retransmissions the route is doubted",
            does: &[
                "TCP asks the network layer to look for another route, and may try smaller packets \
                (tcp_mtu_probing).",
            ],
            does_not: &["It ends no connection."],
            change: &["Hardly ever."],
            risk: &["None to speak of."],
        },
        Setting::TcpRetries2 => SettingText {
            about: "After how many retransmissions an open connection is given up",
            does: &[
                "It is turned into a length of time: for 15 it is 924.6 s at least, more where the round trip \
                is long. Then the application gets ETIMEDOUT (timeout_retransmit).",
            ],
            does_not: &[
                "It does not reach idle connections (keepalive does), the handshake (tcp_syn_retries), or \
                sockets already closed (tcp_orphan_retries).",
            ],
            change: &[
                "Lower it (8 is about 100 s, the least RFC 1122 allows) where a failover must be noticed \
                sooner. Better in the application, by TCP_USER_TIMEOUT.",
            ],
            risk: &["All connections of the namespace end by shorter outages."],
        },
        Setting::TcpSynRetries => SettingText {
            about: "For how long a SYN is sent again before connect() fails",
            does: &[
                "6: connect() fails with ETIMEDOUT after 131 s, or a little more. Since Linux 6.5 the SYN is \
                sent again tcp_syn_linear_timeouts (4) times a second apart, and 6 times more with waits that \
                double: at about 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s. Before, it was 6 times, and 127 s.",
                "2 and 1 end after 7 s and 3 s, on any kernel: it also ends once 2^(N+1) - 1 seconds are over. \
                TCP_SYNCNT sets it for one socket.",
            ],
            does_not: &[
                "It does nothing where the peer answers with a reset, and nothing for connections that come in \
                (tcp_synack_retries).",
            ],
            change: &[
                "Where applications have no connect timeout of their own and hang for two minutes. Better to \
                give them one.",
            ],
            risk: &["Too few, and a lost SYN or two on a bad network fail the connect."],
        },
        Setting::TcpSynackRetries => SettingText {
            about: "How often a SYN-ACK is sent again before the request is dropped",
            does: &[
                "5: a half-open request is dropped after 63 s. The accept queue matters too: a handshake that \
                finds it full is kept alive by these retransmissions.",
            ],
            does_not: &["It is no remedy against a SYN flood with cookies on: then nothing is remembered."],
            change: &["Lower it (2, 3) where half-open requests of clients that are gone fill the queue."],
            risk: &["Clients that lose a few packets do not get in."],
        },
        Setting::TcpTimestamps => SettingText {
            about: "Timestamps in every segment (RFC 7323)",
            does: &[
                "They measure round trips, protect from old segments (PAWS), let tcp_tw_reuse work, and carry \
                the options of connections made from SYN cookies. 1: with a random offset in each connection. \
                2: without. 0: off.",
            ],
            does_not: &[
                "Since Linux 4.10 they do not tell how long the host has been up (with 1). 12 bytes a segment \
                are no reason to turn them off.",
            ],
            change: &["Leave it at 1. Set it back where it is 0."],
            risk: &[
                "0: tcp_tw_reuse does nothing, fast networks lose their protection from wrapped sequence \
                numbers, and cookies lose window scaling and SACK.",
            ],
        },
        Setting::FileMax => SettingText {
            about: "The most open files of the whole host",
            does: &[
                "Above it open(), socket() and accept() fail with ENFILE, but not for privileged processes \
                (CAP_SYS_ADMIN). fs.file-nr shows how many there are. The default is one for each 10 KB of \
                memory; systemd since version 240 sets it to the highest number there is.",
            ],
            does_not: &[
                "It does not raise the limit of a process. Too many open files (EMFILE) is that limit: `ulimit \
                -n`, LimitNOFILE= in a systemd unit.",
            ],
            change: &["Where fs.file-nr comes close to it."],
            risk: &["Memory of the kernel. A leak is found later."],
        },
        Setting::NrOpen => SettingText {
            about: "The highest a process's limit of open files can be set",
            does: &[
                "setrlimit(RLIMIT_NOFILE) above it fails, for root too, and services with a larger \
                LimitNOFILE= do not get it.",
            ],
            does_not: &["It changes no process's limit by itself."],
            change: &["Where one process needs more than a million descriptors. Raise it first, then the limit."],
            risk: &[
                "Programs that walk all possible descriptors (older daemons, before they exec) take long where \
                the limit is huge.",
            ],
        },
        Setting::NfConntrackMax => SettingText {
            about: "The most connections that netfilter follows",
            does: &[
                "When the table is full, packets of new connections are dropped, and the kernel log says \
                nf_conntrack: table full, dropping packet. net.netfilter.nf_conntrack_count shows how many \
                there are. The default follows from memory: 262,144 above 4 GB.",
            ],
            does_not: &[
                "It is no limit of TCP's own: without netfilter rules that need it, nothing is followed. And \
                it counts what TCP has forgotten: TIME_WAIT is kept for 120 s, an idle connection for 5 days.",
            ],
            change: &[
                "Where nf_conntrack_count comes close to it. Raise nf_conntrack_buckets with it; or do not \
                follow what needs no following (notrack).",
            ],
            risk: &["Memory: some 300 bytes each. Only the first network namespace can change it."],
        },
    }
}
