//! How many sockets are in each state.

use std::ops::AddAssign;

use serde::{Serialize, Serializer};
use tcpwatch_common::TcpState;
use tcpwatch_common::ledger::Pass;

use crate::input::socket::{Kind, Socket};

/// Sockets in each state: full, request and timewait sockets together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts([u64; TcpState::ALL.len()]);

/// Index of `state` in the counts; the kernel's numbers (`enum` in `net/tcp_states.h`) start at 1.
fn index(state: TcpState) -> usize {
    usize::from(state.number()) - 1
}

impl StateCounts {
    /// Adds `sockets` in `state`.
    pub fn add(&mut self, state: TcpState, sockets: u64) {
        let count = &mut self.0[index(state)];
        *count = count.saturating_add(sockets);
    }

    /// Sockets in `state`.
    #[must_use]
    pub fn get(&self, state: TcpState) -> u64 {
        self.0[index(state)]
    }

    /// Sockets in all states.
    #[must_use]
    pub fn total(&self) -> u64 {
        super::total(self.0)
    }

    /// Every state with its number of sockets, in the order of JSON and CSV.
    pub fn iter(&self) -> impl Iterator<Item = (TcpState, u64)> + '_ {
        TcpState::ALL.into_iter().map(|state| (state, self.get(state)))
    }
}

impl Serialize for StateCounts {
    /// `{"established":0, …}`: every state, zeros too, in the order of the kernel's numbers.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(state, sockets)| (state.key(), sockets)))
    }
}

impl AddAssign for StateCounts {
    fn add_assign(&mut self, other: Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

impl From<&Pass> for StateCounts {
    /// Adds up the three kinds of sockets, as `ss` shows them.
    fn from(pass: &Pass) -> Self {
        let mut counts = Self::default();
        for cells in [&pass.full, &pass.request, &pass.timewait] {
            for (number, &sockets) in (0..).zip(cells) {
                if let Some(state) = TcpState::from_kernel(number) {
                    counts.add(state, sockets);
                }
            }
        }
        counts
    }
}

/// Counts `socket` in `pass` by state and kind; an unknown kind counts as a full socket.
pub fn count_socket(pass: &mut Pass, socket: &Socket) {
    let cells = match socket.kind {
        Some(Kind::Full) | None => &mut pass.full,
        Some(Kind::Request) => &mut pass.request,
        Some(Kind::Timewait) => &mut pass.timewait,
    };
    cells[usize::from(socket.state.number())] += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_add_up_and_requests_are_syn_recv() {
        let mut pass: Pass = bytemuck::Zeroable::zeroed();
        pass.full[5] = 1;
        pass.timewait[5] = 2;
        pass.request[3] = 4;
        pass.request[12] = 8;
        pass.full[13] = 100;
        let mut counts = StateCounts::from(&pass);
        assert_eq!(counts.get(TcpState::FinWait2), 3);
        assert_eq!(counts.get(TcpState::SynRecv), 12);
        assert_eq!(counts.total(), 15);
        counts += counts;
        assert_eq!(counts.total(), 30);
        assert_eq!(counts.iter().count(), 11);
    }
}
