//! The sockets of one moment, one by one, in an order that does not depend on the kernel's tables.

use jiff::Timestamp;

use super::snapshot::Origin;
use crate::input::socket::{Detail, Socket};
use crate::input::socket_owner::{Holder, SocketOwner, Unseen};

/// Sockets kept at most, about 200 MB. Further ones are counted as left out.
pub const SOCKETS_MAX: usize = 900_000;

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
}

/// Collects sockets, and puts them in order.
#[derive(Debug, Default)]
pub struct ListBuilder {
    sockets: Vec<ListedSocket>,
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
    /// Adds a socket.
    pub fn add(&mut self, detail: &Detail) {
        if self.sockets.len() < SOCKETS_MAX {
            self.sockets.push(detail.into());
        } else {
            self.left_out += 1;
        }
    }

    /// The first `limit` sockets in order, all if it is `None`, and the number of those left out.
    #[must_use]
    pub fn finish(mut self, limit: Option<usize>) -> (Vec<ListedSocket>, usize) {
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
        let shown = limit.unwrap_or(SOCKETS_MAX).min(self.sockets.len());
        let left_out = self.left_out + self.sockets.len() - shown;
        self.sockets.truncate(shown);
        (self.sockets, left_out)
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
        let mut builder = ListBuilder::default();
        for (state, local, lport, rport) in [
            (TcpState::Listen, "0.0.0.0", 80, 0),
            (TcpState::Established, "10.0.0.10", 80, 40001),
            (TcpState::Established, "10.0.0.2", 80, 9),
            (TcpState::Established, "10.0.0.10", 80, 5),
            (TcpState::Established, "10.0.0.10", 9, 1),
        ] {
            builder.add(&detail(state, local, lport, rport));
        }
        let (sockets, left_out) = builder.finish(Some(4));
        let shown: Vec<_> = sockets.iter().map(|one| (one.socket.lport, one.socket.rport)).collect();
        assert_eq!(shown, [(80, 9), (9, 1), (80, 5), (80, 40001)]);
        assert_eq!(left_out, 1, "the listener");
        assert_eq!(ListBuilder::default().finish(Some(0)), (Vec::new(), 0));
    }
}
