//! Listeners that drop what comes to them.

use anyhow::Result;

use crate::input::listener::{Drops, Listener};
use crate::source::ebpf::Kernel;
use crate::source::listeners::listeners;
use crate::source::namespaces::WatchedNamespaces;

/// Remembers what each had dropped.
#[derive(Default)]
pub(super) struct ListenerDrops(Drops);

impl ListenerDrops {
    /// The listeners in `namespaces` that dropped something since the last reading, and how much, with their owners where `kernel` knows
    /// them. The first reading of a namespace finds none.
    pub(super) fn read(&mut self, namespaces: &mut WatchedNamespaces, kernel: &Kernel) -> Result<Vec<Listener>> {
        let all = namespaces.read_each(|reader| Ok((reader.inode(), listeners(reader.sockets()?)?)))?;
        self.0
            .retain(|netns| namespaces.all().iter().any(|namespace| namespace.inode == netns));
        let mut dropping = Vec::new();
        for (netns, listeners) in all {
            let since = self.0.update(netns, listeners);
            dropping.extend(since.into_iter().map(|listener| Listener {
                owner: kernel.listener(netns, listener.port),
                ..listener
            }));
        }
        Ok(dropping)
    }
}
