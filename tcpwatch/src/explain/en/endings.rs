//! How a connection ended.

use crate::explain::page::EndingText;
use crate::model::ending::Ending;

pub(super) fn text(ending: Ending) -> EndingText {
    match ending {
        Ending::GracefulActive => EndingText {
            about: "We closed first, then the peer: TIME_WAIT is on this side",
            happened: &[
                "Both sides sent a FIN, and both FINs were acknowledged; ours was sent first. The kernel closed \
                the socket and left a timewait socket for 60 s. If tcp_max_tw_buckets was reached, it left none; \
                the closed socket does not show which.",
            ],
            causes: &[
                "The normal end on the side that closes first: a client that is done, or a server that closes \
                after the response or after an idle timeout.",
            ],
            look: &[
                "`tcpwatch churn`: which processes cause them, and how many.",
                "`nstat -az TcpExtTCPTimeWaitOverflow`: how many timewait sockets were refused.",
            ],
        },
        Ending::GracefulPassive => EndingText {
            about: "The peer closed first, then we did",
            happened: &[
                "The peer's FIN arrived, the application here closed, and the peer acknowledged our FIN. No \
                socket remains here; TIME_WAIT is on the peer's side.",
            ],
            causes: &["The normal end on the side that closes second."],
            look: &[
                "The time spent in CLOSE_WAIT (spent_ns in `tcpwatch life -o json`): how long the \
                application took to close.",
            ],
        },
        Ending::Simultaneous => EndingText {
            about: "Both closed at once: TIME_WAIT is on both sides",
            happened: &[
                "The FINs crossed on the network, and both were acknowledged. Each side keeps a timewait socket \
                for 60 s, unless tcp_max_tw_buckets was reached.",
            ],
            causes: &["Both sides close at the end of the same exchange. Common on loopback, rare over a network."],
            look: &[
                "Nothing to repair. To avoid two timewait sockets for each connection, let one side wait for the \
                other's FIN before it closes.",
            ],
        },
        Ending::ClosedFirst => EndingText {
            about: "We closed; the peer acknowledged but has not closed yet",
            happened: &[
                "The application here called close(), and the peer's kernel acknowledged our FIN. The full \
                socket is gone; a timewait socket stays in FIN_WAIT2. When the peer's FIN arrives it enters \
                TIME_WAIT, for which no tracepoint fires. If no FIN arrives, it disappears after \
                tcp_fin_timeout.",
            ],
            causes: &[
                "Any close() that the peer follows a moment later: over a network the acknowledgement usually \
                arrives before the FIN.",
                "A peer that closes late or never: its socket is in CLOSE_WAIT.",
            ],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`: the peers that have not closed yet."],
        },
        Ending::ResetByPeer => EndingText {
            about: "The peer sent a reset",
            happened: &[
                "A reset arrived and ended the connection at once, without TIME_WAIT. Data in flight may be \
                lost. The application gets ECONNRESET, or EPIPE if the peer had closed before.",
            ],
            causes: &[
                "The peer's process exited or closed with unread data, or with SO_LINGER 0.",
                "We sent data after the peer had closed: no process reads it there any more.",
                "The peer's host restarted. Or a firewall or load balancer forgot the connection (an idle \
                timeout) and answers with resets.",
                "The peer's accept queue was full and tcp_abort_on_overflow is set there.",
            ],
            look: &[
                "`tcpwatch life`: which connections, how old, and how much data they carried. Always the same \
                age points to an idle timeout of a device on the path.",
                "`tcpwatch trace` on the peer's host: it shows the reason there (reset_unread, reset_linger).",
            ],
        },
        Ending::ResetLinger => EndingText {
            about: "We sent a reset: close() with SO_LINGER 0",
            happened: &[
                "The application had set SO_LINGER with a time of 0, so close() sent a reset instead of a FIN. \
                Data not sent yet is discarded. There is no TIME_WAIT.",
            ],
            causes: &[
                "Code that avoids TIME_WAIT: load generators, some proxies and health checks.",
                "A library that sets it on connections that it gives up.",
            ],
            look: &[
                "`tcpwatch life`: the owner of such connections.",
                "If the peer misses data, this is the cause. Remove SO_LINGER 0 from code that ends connections \
                normally.",
            ],
        },
        Ending::ResetUnread => EndingText {
            about: "We sent a reset: close() with unread data",
            happened: &[
                "The application called close() while received data was still unread. The kernel sends a reset, \
                so that the peer knows its data was not read (RFC 2525, section 2.17). There is no TIME_WAIT. \
                The peer may also lose data that we sent earlier, if it has not read it.",
            ],
            causes: &[
                "A server that answers with an error before it has read the whole request.",
                "A client that has read enough, or that reached its own timeout.",
                "A protocol that sends something after the last message: a newline, a TLS close_notify.",
            ],
            look: &[
                "`tcpwatch life`: the owner, and how many bytes were received.",
                "To avoid it: shutdown(SHUT_WR), read until read() returns 0, then close().",
            ],
        },
        Ending::ResetAfterClose => EndingText {
            about: "We sent a reset after close(): data arrived late",
            happened: &[
                "The application here had closed, and then data arrived that no process will read. Or \
                TCP_LINGER2 was negative, which means not to wait for the peer's FIN. The kernel sent a reset. \
                There is no TIME_WAIT.",
            ],
            causes: &[
                "The peer was still sending when we closed: an aborted upload, a pipelined request.",
                "An application that closes without waiting for the peer's end of file.",
            ],
            look: &[
                "`tcpwatch life`: the owner, and closed by. The application protocol decides whether the peer \
                may still send at that point.",
            ],
        },
        Ending::ResetByUs => EndingText {
            about: "We sent a reset or gave up unacknowledged data; the reason is unknown",
            happened: &[
                "This host sent a reset, or the socket was closed with unacknowledged data or FIN. The socket \
                shows no more than that: after shutdown(), SO_LINGER 0 and a disconnect look alike.",
            ],
            causes: &[
                "The causes of reset_linger, reset_unread, reset_after_close and disconnected, on a kernel \
                before 6.12, which does not report why it sends a reset.",
                "A disconnect or SO_LINGER 0 after shutdown().",
            ],
            look: &["`tcpwatch life`: the owner, and the state of the connection at its end."],
        },
        Ending::Refused => EndingText {
            about: "The peer refused the connection",
            happened: &[
                "A reset, or an ICMP message with the same meaning, answered our SYN. connect() fails with \
                ECONNREFUSED.",
            ],
            causes: &[
                "No process listens on that address and port: the service is down, is restarting, or listens on \
                another address.",
                "A firewall that rejects the SYN.",
            ],
            look: &[
                "On the peer's host, `ss -ltn` shows the listeners and their addresses. A service on 127.0.0.1 \
                cannot be reached from elsewhere.",
                "`tcpwatch churn`: which processes are refused, and by which destinations.",
            ],
        },
        Ending::TimeoutConnect => EndingText {
            about: "No answer to the SYN",
            happened: &[
                "The kernel retransmitted the SYN for as long as tcp_syn_retries or TCP_USER_TIMEOUT allows, and \
                no answer arrived. connect() fails with ETIMEDOUT.",
            ],
            causes: &[
                "A firewall or security group that drops the SYN.",
                "A host that is down, or an address that no host has.",
                "A server whose accept queue is full: it drops SYNs.",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`: on the server, how often its queues were full.",
                "tcpdump on both sides: does the SYN arrive, does the SYN-ACK leave?",
            ],
        },
        Ending::TimeoutRetransmit => EndingText {
            about: "No answer to retransmissions",
            happened: &[
                "The kernel retransmitted data or a FIN until tcp_retries2, tcp_orphan_retries or \
                TCP_USER_TIMEOUT was reached. Or the peer's window stayed 0 and it did not answer window probes. \
                The application gets ETIMEDOUT.",
            ],
            causes: &[
                "The peer's host lost power, network or route. Or a firewall forgot the connection and drops its \
                segments.",
                "A path that drops large packets (an MTU problem).",
            ],
            look: &[
                "`ss -tno`: where N in timer:(on,TIME,N) is above 0, a segment was retransmitted N times and is \
                not acknowledged.",
                "`tcpwatch life`: retr of each connection, and the peers of connections with a high retr.",
            ],
        },
        Ending::TimeoutKeepalive => EndingText {
            about: "No answer to keepalive probes",
            happened: &[
                "The connection was idle, SO_KEEPALIVE was set, and the peer did not answer tcp_keepalive_probes \
                probes. The kernel sent a reset and closed the connection. The application gets ETIMEDOUT.",
            ],
            causes: &[
                "The peer's host vanished without a FIN or reset, or a firewall on the path forgot the idle \
                connection and drops its segments.",
            ],
            look: &[
                "Does it always happen after the same idle time? Then a device on the path has that timeout, and \
                tcp_keepalive_time or TCP_KEEPIDLE must be shorter.",
            ],
        },
        Ending::TimeoutFinWait2 => EndingText {
            about: "We closed, and the peer did not close in time",
            happened: &[
                "A socket without an owner waited in FIN_WAIT2 as a full socket, because tcp_fin_timeout or \
                TCP_LINGER2 is above 60 s. When its timer expired, it had waited longer than now allowed, and \
                the kernel sent a reset. There is no TIME_WAIT. Usually the socket becomes a timewait socket at \
                that point instead (closed_first).",
            ],
            causes: &[
                "tcp_fin_timeout was lowered while the socket waited. The root cause is a peer that does not \
                close: it leaks sockets in CLOSE_WAIT.",
            ],
            look: &["`tcpwatch snapshot --state fin_wait2 --by remote`: the peers that do not close."],
        },
        Ending::Killed => EndingText {
            about: "An administrator ended it",
            happened: &[
                "`ss -K`, or another program that uses SOCK_DESTROY, made the kernel end the connection. The \
                peer got a reset, the application gets ECONNABORTED.",
            ],
            causes: &[
                "A person, a script, or a system service that ends the connections of a removed address or user \
                (Android, some container networks).",
            ],
            look: &["Which program runs `ss -K` or sends SOCK_DESTROY on this host."],
        },
        Ending::ListenerClosed => EndingText {
            about: "Its listener closed before accept(); or it is the listener itself",
            happened: &[
                "A listener closed. The kernel resets its connections that were not accepted; their peers see a \
                reset after a complete handshake.",
            ],
            causes: &["A server that stops or restarts with connections in its accept queue."],
            look: &[
                "For a restart without loss: pass the listener to the new process (systemd socket activation), \
                or stop new connections before the process exits. Since Linux 5.14 the kernel can move them to \
                another SO_REUSEPORT listener (net.ipv4.tcp_migrate_req).",
            ],
        },
        Ending::Disconnected => EndingText {
            about: "The application disconnected it",
            happened: &[
                "The application called connect() with AF_UNSPEC: the peer got a reset, and the socket can open \
                another connection.",
            ],
            causes: &["Rare: libraries that reuse a socket, programs that test this call."],
            look: &["`tcpwatch life`: the owner."],
        },
        Ending::Unreachable => EndingText {
            about: "The network reported the peer as unreachable",
            happened: &[
                "An ICMP error arrived, or the neighbour did not answer ARP: no route, no such host, or \
                prohibited. The application gets EHOSTUNREACH or ENETUNREACH.",
                "A connect for which this host itself has no route fails before a SYN is sent, and is not shown.",
            ],
            causes: &[
                "A host in the same network is down.",
                "A router has no route, or a firewall rejects with ICMP.",
            ],
            look: &[
                "`ip route get ADDRESS`: whether there is a route.",
                "`ip neigh`: whether the neighbour answers ARP. FAILED means no answer.",
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
                "There are more connections to one destination than ip_local_port_range has ports. Most of them \
                are usually in TIME_WAIT.",
                "A program calls bind() with an address before connect(), without IP_BIND_ADDRESS_NO_PORT. Each \
                of its ports is then unavailable for every destination. Such a program itself fails in bind(), \
                with EADDRINUSE, before there is a connection, so no ending shows it.",
            ],
            look: &["`tcpwatch churn`: the processes that use the ports, and when the ports run out."],
        },
        Ending::ConnectAbandoned => EndingText {
            about: "The application gave up before the peer answered",
            happened: &["The application closed or disconnected the socket while it was in SYN_SENT."],
            causes: &[
                "The application's connect timeout is shorter than the kernel's.",
                "Happy eyeballs (RFC 8305): the application tried IPv6 and IPv4 together, and the other one \
                connected first.",
            ],
            look: &[
                "How long each attempt took (`tcpwatch life`): always the same time is a timeout. For the \
                missing answer see timeout_connect.",
            ],
        },
        Ending::OutOfMemory => EndingText {
            about: "The kernel gave up an orphan: too many orphans, or no memory",
            happened: &[
                "tcp_max_orphans was reached, or TCP was out of memory (tcp_mem). If the peer does not answer, \
                the kernel gives up an orphan already at a half or a quarter of the limit. The kernel sent a \
                reset and freed the socket. There is no TIME_WAIT, and unsent data is lost.",
            ],
            causes: &[
                "Many connections were closed with data that their peers do not accept: slow or dead clients of \
                a busy server.",
            ],
            look: &[
                "`nstat -az TcpExtTCPAbortOnMemory`: how often it happened.",
                "`cat /proc/net/sockstat`: orphan and mem, of the whole host.",
                "The kernel log: too many orphaned sockets, out of memory.",
            ],
        },
        Ending::Unknown => EndingText {
            about: "The evidence does not decide how it ended",
            happened: &[
                "The connection is over, but the evidence fits several endings, or a part of it is missing. \
                tcpwatch does not guess.",
            ],
            causes: &[
                "With the classic hook: its table of sockets was full, or it could not see resets.",
                "A rare case that no rule covers, such as a Fast Open socket closed in SYN_RECV.",
            ],
            look: &["`tcpwatch --version -v`: which hook is used. tp_btf leaves fewer endings unknown."],
        },
    }
}
