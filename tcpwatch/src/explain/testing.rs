//! Frames for tests.

use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::STATES;

use crate::model::churn::tests::stat;
use crate::model::ending::{Ending, EndingCounts};
use crate::model::stat::StatFrame;

/// A frame of one second with these transitions and endings.
pub(crate) fn frame(transitions: &[(TcpState, TcpState, u64)], endings: &[(Ending, u64)]) -> StatFrame {
    let mut moves = [[0; STATES]; STATES];
    for &(from, to, times) in transitions {
        moves[usize::from(from.number())][usize::from(to.number())] = times;
    }
    let mut ends = EndingCounts::default();
    for &(ending, connections) in endings {
        ends.add(ending, connections);
    }
    StatFrame {
        interval_s: 1.0,
        moves,
        ends,
        ..stat()
    }
}
