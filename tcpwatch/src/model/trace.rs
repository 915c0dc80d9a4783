//! What a trace shows.

use std::sync::Arc;

use serde::Serialize;
use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::STATES;

use super::ending::Ending;
use super::frame::Frame;
use super::holdback::Held;
use crate::input::container::Cgroup;
use crate::input::owner::Owner;
use crate::input::{Connection, Event};

/// What a trace may be of.
pub trait Traced: Held + Sized {
    /// Those that `frame` shows.
    fn shown(frame: &Frame) -> &Shown<Self>;

    /// The process that closed the connection, where that is not its owner.
    fn closer(&self) -> Option<Owner>;

    /// How many of them are among the transitions of the ledger, `moves[from][to]` by the kernel's state numbers.
    fn seen(moves: &[[u64; STATES]; STATES]) -> u64;
}

impl Traced for Event {
    fn shown(frame: &Frame) -> &Shown<Self> {
        &frame.transitions
    }

    fn closer(&self) -> Option<Owner> {
        None
    }

    fn seen(moves: &[[u64; STATES]; STATES]) -> u64 {
        super::total(moves.iter().flatten().copied())
    }
}

impl Traced for Connection {
    fn shown(frame: &Frame) -> &Shown<Self> {
        &frame.connections
    }

    fn closer(&self) -> Option<Owner> {
        self.closer
    }

    /// Every entry into CLOSE ends a connection, but for a listener's, and for that of a killed one, which is there already.
    fn seen(moves: &[[u64; STATES]; STATES]) -> u64 {
        let close = usize::from(TcpState::Close.number());
        let listen = usize::from(TcpState::Listen.number());
        let ends = moves
            .iter()
            .enumerate()
            .filter(|(from, _)| ![close, listen].contains(from));
        super::total(ends.filter_map(|(_, to)| to.get(close).copied()))
    }
}

/// One thing a trace shows, with what was found out beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<T> {
    /// The transition, or the finished connection.
    pub what: T,
    /// How it ended, where it is an end.
    pub ended: Option<Ending>,
    /// Its owner's cgroup.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// Transitions, or finished connections, that a frame shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown<T> {
    /// In the order they came.
    pub rows: Vec<Row<T>>,
    /// What all of them add up to; `None` before the end.
    pub totals: Option<TraceTotals>,
}

impl<T> Default for Shown<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            totals: None,
        }
    }
}

/// How many transitions, or connections, there were, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceTotals {
    /// Those the kernel side counted within the filter.
    pub seen: u64,
    /// Those printed.
    pub printed: u64,
    /// Those left out because they are not whom the filter asks for: it looks at owners, whom the kernel side does not judge.
    pub unmatched: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Runs of the kernel side that the kernel skipped, so that nobody counted them; `None` where it does not say.
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
        assert_eq!(Connection::seen(&moves), 2 + 4 + 8);
        assert_eq!(Event::seen(&moves), 127);
    }
}
