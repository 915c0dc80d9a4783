//! Sockets that the kernel ended, by a reset or for want of an answer, and whose descriptors stay open: no dump shows them any more.

use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;

use super::{Held, Tracked};

/// Such sockets remembered at most.
const MOST: usize = 65_536;

/// By the inode numbers of their sockets.
#[derive(Debug, Default)]
pub(super) struct Ended {
    sockets: HashMap<NonZeroU32, Tracked>,
    /// The same numbers by the sockets' cookies.
    inodes: HashMap<NonZeroU64, NonZeroU32>,
}

impl Ended {
    /// Remembers `socket`, where it can be known again; false, where there is no room.
    #[must_use]
    pub(super) fn insert(&mut self, socket: Tracked) -> bool {
        let Some(inode) = socket.detail.socket.inode else {
            return true;
        };
        if self.sockets.len() >= MOST {
            return false;
        }
        self.inodes.extend(socket.detail.cookie.map(|cookie| (cookie, inode)));
        self.sockets.insert(inode, socket);
        true
    }

    /// Forgets the socket with this cookie: its application uses it again.
    pub(super) fn used_again(&mut self, cookie: Option<NonZeroU64>) {
        if let Some(inode) = cookie.and_then(|cookie| self.inodes.remove(&cookie)) {
            self.sockets.remove(&inode);
        }
    }

    fn remove(&mut self, inode: NonZeroU32) -> Option<Tracked> {
        let socket = self.sockets.remove(&inode)?;
        if let Some(cookie) = socket.detail.cookie {
            self.inodes.remove(&cookie);
        }
        Some(socket)
    }

    /// Takes the processes that hold them now; removes and returns those that nobody holds any more.
    pub(super) fn update_holders(&mut self, held: HashMap<NonZeroU32, Held>) -> Vec<Tracked> {
        let mut closed = Vec::new();
        for (inode, held) in held {
            if held.holders.is_empty() {
                closed.extend(self.remove(inode));
            } else if let Some(socket) = self.sockets.get_mut(&inode) {
                socket.key.pid = held.process.and_then(|owner| owner.pid);
                (socket.owner, socket.holders) = (held.process, held.holders);
            }
        }
        closed
    }

    /// Their inode numbers.
    #[cfg(test)]
    pub(super) fn inodes(&self) -> impl Iterator<Item = NonZeroU32> {
        self.sockets.keys().copied()
    }

    /// Those that somebody is known to hold.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Tracked> {
        self.sockets.values().filter(|socket| !socket.holders.is_empty())
    }
}
