//! The steps from state to state, as RFC 9293, figure 5 draws them, and how often each was taken.

use tcpwatch_common::TcpState;

use crate::model::ending::Ending;
use crate::model::stat::StatFrame;

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
    /// TIME_WAIT is over.
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

    /// How often it was taken in `frame`; `None` where that is not known.
    ///
    /// The kernel announces no step to or from `TIME_WAIT`. Those to it are the ends that leave a timewait socket, in whichever
    /// substate, and those that were refused one; those from it are timewait sockets gone.
    #[must_use]
    pub fn taken(self, frame: &StatFrame) -> Option<u64> {
        match self {
            Self::PeerClosesToo => Some(frame.ends.get(Ending::GracefulActive) + frame.ends.get(Ending::ClosedFirst)),
            Self::CrossedAcknowledged => Some(frame.ends.get(Ending::Simultaneous)),
            Self::LastAcknowledged => Some(frame.ends.get(Ending::GracefulPassive)),
            Self::Expired => frame.time_wait.left,
            step => {
                let (from, to) = step.ends();
                Some(frame.moved(from, to))
            }
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

/// The transitions of `frame` that were no step: by a reset, a timeout, or a way not known. A state entered from itself is none.
pub fn others(frame: &StatFrame) -> impl Iterator<Item = (TcpState, TcpState, u64)> + '_ {
    frame.transitions().filter_map(|(from, to, times)| {
        let steps = Step::ALL
            .into_iter()
            .filter(|step| step.announced() == Some((from, to)));
        let taken: u64 = steps.filter_map(|step| step.taken(frame)).sum();
        let rest = times.saturating_sub(taken);
        (from != to && rest > 0).then_some((from, to, rest))
    })
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
        assert_eq!(Step::Connect.taken(&frame), Some(7));
        assert_eq!(Step::PeerClosesToo.taken(&frame), Some(4));
        assert_eq!(Step::LastAcknowledged.taken(&frame), Some(2));
        assert_eq!(Step::Expired.taken(&frame), None, "not known");
        assert_eq!(
            others(&frame).collect::<Vec<_>>(),
            [(established, close, 3), (fin_wait2, close, 1)]
        );
    }
}
