//! Sockets that the kernel ended, by a reset or for want of an answer, and whose descriptors stay open: no dump shows them any more.

use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;

use super::{SocketHolders, Tracked};

/// Such sockets remembered at most.
const MOST: usize = 65_536;

/// By the inode numbers of their sockets. At most [`MOST`]; one more is refused, and counted. A socket goes when nobody holds it, or
/// when scans of /proc no longer look for it.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// With the time of its end, or of the last scan that looked for its holders, ns.
    sockets: HashMap<NonZeroU32, (Tracked, u64)>,
    /// The same numbers by the sockets' cookies.
    inodes: HashMap<NonZeroU64, NonZeroU32>,
}

impl Ended {
    /// Remembers `socket`, which ended at `now_ns`, where it can be known again; false, where there is no room.
    #[must_use]
    pub(super) fn insert(&mut self, socket: Tracked, now_ns: u64) -> bool {
        let Some(inode) = socket.detail.socket.inode else {
            return true;
        };
        // An older socket with this number is gone.
        self.remove(inode);
        if self.sockets.len() >= MOST {
            return false;
        }
        self.inodes.extend(socket.detail.cookie.map(|cookie| (cookie, inode)));
        self.sockets.insert(inode, (socket, now_ns));
        true
    }

    /// Forgets the socket with this cookie: its application uses it again.
    pub(super) fn used_again(&mut self, cookie: Option<NonZeroU64>) {
        if let Some(inode) = cookie.and_then(|cookie| self.inodes.remove(&cookie)) {
            self.sockets.remove(&inode);
        }
    }

    fn remove(&mut self, inode: NonZeroU32) -> Option<Tracked> {
        let (socket, _) = self.sockets.remove(&inode)?;
        if let Some(cookie) = socket.detail.cookie {
            self.inodes.remove(&cookie);
        }
        Some(socket)
    }

    /// Updates the processes that hold the sockets, found at `now_ns`. Removes and returns the sockets that no process holds any more.
    pub(super) fn update_holders(&mut self, held: HashMap<NonZeroU32, SocketHolders>, now_ns: u64) -> Vec<Tracked> {
        let mut closed = Vec::new();
        for (inode, held) in held {
            if held.holders.is_empty() {
                closed.extend(self.remove(inode));
            } else if let Some((socket, looked_ns)) = self.sockets.get_mut(&inode) {
                *looked_ns = now_ns;
                socket.key.pid = held.process.and_then(|owner| owner.pid);
                (socket.owner, socket.holders) = (held.process, held.holders);
            }
        }
        // The map gives them in any order.
        closed.sort_unstable_by_key(|socket| socket.detail.socket.inode);
        closed
    }

    /// Removes the sockets that no scan has looked for in the `kept_ns` before `now_ns`. Returns their number.
    #[must_use]
    pub(super) fn expire(&mut self, now_ns: u64, kept_ns: u64) -> u64 {
        let is_old = |(_, looked_ns): &(Tracked, u64)| now_ns.saturating_sub(*looked_ns) >= kept_ns;
        let old: Vec<_> = self.sockets.extract_if(|_, socket| is_old(socket)).collect();
        for cookie in old.iter().filter_map(|(_, (socket, _))| socket.detail.cookie) {
            self.inodes.remove(&cookie);
        }
        old.len() as u64
    }

    /// Number of sockets, and of cookies.
    #[cfg(test)]
    pub(crate) fn len(&self) -> [usize; 2] {
        [self.sockets.len(), self.inodes.len()]
    }

    /// Their inode numbers.
    #[cfg(test)]
    pub(super) fn inodes(&self) -> impl Iterator<Item = NonZeroU32> {
        self.sockets.keys().copied()
    }

    /// The sockets with a known holder.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &Tracked> {
        let sockets = self.sockets.values().map(|(socket, _)| socket);
        sockets.filter(|socket| !socket.holders.is_empty())
    }
}
