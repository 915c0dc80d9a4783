//! What a trace shows.

use std::sync::Arc;

use serde::Serialize;
use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::STATES;

use super::container::Cgroup;
use super::ending::Ending;
use super::owner::Owner;
use super::pending::Ends;
use crate::event::{Event, Life, Record};

/// What a trace may be of.
pub trait Traced: Ends + Sized {
    /// What people call several of them.
    const MANY: &'static str;

    /// What `record` carries; `None` where it carries something else.
    fn of(record: Record) -> Option<Self>;

    /// Its transition: of a connection, the last.
    fn event(&self) -> &Event;

    /// The same, to add to what is known of it.
    fn event_mut(&mut self) -> &mut Event;

    /// The process that closed the connection, where that is not its owner.
    fn closer(&self) -> Option<Owner>;

    /// How many of them are among the transitions of the ledger, `moves[from][to]` by the kernel's state numbers.
    fn seen(moves: &[[u64; STATES]; STATES]) -> u64;
}

impl Traced for Event {
    const MANY: &'static str = "transitions";

    fn of(record: Record) -> Option<Self> {
        match record {
            Record::Transition(event) => Some(event),
            _ => None,
        }
    }

    fn event(&self) -> &Event {
        self
    }

    fn event_mut(&mut self) -> &mut Event {
        self
    }

    fn closer(&self) -> Option<Owner> {
        None
    }

    fn seen(moves: &[[u64; STATES]; STATES]) -> u64 {
        moves.iter().flatten().sum()
    }
}

impl Traced for Life {
    const MANY: &'static str = "connections";

    fn of(record: Record) -> Option<Self> {
        match record {
            Record::Life(life) => Some(life),
            _ => None,
        }
    }

    fn event(&self) -> &Event {
        &self.last
    }

    fn event_mut(&mut self) -> &mut Event {
        &mut self.last
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
        ends.filter_map(|(_, to)| to.get(close)).sum()
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
        assert_eq!(Life::seen(&moves), 2 + 4 + 8);
        assert_eq!(Event::seen(&moves), 127);
    }
}
