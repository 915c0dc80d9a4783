//! The sockets of one moment, one by one, in an order that does not depend on the kernel's tables.

use jiff::Timestamp;

use super::snapshot::Origin;
use crate::input::namespace::NamespaceNames;
use crate::input::socket::{Detail, Socket};
use crate::input::socket_owner::{Holder, SocketOwner, Unseen};

/// Sockets listed at most, about 200 MB. Further ones are counted.
pub const SOCKETS_MAX: usize = 500_000;

/// A socket of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSocket {
    /// The socket.
    pub socket: Socket,
    /// Bytes that wait to be read. For a listener: connections that wait for `accept()`.
    pub receive_queue: Option<u32>,
    /// Bytes that are not acknowledged. For a listener: connections that its accept queue takes; `None` if the source does not show it.
    pub send_queue: Option<u32>,
    /// The process to name, and its cgroup.
    pub owner: SocketOwner,
    /// All processes that hold the socket.
    pub holders: Vec<Holder>,
}

/// The sockets of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketList {
    /// When the reading began.
    pub time: Timestamp,
    /// Inode number of the network namespace; `None` for `--netns all`.
    pub netns: Option<u32>,
    /// How the sockets were read.
    pub origin: Origin,
    /// The sockets, by state, then by local and by remote end.
    pub sockets: Vec<ListedSocket>,
    /// Sockets left out by a limit, or since there were more than [`SOCKETS_MAX`].
    pub left_out: usize,
    /// Owners that could not be seen.
    pub unseen: Unseen,
    /// The names of the network namespaces, for text output.
    pub namespace_names: NamespaceNames,
}

/// Collects sockets, and puts them in order.
#[derive(Debug)]
pub struct ListBuilder {
    /// At most twice `limit`.
    sockets: Vec<ListedSocket>,
    limit: usize,
    left_out: usize,
}

impl From<&Detail> for ListedSocket {
    /// The socket, without its owner.
    fn from(detail: &Detail) -> Self {
        Self {
            socket: detail.socket,
            receive_queue: detail.receive_queue,
            send_queue: detail.send_queue,
            owner: SocketOwner::default(),
            holders: Vec::new(),
        }
    }
}

impl ListBuilder {
    /// A list of the first `limit` sockets in order; of the first [`SOCKETS_MAX`] if it is `None`.
    #[must_use]
    pub fn new(limit: Option<usize>) -> Self {
        Self {
            sockets: Vec::new(),
            limit: limit.unwrap_or(SOCKETS_MAX).min(SOCKETS_MAX),
            left_out: 0,
        }
    }

    /// Adds a socket.
    pub fn add(&mut self, detail: &Detail) {
        self.sockets.push(detail.into());
        if self.sockets.len() > 2 * self.limit {
            self.cut();
        }
    }

    /// Returns the sockets in order, and how many were left out.
    #[must_use]
    pub fn finish(mut self) -> (Vec<ListedSocket>, usize) {
        self.cut();
        (self.sockets, self.left_out)
    }

    /// Puts the sockets in order, and keeps the first.
    fn cut(&mut self) {
        let key = |listed: &ListedSocket| {
            let Socket {
                state,
                local,
                lport,
                remote,
                rport,
                netns,
                ..
            } = listed.socket;
            (state, local, lport, remote, rport, netns)
        };
        self.sockets.sort_unstable_by_key(key);
        self.left_out += self.sockets.len().saturating_sub(self.limit);
        self.sockets.truncate(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::socket::{Address, Family, Kind};

    fn detail(state: TcpState, local: &str, lport: u16, rport: u16) -> Detail {
        let address = |text: &str| Address::new(text.parse().unwrap(), 0);
        Detail::from_socket(Socket {
            family: Family::Ipv4,
            state,
            kind: Some(Kind::Full),
            local: address(local),
            lport,
            remote: address("10.0.0.9"),
            rport,
            uid: None,
            inode: None,
            netns: 1,
        })
    }

    #[test]
    fn numbers_and_addresses_sort_as_such_and_the_rest_is_counted() {
        let of = |limit| {
            let mut builder = ListBuilder::new(limit);
            for (state, local, lport, rport) in [
                (TcpState::Listen, "0.0.0.0", 80, 0),
                (TcpState::Established, "10.0.0.10", 80, 40001),
                (TcpState::Established, "10.0.0.2", 80, 9),
                (TcpState::Established, "10.0.0.10", 80, 5),
                (TcpState::Established, "10.0.0.10", 9, 1),
            ] {
                builder.add(&detail(state, local, lport, rport));
            }
            let (sockets, left_out) = builder.finish();
            let shown = sockets.iter().map(|one| (one.socket.lport, one.socket.rport));
            (shown.collect::<Vec<_>>(), left_out)
        };
        let all = [(80, 9), (9, 1), (80, 5), (80, 40001), (80, 0)];
        assert_eq!(of(None), (all.to_vec(), 0));
        for limit in 1..=5 {
            assert_eq!(of(Some(limit)), (all[..limit].to_vec(), 5 - limit));
        }
    }
}
