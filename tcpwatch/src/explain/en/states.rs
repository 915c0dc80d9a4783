//! States.

use tcpwatch_common::TcpState;

use crate::explain::page::StateText;

pub(super) fn text(state: TcpState) -> StateText {
    match state {
        TcpState::Established => StateText {
            about: "Open: data flows both ways",
            meaning: &[
                "The handshake is complete and neither side has closed. Both can send and receive.",
                "On a server a connection is ESTABLISHED as soon as its handshake is complete, before accept(). \
                Connections in the accept queue are counted here too.",
            ],
            waiting: &[
                "Nobody has to act. An idle connection sends nothing unless SO_KEEPALIVE is set. A peer that \
                vanished without a FIN or a reset goes unnoticed until this host sends data.",
            ],
            lasts: &[
                "As long as both applications keep it open. With SO_KEEPALIVE the kernel probes a silent peer \
                after tcp_keepalive_time (2 h), and gives up after tcp_keepalive_probes (9) probes, \
                tcp_keepalive_intvl (75 s) apart. If sent data is never acknowledged, tcp_retries2 ends the \
                connection: after 15 minutes or more.",
            ],
            normal: &[
                "On a busy host most connections are in this state: one for each client of a server, as many as \
                the size of a connection pool. A number that only grows points to a pool without a limit, or to \
                vanished peers that no keepalive probes.",
            ],
            look: &[
                "`tcpwatch snapshot --state established --by process`: which processes hold them.",
                "`ss -tn state established`: a Recv-Q that stays above 0 is data that the application does not \
                read. A Send-Q that stays above 0 is data that the peer does not acknowledge.",
                "`tcpwatch life`: how long each connection lived, and how much data it carried.",
            ],
        },
        TcpState::SynSent => StateText {
            about: "Our SYN is sent, no answer yet",
            meaning: &["An application here called connect(). Neither a SYN-ACK nor a refusal has arrived."],
            waiting: &["We wait for an answer from the peer or from a firewall."],
            lasts: &[
                "One round trip, if the peer answers. If it does not, the kernel retransmits the SYN. connect() \
                fails with ETIMEDOUT after 131 s (127 s before Linux 6.5; see tcp_syn_retries), unless the \
                application gives up earlier. A port without a listener answers with a reset at once: connect() \
                fails with ECONNREFUSED.",
            ],
            normal: &[
                "A few, for one round trip each. Old ones mean that SYNs or their answers are lost: a firewall \
                drops them, the host is down, or the server's queues are full.",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_sent --by remote`: the destinations.",
                "`tcpwatch life --state syn_sent`: how each attempt ended (timed out, refused, \
                unreachable, gave up).",
                "`tcpwatch latency`: how long handshakes take, and how many SYNs were retransmitted.",
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`: on the server, how often its queues were full.",
            ],
        },
        TcpState::SynRecv => StateText {
            about: "Half-open: SYN received, our SYN-ACK is sent",
            meaning: &[
                "A peer asked a listener here for a connection. The kernel keeps a small request socket until \
                the last ACK of the handshake arrives. With SYN cookies it keeps nothing.",
                "A full socket is in SYN_RECV for microseconds only: the kernel creates it when that ACK arrives \
                and moves it to ESTABLISHED at once. So the time that trace shows for SYN_RECV is not the \
                handshake. For that see handshake_server in `tcpwatch latency`.",
                "With a simultaneous open (two SYNs that cross) or TCP Fast Open a full socket stays in SYN_RECV \
                for longer.",
            ],
            waiting: &["We wait for the peer's ACK."],
            lasts: &[
                "One round trip. If no ACK arrives, the kernel retransmits the SYN-ACK tcp_synack_retries (5) \
                times, and drops the request after 63 s.",
            ],
            normal: &[
                "As many as new connections arrive within one round trip. Request sockets fire no tracepoint, so \
                tcpwatch asks the kernel for them, as ss does.",
                "Many half-open connections from many addresses, none of which completes, mean a SYN flood, or \
                SYN-ACKs that are lost on their way back.",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_recv --by lport`: the listening ports.",
                "`tcpwatch snapshot --state syn_recv --by remote`: the peers.",
                "`nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop`: how often the SYN queue was full, \
                and whether the kernel then sent cookies or dropped SYNs.",
            ],
        },
        TcpState::FinWait1 => StateText {
            about: "We closed first; our FIN is not acknowledged yet",
            meaning: &[
                "The application here called close() or shutdown(SHUT_WR) before the peer's FIN arrived. Our FIN \
                is sent, or it is queued behind data that is not sent yet.",
            ],
            waiting: &[
                "We wait for the peer's kernel to acknowledge. The peer's application must act only if its \
                receive window is full: it has to read before we can send the rest.",
            ],
            lasts: &[
                "One round trip. If no process holds the socket (an orphan) and the peer does not answer, the \
                kernel gives up after tcp_orphan_retries retransmissions: 8 by default, about 100 s where the \
                round trip is short. A socket that a process still holds after shutdown(SHUT_WR) is no orphan: \
                tcp_retries2 decides, 15 minutes or more. A peer that acknowledges but accepts no data keeps it \
                open for minutes.",
            ],
            normal: &[
                "Few. Many mean that peers vanished, or do not read the data sent before the close. Sockets \
                without an owner count against tcp_max_orphans.",
            ],
            look: &[
                "`ss -tno state fin-wait-1`: a Send-Q above 1 is unsent data, not just the FIN. N in \
                timer:(on,TIME,N) is the number of retransmissions.",
                "`tcpwatch life --state fin_wait1`: how these connections end.",
            ],
        },
        TcpState::FinWait2 => StateText {
            about: "Our FIN is acknowledged; the peer has not closed yet",
            meaning: &[
                "We closed first, and the peer's kernel acknowledged it. The peer's application has not closed: \
                on its host the connection is in CLOSE_WAIT.",
                "After close() the kernel usually replaces the full socket with a small timewait socket at once: \
                ss shows FIN-WAIT-2, while trace shows FIN_WAIT2 > CLOSE. After shutdown(SHUT_WR) the full \
                socket stays and can still receive.",
            ],
            waiting: &["We wait for the peer's application to close."],
            lasts: &[
                "After close(): tcp_fin_timeout (60 s), or the time set with TCP_LINGER2 on that socket. After \
                shutdown(SHUT_WR) alone: without limit, as long as the application holds the descriptor.",
            ],
            normal: &[
                "A moment. Many without an owner mean that peers are slow to close; these sockets disappear \
                after tcp_fin_timeout. Old ones with an owner were shut down here and never closed.",
            ],
            look: &[
                "`tcpwatch snapshot --state fin_wait2 --by remote`: the peers whose application does not close. \
                The leak is on their side, in CLOSE_WAIT.",
                "`tcpwatch leaks`: the sockets that a process here still holds.",
            ],
        },
        TcpState::TimeWait => StateText {
            about: "Both sides closed; the addresses stay reserved for late segments",
            meaning: &[
                "We closed first, and the peer closed too. The connection is over, and no process holds it. The \
                kernel keeps its addresses and ports for two reasons. If our last ACK is lost, it can \
                acknowledge the peer's FIN again. And it will not mistake a late segment for data of the next \
                connection between the same ports.",
                "TIME_WAIT is a separate, small timewait socket, not the socket that the connection used. The \
                tracepoint never shows TIME_WAIT; the last transition is FIN_WAIT2 > CLOSE or CLOSING > CLOSE.",
            ],
            waiting: &["Nobody. Only time has to pass."],
            lasts: &[
                "60 s, fixed in the kernel (TCP_TIMEWAIT_LEN). No sysctl makes it shorter: tcp_fin_timeout is \
                about FIN_WAIT2. It ends early if the peer opens a new connection between the same ports, if \
                connect() here reuses the port (tcp_tw_reuse), on a reset, or on `ss -K`.",
            ],
            normal: &[
                "About 60 times the number of connections per second that this host closes first. Tens of \
                thousands do a server no harm: each takes a few hundred bytes and no descriptor, and a returning \
                client can connect as usual.",
                "They hurt a client that opens connections to one address and port faster than its local ports \
                become free again: 28,232 ports in 60 s are 470 connections a second.",
            ],
            look: &[
                "`tcpwatch churn`: which processes create them, and when ports run out.",
                "`tcpwatch stat`: how many enter and leave TIME_WAIT each second.",
                "The cure is fewer connections: keep-alive or a connection pool. After that: more ports \
                (ip_local_port_range), more addresses, or tcp_tw_reuse for connections opened here.",
                "A server that cannot bind() after a restart needs SO_REUSEADDR, not a sysctl.",
            ],
        },
        TcpState::Close => StateText {
            about: "No connection: not opened yet, or over",
            meaning: &[
                "The socket was created and is not used yet, or its connection is over and the application still \
                holds the descriptor. RFC 9293 calls this state CLOSED.",
                "Every connection's last transition leads to CLOSE, also if TIME_WAIT follows: a separate \
                timewait socket waits there.",
            ],
            waiting: &["Nobody."],
            lasts: &["Until the application closes the descriptor or uses the socket again."],
            normal: &[
                "ss and netstat do not list such sockets, and tcpwatch counts none. Since Linux 6.8 a recent ss \
                can list the ones that are bound to a port: `ss -tan --bound-inactive`.",
                "If the connection ended but the application never called close(), the descriptor stays open: a \
                leak that no state shows. lsof(8) lists it as sock, protocol: TCP, without an address.",
            ],
            look: &[
                "`lsof -nP -p PID | grep 'protocol: TCP'`: the descriptors of such sockets in one process.",
                "`tcpwatch life`: how connections ended.",
            ],
        },
        TcpState::CloseWait => StateText {
            about: "The peer closed; the application here has not",
            meaning: &[
                "The peer's FIN arrived: it will send nothing more, and read() returns 0 once all data is read. \
                Now the application here has to call close().",
            ],
            waiting: &["The kernel waits for the application on this host, and for nothing else."],
            lasts: &[
                "Until the application calls close() or exits. No timeout ends it. With SO_KEEPALIVE a probe may \
                find after 2 hours that the peer has forgotten the connection. The peer's reset then ends the \
                connection, but the descriptor stays open.",
            ],
            normal: &[
                "Milliseconds: the time to read to the end and close. A socket that stays is a bug in the \
                application here: a forgotten close(), often in an error path, or a reader that hangs. In the \
                end the process runs out of descriptors (EMFILE).",
                "The receive queue (Recv-Q) shows which bug it is; an unread FIN counts as 1. 0: the application \
                read to the end but did not close. 1: it never read the end of file. More: unread data is \
                waiting.",
            ],
            look: &[
                "`tcpwatch leaks`: their owners, ages and descriptors; with `--watch 10s --stacks`, the line of code that \
                opened them.",
                "A restart of the process frees them. No sysctl does: neither tcp_fin_timeout nor tcp_tw_reuse \
                affects CLOSE_WAIT.",
            ],
        },
        TcpState::LastAck => StateText {
            about: "The peer closed first, then we did; our FIN is not acknowledged yet",
            meaning: &[
                "The application here closed after the peer. Our FIN is sent, or it is queued behind data that \
                is not sent yet.",
            ],
            waiting: &["We wait for the peer's kernel to acknowledge our FIN."],
            lasts: &[
                "One round trip. After close() no process holds the socket (an orphan). If the peer does not \
                answer, the kernel gives up after tcp_orphan_retries retransmissions: 8 by default, about 100 s \
                where the round trip is short. A socket that a process still holds after shutdown(SHUT_WR) is no \
                orphan: tcp_retries2 decides, 15 minutes or more. This side has no TIME_WAIT: it is on the \
                peer's side, which closed first.",
            ],
            normal: &[
                "Few. Many mean that peers vanished after their FIN, or that a firewall forgot the connection. \
                Sockets without an owner count against tcp_max_orphans.",
            ],
            look: &[
                "`ss -tno state last-ack`: the peers, and the number of FIN retransmissions: N in timer:(on,TIME,N).",
                "`tcpwatch life --state last_ack`: how these connections end.",
            ],
        },
        TcpState::Listen => StateText {
            about: "Waits for connections",
            meaning: &[
                "An application called listen(). The kernel creates a new socket for each connection, and the \
                listener stays in LISTEN. In a trace, LISTEN > SYN_RECV is the start of a connection; the \
                listener itself did not change state.",
            ],
            waiting: &["The listener waits for peers. Established connections wait in the accept queue for accept()."],
            lasts: &[
                "Until the application closes the listener. The kernel then resets connections that were \
            not accepted.",
            ],
            normal: &[
                "One for each address and port, or with SO_REUSEPORT one for each worker. `ss -ltn` shows the \
                accept queue (Recv-Q) and its limit (Send-Q): the smaller of the backlog given to listen() and \
                net.core.somaxconn. A queue that is rarely empty means that the application does not call \
                accept() often enough.",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows`: how often an accept queue was full.",
                "`tcpwatch latency --by lport`: how long connections wait for accept().",
            ],
        },
        TcpState::Closing => StateText {
            about: "Both sides closed at once; our FIN is not acknowledged yet",
            meaning: &[
                "The FINs crossed on the network: we sent our FIN, and the peer's FIN arrived before its \
                acknowledgement of ours.",
            ],
            waiting: &["We wait for the peer's kernel to acknowledge our FIN. TIME_WAIT follows."],
            lasts: &[
                "One round trip. Without an answer the kernel gives up as in LAST_ACK: by tcp_orphan_retries \
                after close(), by tcp_retries2 while a process holds the descriptor.",
            ],
            normal: &["Rare over a network. Common on loopback, when both ends close at the end of the same exchange."],
            look: &["`tcpwatch life`: text output shows both closed at once, JSON shows simultaneous."],
        },
    }
}
