//! Listeners that drop what comes to them, and whose they are.

use std::num::NonZeroU64;

use anyhow::Result;
use hashbrown::HashMap;

use crate::input::listener::{Drops, Listener};
use crate::source::listeners::{Holders, listeners};
use crate::source::namespace::NamespaceReaders;

/// Remembers what each had dropped.
#[derive(Default)]
pub(super) struct ListenerDrops {
    drops: Drops,
    holders: Holders,
}

impl ListenerDrops {
    /// Those in `readers`' namespaces that dropped something since the last look, and how much, the most first. The first look at a
    /// namespace finds none.
    pub(super) fn look(&mut self, readers: &mut [NamespaceReaders]) -> Result<Vec<Listener>> {
        let mut inodes: HashMap<NonZeroU64, _> = HashMap::new();
        for reader in readers {
            let found = listeners(&mut reader.sockets)?;
            let cookies = found
                .iter()
                .filter_map(|(listener, inode)| listener.cookie.zip(Some(*inode)));
            inodes.extend(cookies);
            let all = found.into_iter().map(|(listener, _)| listener).collect();
            self.drops.look(reader.inode, all);
        }
        let holders = &mut self.holders;
        Ok(self.drops.take(|listener| {
            let inode = listener.cookie.and_then(|cookie| inodes.get(&cookie).copied());
            holders.of(inode.flatten())
        }))
    }
}
