//! The steps from state to state, as RFC 9293, figure 5 draws them, and how often each was taken.

use tcpwatch_common::TcpState;

use crate::model::ending::Ending;
use crate::model::stat::StatFrame;

/// How often a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// So often.
    Are(u64),
    /// So often, and perhaps by some of the connections of which nobody knows how they ended.
    AtLeast(u64),
    /// Nobody knows.
    Unknown,
}

/// A step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `listen()`.
    Listen,
    /// `connect()`.
    Connect,
    /// A SYN came to a listener.
    Request,
    /// A SYN came from the peer that a SYN went to.
    CrossedSyn,
    /// The peer answered our SYN.
    Answered,
    /// The last ACK of a handshake came.
    Accepted,
    /// We close first.
    CloseFirst,
    /// The peer closes first.
    PeerCloses,
    /// Our FIN is acknowledged, the peer has not closed.
    Acknowledged,
    /// The peer's FIN came before that.
    CrossedFin,
    /// The peer closed too.
    PeerClosesToo,
    /// Our FIN is acknowledged, after the FINs crossed.
    CrossedAcknowledged,
    /// We close too.
    CloseToo,
    /// TIME_WAIT is over, after 60 s, or sooner.
    Expired,
    /// Our FIN is acknowledged, after the peer's.
    LastAcknowledged,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Listen,
        Self::Connect,
        Self::Request,
        Self::CrossedSyn,
        Self::Answered,
        Self::Accepted,
        Self::CloseFirst,
        Self::PeerCloses,
        Self::Acknowledged,
        Self::CrossedFin,
        Self::PeerClosesToo,
        Self::CrossedAcknowledged,
        Self::CloseToo,
        Self::Expired,
        Self::LastAcknowledged,
    ];

    /// The states left and entered.
    #[must_use]
    pub const fn ends(self) -> (TcpState, TcpState) {
        match self {
            Self::Listen => (TcpState::Close, TcpState::Listen),
            Self::Connect => (TcpState::Close, TcpState::SynSent),
            Self::Request => (TcpState::Listen, TcpState::SynRecv),
            Self::CrossedSyn => (TcpState::SynSent, TcpState::SynRecv),
            Self::Answered => (TcpState::SynSent, TcpState::Established),
            Self::Accepted => (TcpState::SynRecv, TcpState::Established),
            Self::CloseFirst => (TcpState::Established, TcpState::FinWait1),
            Self::PeerCloses => (TcpState::Established, TcpState::CloseWait),
            Self::Acknowledged => (TcpState::FinWait1, TcpState::FinWait2),
            Self::CrossedFin => (TcpState::FinWait1, TcpState::Closing),
            Self::PeerClosesToo => (TcpState::FinWait2, TcpState::TimeWait),
            Self::CrossedAcknowledged => (TcpState::Closing, TcpState::TimeWait),
            Self::CloseToo => (TcpState::CloseWait, TcpState::LastAck),
            Self::Expired => (TcpState::TimeWait, TcpState::Close),
            Self::LastAcknowledged => (TcpState::LastAck, TcpState::Close),
        }
    }

    /// How often it was taken in `frame`.
    ///
    /// The kernel announces no step to or from `TIME_WAIT`. Those to it are ends that both sides closed, those that were refused a
    /// timewait socket among them; those from it are timewait sockets gone, of either substate. Nor does it announce half-open
    /// connections: `LISTEN>SYN_RECV` comes with the last ACK of the handshake (`tcp_v4_syn_recv_sock`).
    #[must_use]
    pub fn taken(self, frame: &StatFrame) -> Times {
        let (from, to) = self.ends();
        match (self.ending(), self) {
            (Some(ending), _) => match (frame.ends.get(ending), undecided(from, frame)) {
                (known, 0) => Times::Are(known),
                (0, _) => Times::Unknown,
                (known, _) => Times::AtLeast(known),
            },
            (None, Self::Request) => Times::Unknown,
            (None, Self::Expired) => frame.time_wait.left.map_or(Times::Unknown, Times::Are),
            (None, _) => Times::Are(frame.moved(from, to)),
        }
    }

    /// How a connection ends that takes it; `None` where it ends none.
    const fn ending(self) -> Option<Ending> {
        match self {
            Self::PeerClosesToo => Some(Ending::GracefulActive),
            Self::CrossedAcknowledged => Some(Ending::Simultaneous),
            Self::LastAcknowledged => Some(Ending::GracefulPassive),
            _ => None,
        }
    }

    /// The transition that the kernel announces for it; `None` where it announces none.
    const fn announced(self) -> Option<(TcpState, TcpState)> {
        match self.ends() {
            (TcpState::TimeWait, _) => None,
            (from, TcpState::TimeWait) => Some((from, TcpState::Close)),
            ends => Some(ends),
        }
    }
}

/// The transitions of `frame` that were no step: by a reset, or a timeout. A state entered from itself is none.
pub fn others(frame: &StatFrame) -> impl Iterator<Item = (TcpState, TcpState, u64)> + '_ {
    frame.transitions().filter_map(|(from, to, times)| {
        let mut steps = Step::ALL.into_iter();
        let rest = match steps.find(|step| step.announced() == Some((from, to))) {
            Some(step) if step.ending().is_some() => no_step(from, frame).saturating_sub(undecided(from, frame)),
            Some(_) => 0,
            None => times,
        };
        (from != to && rest > 0).then_some((from, to, rest))
    })
}

/// Connections that ended in `from` and are not known to have taken the step from there, nor to have become a timewait socket in
/// `FIN_WAIT2`.
fn no_step(from: TcpState, frame: &StatFrame) -> u64 {
    let steps = Step::ALL.into_iter().filter(|step| step.ends().0 == from);
    let ended = steps
        .filter_map(Step::ending)
        .map(|ending| frame.ends.get(ending))
        .sum();
    let closed_first = match from {
        TcpState::FinWait2 => frame.ends.get(Ending::ClosedFirst),
        _ => 0,
    };
    let all = frame.moved(from, TcpState::Close);
    all.saturating_sub(ended).saturating_sub(closed_first)
}

/// Those of them of which nobody knows how they ended, at most.
fn undecided(from: TcpState, frame: &StatFrame) -> u64 {
    no_step(from, frame).min(frame.ends.get(Ending::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::testing::frame;

    #[test]
    fn every_transition_is_a_step_or_another() {
        let (close, fin_wait2, established) = (TcpState::Close, TcpState::FinWait2, TcpState::Established);
        let frame = frame(
            &[
                (close, TcpState::SynSent, 7),
                (TcpState::Listen, TcpState::SynRecv, 6),
                (TcpState::SynRecv, established, 6),
                (fin_wait2, close, 5),
                (established, close, 3),
                (fin_wait2, fin_wait2, 9),
                (TcpState::LastAck, close, 2),
            ],
            &[
                (Ending::GracefulActive, 3),
                (Ending::ClosedFirst, 1),
                (Ending::ResetByPeer, 4),
                (Ending::GracefulPassive, 2),
            ],
        );
        assert_eq!(Step::Connect.taken(&frame), Times::Are(7));
        assert_eq!(Step::PeerClosesToo.taken(&frame), Times::Are(3), "one has not closed");
        assert_eq!(Step::LastAcknowledged.taken(&frame), Times::Are(2));
        assert_eq!(Step::Expired.taken(&frame), Times::Unknown);
        assert_eq!(
            Step::Request.taken(&frame),
            Times::Unknown,
            "it is announced when all is over"
        );
        assert_eq!(Step::Accepted.taken(&frame), Times::Are(6));
        assert_eq!(
            others(&frame).collect::<Vec<_>>(),
            [(established, close, 3), (fin_wait2, close, 1)]
        );
    }

    /// What may have been a step is told neither as one nor as none.
    #[test]
    fn an_end_that_is_not_known_may_have_been_a_step() {
        let (close, fin_wait2, last_ack) = (TcpState::Close, TcpState::FinWait2, TcpState::LastAck);
        let moves = [
            (fin_wait2, close, 9),
            (last_ack, close, 5),
            (TcpState::Closing, close, 4),
        ];
        let unknown = frame(&moves, &[(Ending::Unknown, 18)]);
        for step in [Step::PeerClosesToo, Step::LastAcknowledged, Step::CrossedAcknowledged] {
            assert_eq!(step.taken(&unknown), Times::Unknown, "{step:?}");
        }
        assert_eq!(others(&unknown).count(), 0);
        let some = frame(
            &moves,
            &[
                (Ending::GracefulActive, 3),
                (Ending::ClosedFirst, 2),
                (Ending::GracefulPassive, 5),
                (Ending::Unknown, 1),
                (Ending::ResetByPeer, 7),
            ],
        );
        assert_eq!(Step::PeerClosesToo.taken(&some), Times::AtLeast(3));
        assert_eq!(Step::LastAcknowledged.taken(&some), Times::Are(5), "all are known");
        assert_eq!(Step::CrossedAcknowledged.taken(&some), Times::Unknown);
        assert_eq!(
            others(&some).collect::<Vec<_>>(),
            [(fin_wait2, close, 3), (TcpState::Closing, close, 3)]
        );
    }
}
