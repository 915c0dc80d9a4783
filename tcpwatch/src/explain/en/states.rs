//! States.

use tcpwatch_common::TcpState;

use crate::explain::page::StateText;

pub(super) fn text(state: TcpState) -> StateText {
    match state {
        TcpState::Established => StateText {
            about: "Open: data flows both ways",
            meaning: &[
                "The handshake is done, and neither side has closed. Both may send and receive.",
                "On a server a connection is ESTABLISHED when its handshake is done, which is before accept(): \
                those that wait in the accept queue are counted here too.",
            ],
            waiting: &[
                "Nobody has to act. An idle connection sends nothing, unless SO_KEEPALIVE is set: a peer that \
                vanished without a FIN or a reset goes unnoticed until something is sent.",
            ],
            lasts: &[
                "As long as both applications want. With SO_KEEPALIVE a silent peer is probed after \
                tcp_keepalive_time (2 h), and given up after tcp_keepalive_probes (9), tcp_keepalive_intvl (75 \
                s) apart. Data that is never acknowledged ends it by tcp_retries2: after 15 minutes or more.",
            ],
            normal: &[
                "Most connections of a busy host are here: a server has one for each client, a pool as many as \
                its size. A number that only grows is a pool without a limit, or peers that vanished while \
                nobody probes.",
            ],
            look: &[
                "`tcpwatch snapshot --state established --by process`: who has them.",
                "`ss -tn state established`: a Recv-Q that stays is data the application does not read, a \
                Send-Q that stays is data the peer does not acknowledge.",
                "`tcpwatch life`: how long they live, and what they carry.",
            ],
        },
        TcpState::SynSent => StateText {
            about: "Our SYN is out, and no answer has come yet",
            meaning: &["connect() was called here. Neither a SYN-ACK nor a refusal has come."],
            waiting: &["We wait for the peer, or for a firewall, to answer."],
            lasts: &[
                "One round trip, if the peer answers. If not, the SYN is sent again, and connect() fails with \
                ETIMEDOUT after 131 s (127 s before Linux 6.5; see tcp_syn_retries), or when the application \
                gives up. A port without a listener answers at once, with a reset: connect() fails with \
                ECONNREFUSED.",
            ],
            normal: &[
                "A few, for a round trip each. Old ones mean that SYNs or their answers get lost: a firewall \
                that drops, a host that is down, a server whose queues are full.",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_sent --by remote`: where to.",
                "`tcpwatch life --state syn_sent`: how each attempt ended (timed out, refused, \
                unreachable, gave up).",
                "`tcpwatch latency`: how long handshakes take, and how many SYNs were sent again.",
                "`nstat -az TcpExtListenOverflows TcpExtListenDrops`: on the server, whether its queues were full.",
            ],
        },
        TcpState::SynRecv => StateText {
            about: "Half-open: a SYN came, our SYN-ACK is out",
            meaning: &[
                "A peer asked a listener here for a connection. Until the last ACK of the handshake comes the \
                kernel keeps a small request socket for it; with SYN cookies it keeps nothing at all.",
                "A full socket is in SYN_RECV for microseconds only: it is made when that ACK comes, and goes \
                on to ESTABLISHED at once. So the time that trace shows for SYN_RECV is not the handshake; \
                that is handshake_server in `tcpwatch latency`.",
                "A simultaneous open (two SYNs that cross) and TCP Fast Open put a full socket here for longer.",
            ],
            waiting: &["We wait for the peer's ACK."],
            lasts: &[
                "One round trip. If no ACK comes, the SYN-ACK is sent again, tcp_synack_retries times (5), and \
                the request is dropped after 63 s.",
            ],
            normal: &[
                "As many as there come in a round trip. Request sockets are announced by no tracepoint: \
                tcpwatch asks the kernel for them, as ss does.",
                "Many from many addresses that never finish are a SYN flood, or answers that get lost on their \
                way back.",
            ],
            look: &[
                "`tcpwatch snapshot --state syn_recv --by lport`: which listener.",
                "`tcpwatch snapshot --state syn_recv --by remote`: which peers.",
                "`nstat -az TcpExtTCPReqQFullDoCookies TcpExtTCPReqQFullDrop`: whether the queue was full, and \
                what was done then.",
            ],
        },
        TcpState::FinWait1 => StateText {
            about: "We closed first; our FIN is not acknowledged yet",
            meaning: &[
                "close() or shutdown(SHUT_WR) was called here, before the peer's FIN came. Our FIN is queued \
                behind the data that is still to be sent, or it is out.",
            ],
            waiting: &[
                "We wait for the peer's kernel to acknowledge. Its application is needed only if it must read \
                first, to make room for what we still have to send.",
            ],
            lasts: &[
                "One round trip. A socket that nobody holds any more (an orphan) and that gets no answer is \
                given up after tcp_orphan_retries retransmissions: 8, some 100 s where the round trip is \
                short. One that a process still holds after shutdown(SHUT_WR) is no orphan, and tcp_retries2 \
                decides: 15 minutes or more. A peer that acknowledges and takes no data holds it for minutes.",
            ],
            normal: &[
                "Few. Many mean peers that vanished, or do not read what was sent to them before the close. \
                Those without an owner count against tcp_max_orphans.",
            ],
            look: &[
                "`ss -tno state fin-wait-1`: a Send-Q above 1 is data, not just the FIN. In timer:(on,TIME,N) \
                an N above 0 says how often it was sent again.",
                "`tcpwatch life --state fin_wait1`: how they end.",
            ],
        },
        TcpState::FinWait2 => StateText {
            about: "Our FIN is acknowledged; the peer has not closed yet",
            meaning: &[
                "We closed first, and the peer's kernel knows. Its application has not closed: there the \
                connection is in CLOSE_WAIT.",
                "After close() the kernel usually puts a small timewait socket in the place of the full one at \
                once: ss shows FIN-WAIT-2, while trace says FIN_WAIT2 > CLOSE. After shutdown(SHUT_WR) the \
                full socket stays, and may still receive.",
            ],
            waiting: &["We wait for the peer's application to close."],
            lasts: &[
                "After close(): tcp_fin_timeout (60 s), or what TCP_LINGER2 says of that socket. After \
                shutdown(SHUT_WR) alone: without limit, as long as the application holds the descriptor.",
            ],
            normal: &[
                "A moment. Many without an owner are peers that are slow to close, and they are gone after \
                tcp_fin_timeout. Old ones with an owner were shut down here and never finished.",
            ],
            look: &[
                "`tcpwatch snapshot --state fin_wait2 --by remote`: whose application does not close. The leak \
                is there, in CLOSE_WAIT.",
                "`tcpwatch leaks`: those that a process here still holds.",
            ],
        },
        TcpState::TimeWait => StateText {
            about: "Both sides closed; the addresses are kept for what comes late",
            meaning: &[
                "We closed first, and the peer closed too. The connection is over, and no process has it. The \
                kernel keeps its addresses and ports, so that it can acknowledge the peer's FIN again should \
                our last ACK be lost, and so that a late segment is not taken for data of the next connection \
                between the same ports.",
                "It is a timewait socket: small, and another one than the connection had. The tracepoint never \
                shows TIME_WAIT; the last transition reads FIN_WAIT2 > CLOSE or CLOSING > CLOSE.",
            ],
            waiting: &["Nobody acts. Time has to pass."],
            lasts: &[
                "60 s, fixed in the kernel (TCP_TIMEWAIT_LEN). No sysctl makes it shorter: tcp_fin_timeout is \
                about FIN_WAIT2. It ends early if the peer opens a new connection between the same ports, if a \
                connect() here takes the port over (tcp_tw_reuse), by a reset, or by `ss -K`.",
            ],
            normal: &[
                "60 times the connections that are closed here first in a second. Tens of thousands do a \
                server no harm: each takes a few hundred bytes and no descriptor, and a client that comes back \
                is let in.",
                "They hurt a client that opens connections to one address and port faster than its local ports \
                come back: 28,232 ports in 60 s are 470 connections a second.",
            ],
            look: &[
                "`tcpwatch churn`: who makes them, and when ports run out.",
                "`tcpwatch stat`: how many come and go a second.",
                "What helps is fewer connections: keep-alive, or a pool. Then more ports \
                (ip_local_port_range), more addresses, or tcp_tw_reuse for connections opened here.",
                "A server that cannot bind() after a restart needs SO_REUSEADDR, and no sysctl.",
            ],
        },
        TcpState::Close => StateText {
            about: "No connection: not opened yet, or over",
            meaning: &[
                "A socket that was created and not used yet, or one whose connection is over while its \
                application still holds the descriptor. RFC 9293 calls it CLOSED.",
                "Every connection's last transition goes here, that of one in TIME_WAIT too: what waits there \
                is another socket.",
            ],
            waiting: &["Nobody."],
            lasts: &["Until the application closes the descriptor, or uses the socket again."],
            normal: &[
                "ss and netstat do not list such sockets, and tcpwatch counts none. On Linux 6.8 and later an \
                ss as new lists those that are bound to a port: `ss -tan --bound-inactive`.",
                "A connection that ended and was never closed keeps its descriptor: a leak that no state \
                shows. lsof(8) calls it sock, protocol: TCP, and has no address for it.",
            ],
            look: &[
                "`lsof -nP -p PID | grep 'protocol: TCP'`: the descriptors of such sockets in a process.",
                "`tcpwatch life`: how connections ended.",
            ],
        },
        TcpState::CloseWait => StateText {
            about: "The peer closed; the application here has not",
            meaning: &[
                "The peer's FIN came: it will send nothing more, and read() returns 0 once all is read. Now \
                the application here has to call close().",
            ],
            waiting: &["The kernel waits for the application here, and for nobody else."],
            lasts: &[
                "Until the application calls close(), or exits. No timeout ends it. With SO_KEEPALIVE a probe \
                may find, after 2 hours, that the peer has forgotten the connection; then a reset ends it, and \
                the descriptor is still open.",
            ],
            normal: &[
                "Milliseconds: the time it takes to read to the end and close. One that stays is a fault in \
                the application here: a close() that is forgotten, often where errors are handled, or a reader \
                that hangs. It ends when descriptors run out (EMFILE).",
                "The receive queue tells which. The unread FIN counts as 1 in it. 0: the application has read \
                to the end and has not closed. 1: it never read the end. More: data waits, and nobody reads it.",
            ],
            look: &[
                "`tcpwatch leaks`: whose they are, how old, which descriptors; with `--stacks`, which line of \
                code opened them.",
                "A restart frees them. No sysctl does: neither tcp_fin_timeout nor tcp_tw_reuse has anything \
                to do with CLOSE_WAIT.",
            ],
        },
        TcpState::LastAck => StateText {
            about: "The peer closed first, then we did; our FIN is not acknowledged yet",
            meaning: &[
                "The application here has closed after the peer. Our FIN is queued behind the data that is \
                still to be sent, or it is out.",
            ],
            waiting: &["We wait for the peer's kernel to acknowledge it."],
            lasts: &[
                "One round trip. After close() nobody holds the socket any more (an orphan), and without an \
                answer it is given up after tcp_orphan_retries retransmissions: 8, some 100 s where the round \
                trip is short. One that a process still holds after shutdown(SHUT_WR) is no orphan, and \
                tcp_retries2 decides: 15 minutes or more. There is no TIME_WAIT on this side: the peer, which \
                closed first, has it.",
            ],
            normal: &[
                "Few. Many mean peers that vanished after their FIN, or a firewall that forgot the connection. \
                Those without an owner count against tcp_max_orphans.",
            ],
            look: &[
                "`ss -tno state last-ack`: to whom, and how often the FIN was sent again: N in timer:(on,TIME,N).",
                "`tcpwatch life --state last_ack`: how they end.",
            ],
        },
        TcpState::Listen => StateText {
            about: "Waits for connections",
            meaning: &[
                "An application called listen(). Each connection is a socket of its own, made beside the \
                listener, which stays where it is: LISTEN > SYN_RECV in a trace is the birth of a connection, \
                and the listener has not moved.",
            ],
            waiting: &["The listener waits for peers. Connections that are ready wait for accept()."],
            lasts: &["Until the application closes it. Then connections that nobody has accepted are reset."],
            normal: &[
                "One for each address and port, with SO_REUSEPORT one for each worker. `ss -ltn` shows the \
                accept queue (Recv-Q) and its limit (Send-Q), which is the smaller of what listen() was given \
                and net.core.somaxconn. A queue that is not empty most of the time means that accept() is not \
                called often enough.",
            ],
            look: &[
                "`nstat -az TcpExtListenOverflows`: how often a queue was full.",
                "`tcpwatch latency --by lport`: how long connections wait for accept().",
            ],
        },
        TcpState::Closing => StateText {
            about: "Both sides closed at once; our FIN is not acknowledged yet",
            meaning: &[
                "The FINs crossed on their way: ours was out, and the peer's came before its acknowledgement \
                of ours.",
            ],
            waiting: &["We wait for the peer's kernel to acknowledge our FIN. TIME_WAIT follows."],
            lasts: &[
                "One round trip. Without an answer it is given up as in LAST_ACK: by tcp_orphan_retries after \
                close(), by tcp_retries2 while a process holds the descriptor.",
            ],
            normal: &["Rare over a network. Common on loopback, when both ends close at the end of the same exchange."],
            look: &["`tcpwatch life`: simultaneous in the JSON, both closed at once in text."],
        },
    }
}
