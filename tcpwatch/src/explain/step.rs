//! The steps between states, as drawn in RFC 9293, figure 5, and how often each was taken.

use tcpwatch_common::TcpState;

use crate::model::ending::Ending;
use crate::model::stat::StatFrame;

/// How often a step was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepCount {
    /// Exactly this number.
    Exactly(u64),
    /// At least this number: some connections have an unknown ending.
    AtLeast(u64),
    /// Unknown.
    Unknown,
}

/// A step between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// `listen()`.
    Listen,
    /// `connect()`.
    Connect,
    /// A SYN arrived at a listener.
    Request,
    /// A SYN arrived from the peer to which we sent a SYN (simultaneous open).
    CrossedSyn,
    /// The peer answered our SYN.
    Answered,
    /// The last ACK of a handshake arrived.
    Accepted,
    /// We close first.
    CloseFirst,
    /// The peer closes first.
    PeerCloses,
    /// The peer acknowledged our FIN and has not closed.
    Acknowledged,
    /// The peer's FIN arrived before its acknowledgement of ours.
    CrossedFin,
    /// The peer closed too.
    PeerClosesToo,
    /// The peer acknowledged our FIN after the FINs crossed.
    CrossedAcknowledged,
    /// We close too.
    CloseToo,
    /// TIME_WAIT ended, after 60 s or sooner.
    Expired,
    /// The peer, which closed first, acknowledged our FIN.
    LastAcknowledged,
}

impl Step {
    /// All steps.
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

    /// The states before and after the step.
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

    /// How often the step was taken in `frame`.
    ///
    /// The kernel reports no step to or from `TIME_WAIT`. Steps to it are counted from the endings that both sides closed,
    /// including those whose timewait socket was refused. Steps from it are all timewait sockets that ended, in either
    /// substate. Half-open connections are not reported either: `LISTEN>SYN_RECV` fires with the last ACK of the handshake
    /// (`tcp_v4_syn_recv_sock`).
    #[must_use]
    pub fn taken(self, frame: &StatFrame) -> StepCount {
        let (from, to) = self.ends();
        match (self.ending(), self) {
            (Some(ending), _) => match (frame.ends.get(ending), undecided(from, frame)) {
                (known, 0) => StepCount::Exactly(known),
                (0, _) => StepCount::Unknown,
                (known, _) => StepCount::AtLeast(known),
            },
            (None, Self::Request) => StepCount::Unknown,
            (None, Self::Expired) => frame.time_wait.left.map_or(StepCount::Unknown, StepCount::Exactly),
            (None, _) => StepCount::Exactly(frame.moved(from, to)),
        }
    }

    /// The ending of a connection that takes this step last; `None` if the step ends no connection.
    const fn ending(self) -> Option<Ending> {
        match self {
            Self::PeerClosesToo => Some(Ending::GracefulActive),
            Self::CrossedAcknowledged => Some(Ending::Simultaneous),
            Self::LastAcknowledged => Some(Ending::GracefulPassive),
            _ => None,
        }
    }

    /// The transition that the kernel reports for the step; `None` if it reports none.
    const fn announced(self) -> Option<(TcpState, TcpState)> {
        match self.ends() {
            (TcpState::TimeWait, _) => None,
            (from, TcpState::TimeWait) => Some((from, TcpState::Close)),
            ends => Some(ends),
        }
    }
}

/// The transitions of `frame` that are no drawn step, because of a reset or a timeout. Self-transitions are left out.
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

/// Connections that ended in `from` without evidence that they took the drawn step or became a timewait socket in `FIN_WAIT2`.
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

/// The maximum number of these connections whose ending is unknown.
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
        assert_eq!(Step::Connect.taken(&frame), StepCount::Exactly(7));
        assert_eq!(
            Step::PeerClosesToo.taken(&frame),
            StepCount::Exactly(3),
            "one has not closed"
        );
        assert_eq!(Step::LastAcknowledged.taken(&frame), StepCount::Exactly(2));
        assert_eq!(Step::Expired.taken(&frame), StepCount::Unknown);
        assert_eq!(
            Step::Request.taken(&frame),
            StepCount::Unknown,
            "the kernel reports it only when the handshake is complete"
        );
        assert_eq!(Step::Accepted.taken(&frame), StepCount::Exactly(6));
        assert_eq!(
            others(&frame).collect::<Vec<_>>(),
            [(established, close, 3), (fin_wait2, close, 1)]
        );
    }

    /// A possible step is reported neither as taken nor as not taken.
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
            assert_eq!(step.taken(&unknown), StepCount::Unknown, "{step:?}");
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
        assert_eq!(Step::PeerClosesToo.taken(&some), StepCount::AtLeast(3));
        assert_eq!(
            Step::LastAcknowledged.taken(&some),
            StepCount::Exactly(5),
            "all are known"
        );
        assert_eq!(Step::CrossedAcknowledged.taken(&some), StepCount::Unknown);
        assert_eq!(
            others(&some).collect::<Vec<_>>(),
            [(fin_wait2, close, 3), (TcpState::Closing, close, 3)]
        );
    }
}
