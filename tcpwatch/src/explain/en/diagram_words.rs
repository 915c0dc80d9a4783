//! The words around the state diagram.

use crate::explain::diagram_words::Diagram;
use crate::explain::step::Step;

pub(in crate::explain) const DIAGRAM: Diagram = Diagram {
    step,
    active: "we close first",
    passive: "the peer closes first",
    any: "A reset, a timeout or `ss -K` leads from any state directly to CLOSE.",
    now: "In the boxes: sockets of this network namespace now, as ss counts them.",
    now_of_several: "In the boxes: sockets of all network namespaces now, added up.",
    length: |seconds| format!("{seconds:.1} s"),
    counting: "counting for {}; Ctrl-C ends it",
    during: "At the arrows: how often each step was taken in the last {}. The arrow from TIME_WAIT counts all \
    timewait sockets that ended, also those in FIN_WAIT2. A ? is unknown: the kernel reports no SYN that arrives \
    at a listener.",
    others: "Not drawn, in the same time: ",
    comma: ", ",
    closed_first: "Closed here first, with a timewait socket in FIN_WAIT2 before the peer's FIN arrived: {}. The \
    kernel does not report when these enter TIME_WAIT.",
    refused: "Timewait sockets refused (tcp_max_tw_buckets, or no memory): {}. As many of the connections drawn \
    as TIME_WAIT, or closed here first, went directly to CLOSE.",
    undecided: "Connections with an unknown ending: {}. Each may or may not have taken a drawn step to TIME_WAIT \
    or CLOSE.",
    missed: "Transitions missed because the kernel ran no program for them: {}. These numbers are too small.",
    with_root: "For numbers at the arrows, run it as root: `sudo tcpwatch explain states`",
};

fn step(step: Step) -> &'static str {
    match step {
        Step::Listen => "listen()",
        Step::Connect => "connect(): SYN out",
        Step::Request => "SYN in, SYN-ACK out",
        Step::CrossedSyn => "SYN in",
        Step::Answered => "SYN-ACK in",
        Step::Accepted => "ACK in",
        Step::CloseFirst | Step::CloseToo => "close(): FIN out",
        Step::PeerCloses | Step::CrossedFin | Step::PeerClosesToo => "FIN in",
        Step::Acknowledged | Step::CrossedAcknowledged | Step::LastAcknowledged => "ACK of FIN in",
        Step::Expired => "gone in 60 s or less",
    }
}
