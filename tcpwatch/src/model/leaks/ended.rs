//! Sockets that the kernel ended, by a reset or for want of an answer, and whose descriptors stay open: no dump shows them any more.

use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;

use super::{Held, Tracked};

/// Such sockets remembered at most.
const MOST: usize = 65_536;

/// By the inode numbers of their sockets.
#[derive(Debug, Default)]
pub(super) struct Ended(HashMap<NonZeroU32, Tracked>);

impl Ended {
    /// Remembers `socket`, where it can be known again and there is room.
    pub(super) fn insert(&mut self, socket: Tracked) {
        if let Some(inode) = socket.detail.socket.inode.filter(|_| self.0.len() < MOST) {
            self.0.insert(inode, socket);
        }
    }

    /// Forgets the one of this cookie: its application uses it again.
    pub(super) fn used_again(&mut self, cookie: Option<NonZeroU64>) {
        if !self.0.is_empty() && cookie.is_some() {
            self.0.retain(|_, socket| socket.detail.cookie != cookie);
        }
    }

    /// Learns who holds them now; those that nobody holds any more, which are taken out.
    pub(super) fn look(&mut self, held: HashMap<NonZeroU32, Held>) -> Vec<Tracked> {
        let mut closed = Vec::new();
        for (inode, held) in held {
            if held.holders.is_empty() {
                closed.extend(self.0.remove(&inode));
            } else if let Some(socket) = self.0.get_mut(&inode) {
                socket.key.pid = held.process.and_then(|owner| owner.pid);
                (socket.owner, socket.holders) = (held.process, held.holders);
            }
        }
        closed
    }

    /// Which they are.
    pub(super) fn inodes(&self) -> impl Iterator<Item = NonZeroU32> {
        self.0.keys().copied()
    }

    /// Those that somebody is known to hold.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Tracked> {
        self.0.values().filter(|socket| !socket.holders.is_empty())
    }
}
