//! Listeners that drop what comes to them.

use anyhow::Result;

use crate::input::listener::{Drops, Listener};
use crate::source::ebpf::Kernel;
use crate::source::listeners::listeners;
use crate::source::namespace_readers::NamespaceReaders;

/// Remembers what each had dropped.
#[derive(Default)]
pub(super) struct ListenerDrops(Drops);

impl ListenerDrops {
    /// The listeners in `readers`' namespaces that dropped something since the last reading, and how much, with their owners where
    /// `kernel` knows them. The first reading of a namespace finds none.
    pub(super) fn read(&mut self, readers: &mut [NamespaceReaders], kernel: &Kernel) -> Result<Vec<Listener>> {
        self.0
            .retain(|netns| readers.iter().any(|reader| reader.inode == netns));
        let mut dropping = Vec::new();
        for reader in readers {
            let since = self.0.update(reader.inode, listeners(&mut reader.sockets)?);
            dropping.extend(since.into_iter().map(|listener| Listener {
                owner: kernel.listener(reader.inode, listener.port),
                ..listener
            }));
        }
        Ok(dropping)
    }
}
