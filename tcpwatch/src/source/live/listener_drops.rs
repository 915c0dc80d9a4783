//! Listeners that drop what comes to them.

use anyhow::Result;

use crate::input::listener::{Drops, Listener};
use crate::source::ebpf::Kernel;
use crate::source::listeners::listeners;
use crate::source::namespace::NamespaceReaders;

/// Remembers what each had dropped.
#[derive(Default)]
pub(super) struct ListenerDrops(Drops);

impl ListenerDrops {
    /// The listeners in `readers`' namespaces that dropped something since the last reading, and how much, with their owners where
    /// `kernel` knows them. The first reading of a namespace finds none.
    pub(super) fn read(&mut self, readers: &mut [NamespaceReaders], kernel: &Kernel) -> Result<Vec<Listener>> {
        self.0
            .retain(|netns| readers.iter().any(|reader| reader.inode == netns));
        for reader in readers {
            let mut all = listeners(&mut reader.sockets)?;
            for listener in all.iter_mut().filter(|listener| listener.drops > Some(0)) {
                listener.owner = kernel.listener(reader.inode, listener.port);
            }
            self.0.look(reader.inode, all);
        }
        Ok(self.0.take())
    }
}
