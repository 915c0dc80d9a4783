//! The words around the state diagram.

use crate::explain::diagram::Diagram;
use crate::explain::step::Step;

pub(in crate::explain) const DIAGRAM: Diagram = Diagram {
    step,
    active: "we close first",
    passive: "the peer closes first",
    now: "In the boxes: sockets of this network namespace now, as ss counts them.",
    during: "At the arrows: how often each step was taken in the last {}.",
    others: "Not drawn, in that time:",
    closed_first: "{} of those to TIME_WAIT became timewait sockets in FIN_WAIT2 first, for the peer had not closed; when it \
                   does, nobody announces it.",
    refused: "{} of them were refused (tcp_max_tw_buckets), and went straight to CLOSE.",
    missed: "{} transitions were missed: the kernel ran no program for them, and these numbers are too small.",
    with_root: "Numbers at the arrows take root: sudo tcpwatch explain states",
    any: "A reset, a timeout or ss -K leads from any state straight to CLOSE.",
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
        Step::Expired => "60 s",
    }
}
