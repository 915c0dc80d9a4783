//! Findings.

use crate::explain::kind::FindingKind;
use crate::explain::page::FindingText;

pub(super) fn text(kind: FindingKind) -> FindingText {
    match kind {
        FindingKind::Leak => FindingText {
            about: "Sockets that their application never closes",
            meaning: &[
                "Sockets stay in a state that only the application here can end, mostly CLOSE_WAIT. They get older, and \
                none is ever closed. Their age matters, not their number: a busy server always has some young ones.",
                "A socket is stuck when it has been in CLOSE_WAIT, FIN_WAIT2, SYN_SENT or LAST_ACK (or, with \
                `--state established`, in ESTABLISHED) for `--older` or longer, and no data moves. The window is \
                twice `--older`, 30 s at least, and as long as the slowest close took, 10 minutes at most. Of the \
                verdicts below the first that is true is given, and it stays as long as it is true.",
                "kernel: the kernel ends these by itself, for they are in SYN_SENT or LAST_ACK, or no process holds \
                them. Such sockets have no other verdict but young.",
                "unread: in more than half of the stuck sockets data has waited unread for `--older`.",
                "pool: this host opened them, none has unread data, and their number did not grow during the \
                window; after 10 minutes without data it is a leak.",
                "slow: some stuck sockets were closed during the window; the row shows after how long.",
                "young: none has been in the state for `--older` yet.",
                "undecided: tcpwatch watched for less than the window, no socket is as old as the window, or a pool grew \
                during the window. The row shows how much longer to watch.",
                "leak: no stuck socket was closed during the window.",
            ],
            hurts: &[
                "Each holds a descriptor and memory. When the descriptors are used up, accept() and connect() \
                fail with EMFILE, and the service stands still while its process runs.",
            ],
            to_do: &[
                "`tcpwatch leaks --watch 10s --stacks` shows the line of code that opened the leaked connections. Look for \
                the way out of it that does not close: an error, an exception, an early return.",
                "Bind the closing to a scope: with in Python, try-with-resources in Java, defer in Go, Drop in Rust.",
                "Until it is repaired a restart frees them. No sysctl does, and a larger limit of descriptors \
                buys time alone.",
            ],
        },
        FindingKind::Churn => FindingText {
            about: "A new connection for every request or few",
            meaning: &[
                "A process or peer makes at least ten connections a second, and a quarter of all, to one destination; half \
                of them or more have ended, nine of ten ended ones lived less than a second, and they carried less than \
                16 KiB on average in the direction that carries less.",
            ],
            hurts: &[
                "Every one costs a handshake (a round trip before the first byte, more with TLS), CPU on both \
                sides, and TIME_WAIT on the side that closes first. At some rate local ports run out.",
            ],
            to_do: &[
                "Use connections again: HTTP keep-alive, a connection pool for databases and Redis, persistent \
                connections in PHP. It takes both sides: a server that closes after each response undoes it.",
                "In nginx, to its upstreams: keepalive in the upstream block, with proxy_http_version 1.1 and \
                proxy_set_header Connection \"\".",
                "`tcpwatch churn`: who, where to, how many a second.",
            ],
        },
        FindingKind::Burst => FindingText {
            about: "Many connections opened at once",
            meaning: &[
                "Each of some seconds in a row opened more than twice what the median second of the minute before did, \
                and at least a hundred connections more. The usual is known from ten seconds of watching on.",
            ],
            hurts: &[
                "Accept queues and SYN queues are made for the usual rate. What does not fit is dropped, and \
                its clients wait a second or more to try again.",
            ],
            to_do: &[
                "Find who: `tcpwatch churn` names the process or peer of each burst. Timers on the full minute \
                and clients that all reconnect after a restart are frequent.",
                "Spread it: random delay before a reconnect, back-off that grows.",
                "If it is legitimate, a longer accept queue (the backlog of listen(), and somaxconn) takes it in.",
            ],
        },
        FindingKind::PortExhaustion => FindingText {
            about: "Local ports run out",
            meaning: &[
                "A connection is identified by four things: two addresses, two ports. To one destination \
                address and port, from one source address, there can be only as many as ip_local_port_range \
                has ports (28,232 by default), and those in TIME_WAIT are among them.",
                "They run low where 80 % of them are taken, and run out where a connect found none or, if the last ten \
                seconds go on, none is free within half a minute.",
                "That is: what is taken at that rate, less the ports whose TIME_WAIT ends until then, uses up the free \
                ones.",
            ],
            hurts: &[
                "connect() fails with EADDRNOTAVAIL (no_port). Before that it takes longer and longer, for the \
                kernel has to search for a free port.",
                "bind() with an address and port 0, without IP_BIND_ADDRESS_NO_PORT, takes a port from all \
                destinations at once. When there is none it fails with EADDRINUSE, and plain connects to any \
                destination find no port either.",
            ],
            to_do: &[
                "Open fewer: keep-alive or a pool. This is the cure; all else moves the limit.",
                "If TIME_WAIT has the ports and the connections are opened here: net.ipv4.tcp_tw_reuse=1, with \
                timestamps on both sides. A port then comes back after 1 s.",
                "More ports (ip_local_port_range), more destination or source addresses, or let the other side \
                close first, so that TIME_WAIT is there.",
                "Where the code calls bind() with an address before connect(): set IP_BIND_ADDRESS_NO_PORT. \
                The port is then chosen in connect(), for that destination alone.",
                "tcp_fin_timeout does not help, and tcp_tw_recycle is gone.",
            ],
        },
        FindingKind::TimeWaitOverflow => FindingText {
            about: "Timewait sockets were refused",
            meaning: &[
                "There were tcp_max_tw_buckets timewait sockets in this network namespace, or no memory for \
                one more. The connection went straight to CLOSE (TcpExtTCPTimeWaitOverflow).",
                "Found where one was refused, or where there are nine tenths of tcp_max_tw_buckets.",
            ],
            hurts: &[
                "Less than it sounds: the peer's late FIN is answered with a reset, and nothing guards the \
                next connection between the same ports from late segments. It is a sign of very many short \
                connections.",
            ],
            to_do: &[
                "`tcpwatch churn`: who makes them. Keep connections.",
                "Raise net.ipv4.tcp_max_tw_buckets: each takes a few hundred bytes.",
                "Do not lower it to get rid of TIME_WAIT: that makes every close one of these.",
            ],
        },
        FindingKind::AcceptQueueOverflow => FindingText {
            about: "Accept queues were full",
            meaning: &[
                "A connection whose handshake is done waits in the accept queue of its listener until accept() \
                takes it. The queue was full: SYNs, or the last ACK of handshakes, were dropped \
                (TcpExtListenOverflows).",
                "Found where a packet found the queue full; ten a second are critical.",
            ],
            hurts: &[
                "The client sends its SYN again after a second, and again: latency of whole seconds, or a \
                timeout, though the server's CPU may be idle. With tcp_abort_on_overflow it is reset instead.",
                "A client whose last ACK was dropped believes that it is connected. What it sends next, or a \
                SYN-ACK that is sent again, lets it in once there is room. After tcp_synack_retries (63 s) the \
                server forgets it without a word: a client that waits for the server to speak waits for ever, \
                and its first segment is answered with a reset.",
            ],
            to_do: &[
                "`ss -ltn`: which listener, namely one whose Recv-Q is above or close to its Send-Q.",
                "First the application: does it call accept() often enough? A single thread that also does the \
                work is the common case.",
                "Then the queue: it holds the smaller of what listen() was given and net.core.somaxconn. Raise \
                whichever is the smaller, and restart the application, for the limit is taken when listen() is \
                called.",
            ],
        },
        FindingKind::SynFlood => FindingText {
            about: "More SYNs than a listener takes: cookies sent, or SYNs dropped",
            meaning: &[
                "The SYN queue of a listener was full. With tcp_syncookies the kernel answered with cookies and stored \
                nothing (TcpExtTCPReqQFullDoCookies). Without tcp_syncookies it dropped the SYN \
                (TcpExtTCPReqQFullDrop).",
                "Found where a listener answered SYNs with cookies, dropped them for a full queue or, while connections are \
                half-open, dropped ten packets or more for no full queue; ten drops a second are critical.",
                "Without cookies, where the backlog of a listener is larger than three quarters of \
                tcp_max_syn_backlog, SYNs are dropped before that, once as many are half-open. \
                TcpExtListenDrops alone counts those.",
            ],
            hurts: &[
                "Dropped SYNs are clients that wait. Cookies let everybody in, at a price: without timestamps \
                the connection has no window scaling and no SACK, and if the last ACK is lost the server never \
                learns of the connection.",
            ],
            to_do: &[
                "`nstat -az TcpExtSyncookiesSent TcpExtSyncookiesRecv`: attack, or load? If most cookies come \
                back, it is real clients.",
                "`tcpwatch snapshot --state syn_recv --by remote`: from where they come.",
                "Real clients: raise the backlog of listen() and somaxconn, which bound this queue too.",
                "An attack: leave tcp_syncookies at 1, and filter in front of the host.",
            ],
        },
        FindingKind::HalfOpen => FindingText {
            about: "Half-open connections pile up",
            meaning: &[
                "A hundred handshakes or more, of either side, wait for longer than a second on average.",
                "In SYN_RECV the peer began: our SYN-ACK is out, and the last ACK does not come.",
                "In SYN_SENT we began: our SYN is out, and neither a SYN-ACK nor a reset comes.",
            ],
            hurts: &[
                "In SYN_RECV they take the room of the SYN queue; when it is full see syn_flood.",
                "In SYN_SENT each holds a local port, and keeps its caller waiting in connect(), for as long \
                as tcp_syn_retries says: 131 s.",
            ],
            to_do: &[
                "`tcpwatch snapshot --state syn_recv --by remote`: few peers, whose answers get lost (routes \
                that differ in the two directions, a firewall that sees one only), or very many, which is a \
                flood of forged SYNs.",
                "tcpdump on that peer, if it is one you know: does the SYN-ACK arrive?",
                "`tcpwatch snapshot --state syn_sent --by process --by remote`: whose they are, and where to. \
                One destination is a host that is down, a firewall that drops, or a listener whose queue is \
                full; if it is all of them, look at this host's own way out.",
            ],
        },
        FindingKind::ConnectFailures => FindingText {
            about: "Connects fail",
            meaning: &[
                "Connects of one process to one destination, or all others together, failed: five or more, and one in \
                twenty; one in two is critical. They were refused, timed out, unreachable or given up.",
                "The finding port_exhaustion reports connects that found no local port.",
            ],
            hurts: &[
                "Every failure is a request that is late or lost. Timeouts hold a thread or a coroutine for as \
                long as they last.",
            ],
            to_do: &[
                "`tcpwatch churn`: who fails, where, and how.",
                "refused: nobody listens there. timeout_connect: SYNs are dropped. unreachable: a router has no route, or \
                the host is down. no_port: see port_exhaustion.",
            ],
        },
        FindingKind::OrphanLimit => FindingText {
            about: "Sockets without an owner are near their limit, or were given up for it",
            meaning: &[
                "Orphans are closed connections that still have something to send: data, or a FIN that is not \
                acknowledged.",
                "tcpwatch reports this if the kernel gave up orphans, or if the host has a quarter of tcp_max_orphans or more. \
                From a quarter on, the kernel may give up orphans whose peer does not answer and for which an ICMP error \
                arrived. From a half on, it may give up any orphan whose peer does not answer. Above the limit, it may \
                give up any orphan.",
            ],
            hurts: &[
                "The kernel resets those that it gives up, for this limit or for want of memory \
                (TcpExtTCPAbortOnMemory): the last data of a response is lost, and the peer sees a reset.",
            ],
            to_do: &[
                "`tcpwatch snapshot --state fin_wait1,last_ack,closing --by remote`: the peers that do not \
                take what was sent.",
                "Lower tcp_orphan_retries, so that dead peers are given up sooner.",
                "Raise tcp_max_orphans if there is memory: an orphan may take up to 64 KB.",
            ],
        },
        FindingKind::RetransmitStorm => FindingText {
            about: "Much is sent again",
            meaning: &[
                "Segments other than SYN and SYN-ACK were retransmitted: ten a second or more, and one in twenty of the \
                segments sent. They were lost, or their acknowledgements were lost or late.",
            ],
            hurts: &[
                "Throughput falls and latency rises: each timeout waits 200 ms or more and doubles. Lost SYNs \
                cost a second each.",
            ],
            to_do: &[
                "`tcpwatch life`: retr of each connection; one peer or one network means a path, all \
                of them mean this host (its link, its queue, its CPU).",
                "SYNs and SYN-ACKs alone (`tcpwatch latency` counts them apart): queues that are full, or a firewall.",
                "`ip -s link` and `ethtool -S`: drops and errors of the interface.",
            ],
        },
        FindingKind::EventLoss => FindingText {
            about: "Events of our own were lost or missed",
            meaning: &[
                "Records found no room in the ring buffer (lost), or the kernel skipped a run of our program \
                (missed). What was printed is not complete; counts of stat do not depend on the ring buffer.",
                "tcpwatch reports this if it lost records, missed resets or miscounted sockets (one in a thousand is a \
                warning), or if the kernel skipped runs.",
            ],
            hurts: &[
                "The history and the owner of some connections are unknown, and findings that stand on single \
                connections may be too small.",
            ],
            to_do: &[
                "lost: `--ring-size 64M`, a filter (-L, -R, --remote), or faster reading of the output.",
                "missed: `--hook tp_btf`, where the kernel has it; on the classic hook another program on the \
                same CPU keeps ours from running.",
            ],
        },
        FindingKind::Host => FindingText {
            about: "A setting of the host hurts, or does not do what it was set for",
            meaning: &[
                "What `tcpwatch doctor` shows of a setting: its value, the default, the counters, and \
                whether a change would help here.",
            ],
            hurts: &["A setting copied from elsewhere may hide the cause, or break something else."],
            to_do: &["`tcpwatch explain` followed by the name of the setting."],
        },
    }
}
