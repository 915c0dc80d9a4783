//! The words around the state diagram.

use crate::explain::diagram::Diagram;
use crate::explain::step::Step;

pub(in crate::explain) const DIAGRAM: Diagram = Diagram {
    step,
    active: "we close first",
    passive: "the peer closes first",
    any: "A reset, a timeout or `ss -K` leads from any state straight to CLOSE.",
    now: "In the boxes: sockets of this network namespace now, as ss counts them.",
    now_of_several: "In the boxes: sockets of all network namespaces now, together.",
    length: |seconds| format!("{seconds:.1} s"),
    counting: "counting for {}; Ctrl-C ends it",
    during: "At the arrows: how often each step was taken in the last {}; at the one from TIME_WAIT, timewait sockets gone, \
             those in FIN_WAIT2 among them. A ? is unknown: the kernel announces no SYN that \
             comes to a listener.",
    others: "Not drawn, in that time: ",
    comma: ", ",
    closed_first: "{} were closed here first and became timewait sockets in FIN_WAIT2 before the peer's FIN came. That such a \
                   one goes on to TIME_WAIT is announced by nobody.",
    refused: "{} timewait sockets were refused (tcp_max_tw_buckets, or no memory): as many of those that went to TIME_WAIT, \
              or were closed here first, went straight to CLOSE.",
    undecided: "How {} connections ended is not known: each may have taken a step to TIME_WAIT or CLOSE, or none.",
    missed: "{} transitions were missed: the kernel ran no program for them, and these numbers are too small.",
    with_root: "Run as root, it has numbers at the arrows: `sudo tcpwatch explain states`",
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
