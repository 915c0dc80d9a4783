//! Who listens in a network namespace, and how full their accept queues are.

use std::num::NonZeroU32;

use tcpwatch_common::{StateSet, TcpState};

use super::sockets::Sockets;
use crate::input::listener::Listener;
use crate::input::socket::Detail;

/// The listeners that `sockets` shows, without their owners.
///
/// # Errors
/// The sockets cannot be read.
pub fn listeners(sockets: &mut Sockets) -> anyhow::Result<Vec<Listener>> {
    let mut found = Vec::new();
    sockets.walk_in_detail(StateSet::NONE.with(TcpState::Listen), |detail| {
        found.push(listener(detail));
    })?;
    Ok(found)
}

/// The listener that `detail` shows, without its owner.
pub(super) fn listener(detail: &Detail) -> Listener {
    let socket = &detail.socket;
    Listener {
        cookie: detail.cookie,
        inode: socket.inode,
        netns: NonZeroU32::new(socket.netns),
        address: socket.local,
        port: socket.lport,
        queued: detail.receive_queue.unwrap_or(0).into(),
        limit: detail.send_queue.map(u64::from),
        drops: detail.drops.map(u64::from),
        owner: None,
        sockets: 1,
    }
}
