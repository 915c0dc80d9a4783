//! Single transitions and finished connections, as `trace` and `life` show them.

use std::sync::Arc;

use serde::Serialize;
use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::STATES;

use super::ending::Ending;
use super::frame::Frame;
use crate::input::container::Cgroup;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::{Connection, Transition};

/// A record that a trace shows: a transition, or a finished connection.
pub trait TraceRecord: Sized {
    /// The transition; of a connection, its last one.
    fn event(&self) -> &Transition;

    /// The same, to be completed.
    fn event_mut(&mut self) -> &mut Transition;

    /// The rows of this kind in `frame`.
    fn rows(frame: &Frame) -> &TraceRows<Self>;

    /// The process that closed the connection, if it is not the owner.
    fn closer(&self) -> Option<Owner>;

    /// Counts the records of this kind in the ledger; `moves[from][to]` by the kernel's state numbers.
    fn count(moves: &[[u64; STATES]; STATES]) -> u64;
}

impl TraceRecord for Transition {
    fn event(&self) -> &Transition {
        self
    }

    fn event_mut(&mut self) -> &mut Transition {
        self
    }

    fn rows(frame: &Frame) -> &TraceRows<Self> {
        &frame.transitions
    }

    fn closer(&self) -> Option<Owner> {
        None
    }

    fn count(moves: &[[u64; STATES]; STATES]) -> u64 {
        super::total(moves.iter().flatten().copied())
    }
}

impl TraceRecord for Connection {
    fn event(&self) -> &Transition {
        &self.last
    }

    fn event_mut(&mut self) -> &mut Transition {
        &mut self.last
    }

    fn rows(frame: &Frame) -> &TraceRows<Self> {
        &frame.connections
    }

    fn closer(&self) -> Option<Owner> {
        self.closer
    }

    /// Counts the moves into CLOSE. Two are no end of a connection: `LISTEN>CLOSE`, and `CLOSE>CLOSE` of a killed socket.
    fn count(moves: &[[u64; STATES]; STATES]) -> u64 {
        let close = usize::from(TcpState::Close.number());
        let listen = usize::from(TcpState::Listen.number());
        let ends = moves
            .iter()
            .enumerate()
            .filter(|(from, _)| ![close, listen].contains(from));
        super::total(ends.filter_map(|(_, to)| to.get(close).copied()))
    }
}

/// A record with what the model found out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRow<T> {
    /// The transition, or the finished connection.
    pub record: T,
    /// How the connection ended; `None` for a transition that does not end one.
    pub ending: Option<Ending>,
    /// Why its owner is unknown, where it is.
    pub owner_unknown: Option<UnknownOwner>,
    /// Cgroup of the owner.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// The rows of one kind in a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceRows<T> {
    /// Rows in order of arrival.
    pub rows: Vec<TraceRow<T>>,
    /// Totals of the run; `None` before its end.
    pub totals: Option<TraceTotals>,
}

impl<T> Default for TraceRows<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            totals: None,
        }
    }
}

/// How many transitions or connections a run had, and how many of them it showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceTotals {
    /// Counted by the kernel side, within the filter that it applies.
    pub seen: u64,
    /// Printed, and taken by the reader of the output.
    pub printed: u64,
    /// Dropped, because the reader did not take them in time.
    pub dropped: u64,
    /// Left out, because the filter asks for other owners. The kernel side does not filter by owner.
    pub unmatched: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Events of the whole host that no program handled; `None` where the kernel does not count them.
    pub missed: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_ends_where_it_enters_close() {
        let mut moves = [[0; STATES]; STATES];
        for (from, to, count) in [
            (7, 2, 1),
            (2, 7, 2),
            (5, 7, 4),
            (9, 7, 8),
            (10, 7, 16),
            (7, 7, 32),
            (1, 4, 64),
        ] {
            moves[from][to] = count;
        }
        assert_eq!(Connection::count(&moves), 2 + 4 + 8);
        assert_eq!(Transition::count(&moves), 127);
    }
}
