//! Questions.

use crate::explain::page::QuestionText;

pub(super) const NO_TIME_WAIT: QuestionText = QuestionText {
    about: "Why did my active close not go to TIME_WAIT?",
    answer: &[
        "TIME_WAIT is for the side whose FIN went out first, of a connection that both sides closed in order. \
        Whoever calls close() first is not always that side, a reset ends a connection without it, and no \
        trace shows it: the kernel closes the full socket (FIN_WAIT2 > CLOSE) and leaves a small timewait \
        socket, which is announced by nobody.",
    ],
    cases: &[
        "It did go there. trace ends with FIN_WAIT2 > CLOSE, closed here first, to TIME_WAIT \
        (graceful_active); when both closed at once, with CLOSING > CLOSE (simultaneous). `ss -tan state \
        time-wait` shows the timewait socket, without an owner.",
        "Not yet: the peer has not closed (closed_first). The timewait socket is in FIN_WAIT2 for \
        tcp_fin_timeout at most, and ss shows FIN-WAIT-2. If the peer's FIN comes in that time, TIME_WAIT \
        begins then; if not, it goes without TIME_WAIT.",
        "Only shutdown(SHUT_WR) was called and the descriptor is still open: the socket stays in FIN_WAIT2, \
        without limit, until the peer closes.",
        "The peer had closed first, perhaps a moment before (graceful_passive): our close went CLOSE_WAIT, \
        LAST_ACK, CLOSE. The peer has the TIME_WAIT.",
        "SO_LINGER with a time of 0 was set: close() sent a reset in place of a FIN (reset_linger).",
        "Data was unread when close() was called: the kernel sends a reset, to tell the peer that data was \
        lost (reset_unread).",
        "Data came after close(), or TCP_LINGER2 was negative: a reset ended FIN_WAIT1 or FIN_WAIT2 \
        (reset_after_close, or reset_by_us where the kernel does not tell more).",
        "The peer sent a reset (reset_by_peer). It may do so after our FIN too: one that closes with data \
        unread, or whose process is gone, answers with a reset.",
        "The peer did not answer our FIN, or an orphan waited too long (timeout_retransmit, \
        timeout_fin_wait2), or the network said that the peer cannot be reached (unreachable); there were too \
        many orphans, or no memory (out_of_memory).",
        "An administrator ended it (killed), or the application disconnected it (disconnected), or its \
        listener closed before accept() (listener_closed).",
        "It went there and was refused: tcp_max_tw_buckets was reached. The socket cannot tell; \
        TcpExtTCPTimeWaitOverflow counts it, and `tcpwatch stat -o json` says refused.",
        "It was there, and is gone before its 60 s: the peer opened a new connection between the same ports, a \
        connect() here took the port over (tcp_tw_reuse; on loopback after 1 s by default), a reset came, or \
        `ss -K` ended it.",
        "It was the close of another connection: a proxy or a load balancer in between has one to each side, \
        and closes them as it likes.",
    ],
    look: &[
        "`tcpwatch life`: the last words of each line are the ending; `-o json` has it as ended.",
        "`tcpwatch stat -o json`: closed counts every ending; time_wait has entered, left, recycled and refused.",
        "`tcpwatch explain` followed by the name of an ending: what it means.",
    ],
};
