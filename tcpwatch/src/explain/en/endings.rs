//! How a connection ended.

use crate::explain::page::EndingText;
use crate::model::ending::Ending;

pub(super) fn text(ending: Ending) -> EndingText {
    match ending {
        Ending::GracefulActive => EndingText {
            about: "We closed first, the peer closed too: TIME_WAIT is here",
            happened: &[
                "Both sides sent a FIN and acknowledged the other's; ours was out first. The kernel closed the \
                socket and left a timewait socket for 60 s, or refused one if there were tcp_max_tw_buckets \
                already, which the socket cannot tell.",
            ],
            causes: &[
                "The normal end, on the side that closes first: a client that is done, a server that ends a \
                connection after the response or when it was idle for long.",
            ],
            look: &[
                "`tcpwatch churn`: who makes how many of them.",
                "`nstat -az TcpExtTCPTimeWaitOverflow`: how many were refused.",
            ],
        },
        Ending::GracefulPassive => EndingText {
            about: "The peer closed first, then we did",
            happened: &[
                "The peer's FIN came, the application here closed, and the peer acknowledged our FIN. Nothing \
                remains here; the peer has the TIME_WAIT.",
            ],
            causes: &["The normal end, on the side that closes second."],
            look: &[
                "The time spent in CLOSE_WAIT (spent_ns in `tcpwatch life -o json`): how long the \
                application took to close.",
            ],
        },
        Ending::Simultaneous => EndingText {
            about: "Both closed at once: TIME_WAIT is on both sides",
            happened: &[
                "The FINs crossed on their way, and each was acknowledged. Both sides keep a timewait socket \
                for 60 s, or were refused one.",
            ],
            causes: &["Both ends close at the end of the same exchange. Common on loopback, rare over a network."],
            look: &[
                "Nothing. If two timewait sockets a connection are too many, let one side wait for the other's \
                FIN before it closes.",
            ],
        },
        Ending::ClosedFirst => EndingText {
            about: "We closed; the peer has acknowledged and not closed yet",
            happened: &[
                "close() was called here, and the peer's kernel acknowledged our FIN. The full socket is gone; \
                a timewait socket stays in FIN_WAIT2. When the peer's FIN comes it goes on to TIME_WAIT, which \
                nobody announces. If none comes it is gone after tcp_fin_timeout.",
            ],
            causes: &[
                "Every close() that the peer answers a moment later: on a network the acknowledgement mostly \
                comes before the FIN.",
                "A peer that is slow to close, or never does: it has a CLOSE_WAIT then.",
            ],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`: which peers have still not closed."],
        },
        Ending::ResetByPeer => EndingText {
            about: "The peer sent a reset",
            happened: &[
                "A reset came in, and the connection was over at once, without TIME_WAIT. Data on its way may \
                be lost. The application gets ECONNRESET, or EPIPE where the peer had closed before.",
            ],
            causes: &[
                "The peer's process ended or closed with data unread, or with SO_LINGER 0.",
                "We sent data after the peer had closed: nobody reads it there any more.",
                "The peer's host restarted, or a firewall or load balancer forgot the connection (an idle \
                timeout) and answers with resets.",
                "The peer's accept queue was full and tcp_abort_on_overflow is set there.",
            ],
            look: &[
                "`tcpwatch life`: which connections, how old, what they carried. Always the same age \
                points to an idle timeout on the way.",
                "`tcpwatch trace` on the peer's host: there the same end has its reason (reset_unread, \
                reset_linger).",
            ],
        },
        Ending::ResetLinger => EndingText {
            about: "We sent a reset: closed with SO_LINGER 0",
            happened: &[
                "The application had set SO_LINGER with a time of 0, so that close() sent a reset in place of \
                a FIN. What was not sent yet is thrown away. No TIME_WAIT.",
            ],
            causes: &[
                "Code that wants to have no TIME_WAIT: load generators, some proxies and health checks.",
                "A library that sets it for connections it gives up.",
            ],
            look: &[
                "`tcpwatch life`: the owner of such connections.",
                "If the peer misses data, this is why. Remove SO_LINGER 0 from code that ends connections in \
                the normal way.",
            ],
        },
        Ending::ResetUnread => EndingText {
            about: "We sent a reset: closed with data unread",
            happened: &[
                "close() was called while received data was still unread. The kernel tells the peer by a reset \
                that the data did not arrive (RFC 2525, section 2.17). No TIME_WAIT. The peer may lose even \
                what we had sent before, if it has not read it.",
            ],
            causes: &[
                "A server that answers an error without reading the whole request.",
                "A client that has seen enough, or ran into its own timeout.",
                "A protocol that sends something after its last message: a newline, a TLS close_notify.",
            ],
            look: &[
                "`tcpwatch life`: the owner, and how much came in.",
                "To avoid it: shutdown(SHUT_WR), read until read() returns 0, then close().",
            ],
        },
        Ending::ResetAfterClose => EndingText {
            about: "We sent a reset after we had closed: data came late",
            happened: &[
                "The application here had closed, and then data came that nobody will read; or TCP_LINGER2 was \
                negative, which says not to wait for the peer's FIN. The kernel sent a reset. No TIME_WAIT.",
            ],
            causes: &[
                "The peer was still sending when we closed: an upload that was broken off, a pipelined request.",
                "An application that closes without waiting for the peer's end of file.",
            ],
            look: &[
                "`tcpwatch life`: the owner, and closed by. Whether the peer may still send at that \
                point is a matter of the protocol.",
            ],
        },
        Ending::ResetByUs => EndingText {
            about: "We sent a reset, or gave up what was not acknowledged; why is not known",
            happened: &[
                "A reset left from here, or the socket was closed with data or a FIN that nobody acknowledged. \
                What the socket tells does not say more: SO_LINGER 0 and a disconnect after shutdown() look \
                alike.",
            ],
            causes: &[
                "What is behind reset_linger, reset_unread, reset_after_close and disconnected, on a kernel \
                before 6.12, which does not say why it sends a reset.",
                "A disconnect or SO_LINGER 0 after shutdown().",
            ],
            look: &["`tcpwatch life`: the owner, and the state it was in."],
        },
        Ending::Refused => EndingText {
            about: "The peer refused the connection",
            happened: &[
                "Our SYN was answered by a reset, or by an ICMP message that says the same. connect() fails \
                with ECONNREFUSED.",
            ],
            causes: &[
                "Nobody listens at that address and port: the service is down, restarts, or listens on another \
                address.",
                "A firewall that rejects.",
            ],
            look: &[
                "On the peer's host, `ss -ltn` shows who listens where. A service on 127.0.0.1 cannot be \
                reached from elsewhere.",
                "`tcpwatch churn`: who is refused, and where.",
            ],
        },
        Ending::TimeoutConnect => EndingText {
            about: "No answer to the SYN",
            happened: &[
                "The SYN was sent again and again, for as long as tcp_syn_retries or TCP_USER_TIMEOUT allows, \
                and nothing came. connect() fails with ETIMEDOUT.",
            ],
            causes: &[
                "A firewall or security group that drops.",
                "A host that is down, or an address that nobody has.",
                "A server whose accept queue is full: it drops SYNs.",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`: on the server, whether its queues were full.",
                "tcpdump on both sides: does the SYN arrive, does the SYN-ACK leave?",
            ],
        },
        Ending::TimeoutRetransmit => EndingText {
            about: "No answer to what was sent again and again",
            happened: &[
                "Data or a FIN was sent again until tcp_retries2 or tcp_orphan_retries said to stop, or \
                TCP_USER_TIMEOUT ended; or the peer's window stayed shut and its probes were not answered. The \
                application gets ETIMEDOUT.",
            ],
            causes: &[
                "The peer's host lost power, network or route; or a firewall forgot the connection and drops.",
                "A path that loses large packets (MTU).",
            ],
            look: &[
                "`ss -tno`: where N in timer:(on,TIME,N) is above 0, something was sent again N times and is \
                not acknowledged.",
                "`tcpwatch life`: retr of each connection, and the peers that have it in common.",
            ],
        },
        Ending::TimeoutKeepalive => EndingText {
            about: "No answer to keepalive probes",
            happened: &[
                "The connection was idle, SO_KEEPALIVE was set, and tcp_keepalive_probes went unanswered. The \
                kernel sent a reset and closed. The application gets ETIMEDOUT.",
            ],
            causes: &[
                "The peer's host is gone without a word, or a firewall in between forgot the idle connection \
                and drops.",
            ],
            look: &[
                "Whether it happens after the same idle time: then something on the way has that timeout, and \
                tcp_keepalive_time or TCP_KEEPIDLE must be shorter.",
            ],
        },
        Ending::TimeoutFinWait2 => EndingText {
            about: "We had closed, and the peer did not close in time",
            happened: &[
                "A socket without an owner waited in FIN_WAIT2 as a full socket, as it does where \
                tcp_fin_timeout or TCP_LINGER2 is above 60 s. When its timer ran out, it had waited longer \
                than it may by now, and the kernel sent a reset. No TIME_WAIT. Mostly it becomes a timewait \
                socket at that point instead (closed_first).",
            ],
            causes: &[
                "tcp_fin_timeout was made shorter while it waited. Behind it is a peer that does not close: it \
                leaks, in CLOSE_WAIT.",
            ],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`: which peers."],
        },
        Ending::Killed => EndingText {
            about: "An administrator ended it",
            happened: &[
                "`ss -K`, or another program by SOCK_DESTROY, told the kernel to end it. The peer got a reset, \
                the application gets ECONNABORTED.",
            ],
            causes: &[
                "A person, a script, or a system service that ends connections of an address or user that is \
                gone (Android, some container networks).",
            ],
            look: &["Who calls `ss -K` or sends SOCK_DESTROY on this host."],
        },
        Ending::ListenerClosed => EndingText {
            about: "Its listener closed before anybody accepted it; or it is the listener",
            happened: &[
                "A listener closed. Connections that were ready and not accepted are reset; their peers see a \
                reset although the handshake was done.",
            ],
            causes: &["A server that stops or restarts with connections in its accept queue."],
            look: &[
                "For a restart without loss: hand the listener over (systemd socket activation), or stop new \
                connections before the process ends. Linux 5.14 and later can move them to another \
                SO_REUSEPORT listener (net.ipv4.tcp_migrate_req).",
            ],
        },
        Ending::Disconnected => EndingText {
            about: "The application disconnected it",
            happened: &[
                "connect() with AF_UNSPEC was called: the socket is free for another connection, the peer got \
                a reset.",
            ],
            causes: &["Rare: libraries that use a socket again, programs that test this."],
            look: &["`tcpwatch life`: the owner."],
        },
        Ending::Unreachable => EndingText {
            about: "The network said that the peer cannot be reached",
            happened: &[
                "An ICMP message came, or the neighbour did not answer ARP: no route, no such host, or \
                forbidden. The application gets EHOSTUNREACH or ENETUNREACH.",
            ],
            causes: &[
                "A host in the same network that is down.",
                "A router without a route, or a firewall that rejects with ICMP.",
            ],
            look: &[
                "`ip route get ADDRESS`: whether there is a route.",
                "`ip neigh`: whether the neighbour answers ARP. FAILED means that it does not.",
                "`tcpwatch churn`: such failures, by destination.",
            ],
        },
        Ending::NoPort => EndingText {
            about: "No local port was left",
            happened: &[
                "connect() found no free local port for that destination, and failed with EADDRNOTAVAIL. No \
                SYN was sent.",
            ],
            causes: &[
                "More connections to one destination than ip_local_port_range has ports, most of them in TIME_WAIT.",
                "Programs that call bind() with an address before connect(), without IP_BIND_ADDRESS_NO_PORT: \
                each of their ports is lost to every destination. They themselves fail in bind(), with \
                EADDRINUSE, before there is a connection: no ending tells of that.",
            ],
            look: &["`tcpwatch churn`: whose connections take the ports, and when they run out."],
        },
        Ending::ConnectAbandoned => EndingText {
            about: "The application gave up before the peer answered",
            happened: &["The socket was closed, or disconnected, while it was in SYN_SENT."],
            causes: &[
                "A timeout of the application's own, shorter than the kernel's.",
                "Happy eyeballs (RFC 8305): IPv6 and IPv4 were tried together, and the other won.",
            ],
            look: &[
                "How long each attempt took (`tcpwatch life`): always the same time is a timeout. \
                Then see timeout_connect for why no answer came.",
            ],
        },
        Ending::OutOfMemory => EndingText {
            about: "The kernel gave up a socket without an owner: too many, or no memory",
            happened: &[
                "There were too many orphans for tcp_max_orphans (of those whose peer does not answer the \
                first are given up at a half or a quarter of it), or TCP was out of memory (tcp_mem). The \
                kernel sent a reset and freed the socket. No TIME_WAIT, and data not yet sent is lost.",
            ],
            causes: &[
                "Many connections closed with data that their peers do not take: slow or dead clients of a \
                busy server.",
            ],
            look: &[
                "`nstat -az TcpExtTCPAbortOnMemory`: how often.",
                "`cat /proc/net/sockstat`: orphan and mem, of the whole host.",
                "The kernel log: too many orphaned sockets, out of memory.",
            ],
        },
        Ending::Unknown => EndingText {
            about: "What the socket tells does not decide it",
            happened: &[
                "The connection is over, and its evidence fits several endings, or a piece is missing. \
                tcpwatch does not guess.",
            ],
            causes: &[
                "The classic hook had no room to remember the socket, or resets could not be heard there.",
                "Rare ways that no rule covers: a Fast Open socket that was closed in SYN_RECV.",
            ],
            look: &["`tcpwatch --version -v`: which hook is used. tp_btf decides more."],
        },
    }
}
