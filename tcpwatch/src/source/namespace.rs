//! Everything `stat` reads of one network namespace, opened inside it once and read every second from outside.

use std::path::Path;

use anyhow::Context;
use hashbrown::HashSet;
use tcpwatch_common::{StateSet, TcpState};

use super::ebpf::{Kernel, Listeners};
use super::owners::Owners;
use super::ports::PortSettings;
use super::sockets::Sockets;
use crate::input::namespace::Scope;
use crate::input::socket::Socket;
use crate::input::socket_owner::Unseen;
use crate::sys::counters::Counters;
use crate::sys::netns::Namespace;
use crate::sys::sockstat::Sockstat;
use crate::sys::sysctl::{
    OF_THE_FIRST, Sysctl, TCP_MAX_ORPHANS, TCP_MAX_SYN_BACKLOG, TCP_MAX_TW_BUCKETS, TCP_SYNCOOKIES,
};

/// The readers of one network namespace.
pub struct NamespaceReaders {
    /// Inode number of the namespace.
    pub inode: u32,
    /// Whose it is.
    pub scope: Scope,
    /// Whether it is the one the host started with.
    pub first: bool,
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
    /// The host's `tcp_max_orphans`; `None` likewise.
    pub max_orphans: Option<Sysctl>,
    /// Its `tcp_syncookies`; `None` where the kernel was built without.
    pub syncookies: Option<Sysctl>,
    /// Its `tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<Sysctl>,
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
                    scope: if namespace.is_own() {
                        Scope::Own
                    } else {
                        Scope::Other(namespace.path().map(|path| path.display().to_string()))
                    },
                    first: Sysctl::open(root, OF_THE_FIRST).is_ok(),
                    sockets: Sockets::open(root, inode)?,
                    counters: Counters::open(root)?,
                    sockstat: Sockstat::open(root)?,
                    ports: PortSettings::open(root),
                    max_tw_buckets: Sysctl::open(root, TCP_MAX_TW_BUCKETS).ok(),
                    max_orphans: Sysctl::open(root, TCP_MAX_ORPHANS).ok(),
                    syncookies: Sysctl::open(root, TCP_SYNCOOKIES).ok(),
                    max_syn_backlog: Sysctl::open(root, TCP_MAX_SYN_BACKLOG).ok(),
                })
            })
            .context("readers of TCP")
    }
}

/// The sockets that listened before tcpwatch did.
pub struct PreexistingListeners {
    /// One a namespace.
    readers: Vec<Sockets>,
    sockets: Vec<Socket>,
}

impl PreexistingListeners {
    /// Those in `namespaces`.
    ///
    /// # Errors
    /// Sockets cannot be read.
    pub fn find(namespaces: &[Namespace]) -> anyhow::Result<Self> {
        let open = |namespace: &Namespace| namespace.run(|| Sockets::open(Path::new("/"), namespace.inode));
        let mut readers: Vec<_> = namespaces.iter().map(open).collect::<anyhow::Result<_>>()?;
        let sockets = listening(&mut readers)?;
        Ok(Self { readers, sockets })
    }

    /// Tells the kernel side whose they are by `owners`, who were looked for later; what those do not tell. One that is gone by
    /// now is left out: whoever listens in its place, the kernel side has heard of.
    ///
    /// # Errors
    /// Sockets cannot be read, or the kernel side has no place for it.
    pub fn seed(mut self, kernel: &mut Kernel, owners: &mut Owners) -> anyhow::Result<Unseen> {
        // This takes longest, and comes first, so that little time is left for one to go after it was looked for again.
        let mut whose = |socket: &Socket| owners.of(socket.inode).whose().process;
        let whose: Vec<_> = self.sockets.iter().map(&mut whose).collect();
        let there = self.still_there()?;
        let mut listeners = Listeners::default();
        for ((socket, whose), there) in self.sockets.iter().zip(whose).zip(there) {
            if there {
                listeners.add(socket.netns, socket.lport, whose.as_deref());
            }
        }
        kernel.seed_listeners(listeners)?;
        Ok(owners.unseen())
    }

    /// Which of them listen still, one after the other.
    fn still_there(&mut self) -> anyhow::Result<Vec<bool>> {
        // The next socket of the same port has a number of its own.
        let key = |socket: &Socket| (socket.netns, socket.lport, socket.inode);
        let now: HashSet<_> = listening(&mut self.readers)?.iter().map(key).collect();
        Ok(self.sockets.iter().map(|socket| now.contains(&key(socket))).collect())
    }
}

/// The sockets that listen, by all `readers`.
fn listening(readers: &mut [Sockets]) -> anyhow::Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    for reader in readers {
        reader.walk(StateSet::NONE.with(TcpState::Listen), |socket| sockets.push(*socket))?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::input::netns_selector::NetnsSelector;
    use crate::sys::netns::resolve;

    #[test]
    fn our_own_namespace_needs_no_privilege() {
        let root = Path::new("/");
        let own = resolve(root, &NetnsSelector::Own).unwrap().remove(0);
        let mut readers = NamespaceReaders::open(root, &own).unwrap();
        readers.sockets.count(StateSet::ALL).unwrap();
        assert!(readers.counters.read().unwrap().get("Tcp", "ActiveOpens").is_some());
        assert!(readers.sockstat.read().unwrap().tw.is_some());
        if let Some(limit) = &mut readers.max_tw_buckets {
            assert!(limit.read().unwrap().is_some());
        }
    }

    #[test]
    fn a_listener_that_another_replaces_is_there_no_more() {
        let own = resolve(Path::new("/"), &NetnsSelector::Own).unwrap();
        let [stays, goes] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let mut early = PreexistingListeners::find(&own).unwrap();
        let mut is_there = |listener: &TcpListener| {
            let port = listener.local_addr().unwrap().port();
            let there = early.still_there().unwrap();
            let found = early.sockets.iter().zip(there).find(|(socket, _)| socket.lport == port);
            found.map(|(_, there)| there)
        };
        assert_eq!((is_there(&stays), is_there(&goes)), (Some(true), Some(true)));
        let address = goes.local_addr().unwrap();
        drop(goes);
        let next = TcpListener::bind(address).unwrap();
        assert_eq!((is_there(&stays), is_there(&next)), (Some(true), Some(false)));
    }
}
