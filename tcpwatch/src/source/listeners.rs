//! Who listens in a network namespace, and how full their accept queues are.

use std::num::NonZeroU32;

use tcpwatch_common::{StateSet, TcpState};

use super::sockets::Sockets;
use crate::input::listener::Listener;
use crate::input::socket::Socket;

/// All that `sockets` shows to listen; whose they are is not asked.
///
/// # Errors
/// The sockets cannot be read.
pub fn listeners(sockets: &mut Sockets) -> anyhow::Result<Vec<Listener>> {
    let mut found = Vec::new();
    sockets.walk_in_detail(StateSet::NONE.with(TcpState::Listen), |detail| {
        found.push(Listener {
            cookie: detail.cookie,
            drops: detail.drops.map(u64::from),
            ..listener(
                &detail.socket,
                detail.receive_queue.unwrap_or(0).into(),
                detail.send_queue.map(u64::from),
            )
        });
    })?;
    Ok(found)
}

/// The one that `socket` is, with so many in its queue of so many.
pub(super) fn listener(socket: &Socket, queued: u64, limit: Option<u64>) -> Listener {
    Listener {
        cookie: None,
        inode: socket.inode,
        netns: NonZeroU32::new(socket.netns),
        address: socket.local,
        port: socket.lport,
        queued,
        limit,
        drops: None,
        owner: None,
        sockets: 1,
    }
}
