//! Questions.

use crate::explain::page::QuestionText;

pub(super) const NO_TIME_WAIT: QuestionText = QuestionText {
    about: "Why did my active close not go to TIME_WAIT?",
    answer: &[
        "Only an orderly close by both sides leads to TIME_WAIT, and only on the side that sent its FIN first. \
        The side that calls close() first is not always that side, and a reset ends a connection without \
        TIME_WAIT. No trace shows TIME_WAIT either: the kernel closes the full socket (FIN_WAIT2 > CLOSE) and \
        leaves a small timewait socket, for which no tracepoint fires.",
    ],
    cases: &[
        "It did enter TIME_WAIT. The trace ends with FIN_WAIT2 > CLOSE, closed here first, to TIME_WAIT \
        (graceful_active); or, if both sides closed at once, with CLOSING > CLOSE (simultaneous). `ss -tan state \
        time-wait` shows the timewait socket, without an owner.",
        "Not yet: the peer has not closed (closed_first). The timewait socket is in FIN_WAIT2 for at most \
        tcp_fin_timeout, and ss shows FIN-WAIT-2. If the peer's FIN arrives in that time, TIME_WAIT starts then. \
        If not, the socket disappears without TIME_WAIT.",
        "The application called only shutdown(SHUT_WR), and the descriptor is still open: the socket stays in \
        FIN_WAIT2, without limit, until the peer closes.",
        "The peer closed first, perhaps a moment earlier (graceful_passive). Our side went through CLOSE_WAIT, \
        LAST_ACK and CLOSE; TIME_WAIT is on the peer's side.",
        "The application set SO_LINGER with a time of 0: close() sent a reset instead of a FIN (reset_linger).",
        "Received data was still unread at close(): the kernel sent a reset so that the peer knows of the lost \
        data (reset_unread).",
        "Data arrived after close(), or TCP_LINGER2 was negative: a reset ended FIN_WAIT1 or FIN_WAIT2 \
        (reset_after_close, or reset_by_us where the kernel gives no reason).",
        "The peer sent a reset (reset_by_peer). It may do so after our FIN too: if it closes with unread data, \
        or if its process has exited.",
        "The peer did not answer our FIN, or an orphan waited too long (timeout_retransmit, timeout_fin_wait2). \
        Or the network reported the peer as unreachable (unreachable). Or there were too many orphans, or too \
        little memory (out_of_memory).",
        "An administrator ended the connection (killed), the application disconnected it (disconnected), or its \
        listener closed before accept() (listener_closed).",
        "The kernel refused a timewait socket because tcp_max_tw_buckets was reached. The socket itself does not \
        show this. TcpExtTCPTimeWaitOverflow counts it, and so does refused in `tcpwatch stat -o json`.",
        "TIME_WAIT ended before its 60 s were over. The peer opened a new connection between the same ports, \
        connect() here reused the port (tcp_tw_reuse; on loopback after 1 s by default), a reset arrived, or `ss \
        -K` ended it.",
        "You saw the close of another connection. A proxy or load balancer has one connection to each side, and \
        closes each when it likes.",
    ],
    look: &[
        "`tcpwatch life`: each line ends with the ending; in `-o json` it is the field ended.",
        "`tcpwatch stat -o json`: closed counts every ending; time_wait has entered, left, recycled and refused.",
        "`tcpwatch explain` followed by the name of an ending: its meaning.",
    ],
};
