//! Who listens in a network namespace, and how full their accept queues are.

use std::num::NonZeroU32;
use std::path::Path;

use tcpwatch_common::{StateSet, TcpState};

use super::owners::Owners;
use super::sockets::Sockets;
use crate::clock;
use crate::input::listener::Listener;
use crate::input::owner::Owner;
use crate::input::socket::Socket;

/// Of the time, at most a hundredth is spent on looking for owners anew.
const SHARE: u64 = 100;

/// A listener, and the inode number of its socket.
pub type Found = (Listener, Option<NonZeroU32>);

/// All that `sockets` shows to listen; whose they are is not asked.
///
/// # Errors
/// The sockets cannot be read.
pub fn listeners(sockets: &mut Sockets) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    sockets.walk_in_detail(StateSet::NONE.with(TcpState::Listen), |detail| {
        let listener = Listener {
            cookie: detail.cookie,
            drops: detail.drops.map(u64::from),
            ..listener(
                &detail.socket,
                detail.receive_queue.unwrap_or(0).into(),
                detail.send_queue.map(u64::from),
            )
        };
        found.push((listener, detail.socket.inode));
    })?;
    Ok(found)
}

/// The one that `socket` is, with so many in its queue of so many.
pub(super) fn listener(socket: &Socket, queued: u64, limit: Option<u64>) -> Listener {
    Listener {
        cookie: None,
        address: socket.local,
        port: socket.lport,
        queued,
        limit,
        drops: None,
        owner: None,
        sockets: 1,
    }
}

/// Who holds which listener: found by a scan of /proc when it is first asked for, and again when one is not among those.
#[derive(Default)]
pub struct Holders {
    owners: Option<Owners>,
    again_ns: u64,
}

impl Holders {
    /// Who holds `socket`; `None` where that is not known.
    pub fn of(&mut self, socket: Option<NonZeroU32>) -> Option<Owner> {
        if let Some(owner) = self.known(socket) {
            return Some(owner);
        }
        let start = clock::monotonic_ns();
        if start < self.again_ns {
            return None;
        }
        self.owners = Owners::scan(Path::new("/")).ok();
        let now = clock::monotonic_ns();
        self.again_ns = now + (now - start) * SHARE;
        self.known(socket)
    }

    fn known(&mut self, socket: Option<NonZeroU32>) -> Option<Owner> {
        self.owners.as_mut()?.of(socket).whose().process.map(|owner| *owner)
    }
}
