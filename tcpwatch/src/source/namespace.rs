//! Everything `stat` reads of one network namespace, opened inside it once and read every second from outside.

use std::path::Path;

use anyhow::Context;
use hashbrown::HashSet;
use tcpwatch_common::{StateSet, TcpState};

use super::ebpf::{Kernel, Listeners};
use super::owners::Owners;
use super::ports::PortSettings;
use super::sockets::Sockets;
use crate::model::snapshot::Unseen;
use crate::model::socket::Socket;
use crate::sys::counters::Counters;
use crate::sys::netns::Namespace;
use crate::sys::sockstat::Sockstat;
use crate::sys::sysctl::{Sysctl, TCP_MAX_TW_BUCKETS};

/// The readers of one network namespace.
pub struct NamespaceReaders {
    /// Inode number of the namespace.
    pub inode: u32,
    /// Its sockets.
    pub sockets: Sockets,
    /// Its counters: `Tcp`, `TcpExt`.
    pub counters: Counters,
    /// Its sockets by number alone.
    pub sockstat: Sockstat,
    /// Its settings of ephemeral ports.
    pub ports: PortSettings,
    /// Its `tcp_max_tw_buckets`; `None` where the kernel shows it to the first namespace alone.
    pub max_tw_buckets: Option<Sysctl>,
}

impl NamespaceReaders {
    /// Opens all of them inside `namespace`; `root` is `/`.
    ///
    /// # Errors
    /// One line: which of them, and what the kernel said.
    pub fn open(root: &Path, namespace: &Namespace) -> anyhow::Result<Self> {
        let inode = namespace.inode;
        namespace
            .run(|| {
                Ok(Self {
                    inode,
                    sockets: Sockets::open(root, inode)?,
                    counters: Counters::open(root)?,
                    sockstat: Sockstat::open(root)?,
                    ports: PortSettings::open(root),
                    max_tw_buckets: Sysctl::open(root, TCP_MAX_TW_BUCKETS).ok(),
                })
            })
            .context("readers of TCP")
    }
}

/// Tells the kernel side who listens already in `namespaces`, as far as /proc shows it; what it does not show.
///
/// # Errors
/// Sockets or processes cannot be read.
pub fn tell_listeners(kernel: &mut Kernel, namespaces: &[Namespace]) -> anyhow::Result<Unseen> {
    let early = Early::find(namespaces)?;
    early.tell(kernel, namespaces, &mut Owners::scan(Path::new("/"))?)
}

/// The sockets that listened before tcpwatch did.
pub struct Early(Vec<Socket>);

impl Early {
    /// Those in `namespaces`.
    ///
    /// # Errors
    /// Sockets cannot be read.
    pub fn find(namespaces: &[Namespace]) -> anyhow::Result<Self> {
        let mut sockets = Vec::new();
        for namespace in namespaces {
            let mut reader = namespace.run(|| Sockets::open(Path::new("/"), namespace.inode))?;
            reader.walk(StateSet::NONE.with(TcpState::Listen), |socket| sockets.push(*socket))?;
        }
        Ok(Self(sockets))
    }

    /// Tells the kernel side whose they are by `owners`, who were looked for later; what those do not tell. One that has gone from
    /// its namespace since is left out: whoever listens in its place the kernel side has heard of.
    ///
    /// # Errors
    /// Sockets cannot be read, or the kernel side has no place for it.
    pub fn tell(&self, kernel: &mut Kernel, namespaces: &[Namespace], owners: &mut Owners) -> anyhow::Result<Unseen> {
        let mut listeners = Listeners::default();
        let now = Self::find(namespaces)?;
        let still: HashSet<_> = now.0.iter().map(|socket| (socket.netns, socket.inode)).collect();
        for socket in self
            .0
            .iter()
            .filter(|socket| still.contains(&(socket.netns, socket.inode)))
        {
            let whose = owners.of(socket.inode).whose();
            listeners.add(socket.netns, socket.lport, whose.process.as_deref());
        }
        kernel.tell_listeners(&listeners)?;
        Ok(owners.unseen())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::netns::{Which, resolve};

    #[test]
    fn our_own_namespace_needs_no_privilege() {
        let root = Path::new("/");
        let own = resolve(root, &Which::Own).unwrap().remove(0);
        let mut readers = NamespaceReaders::open(root, &own).unwrap();
        readers.sockets.count(StateSet::ALL).unwrap();
        assert!(readers.counters.read().unwrap().get("Tcp", "ActiveOpens").is_some());
        assert!(readers.sockstat.read().unwrap().tw.is_some());
        if let Some(limit) = &mut readers.max_tw_buckets {
            assert!(limit.read().unwrap().is_some());
        }
    }
}
