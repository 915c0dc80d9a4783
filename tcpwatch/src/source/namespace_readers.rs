//! The readers of one network namespace. They are opened inside the namespace once, and then read from outside.

use std::num::NonZeroU32;
use std::path::Path;

use anyhow::Context;
use hashbrown::HashSet;
use tcpwatch_common::{StateSet, TcpState};

use super::ebpf::{Kernel, Listeners};
use super::ports::PortSettings;
use super::sockets::Sockets;
use crate::input::namespace::Scope;
use crate::input::owner::Owner;
use crate::input::socket::Socket;
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
    /// Where the namespace belongs.
    pub scope: Scope,
    /// Whether it is the initial network namespace.
    pub first: bool,
    /// The sockets.
    pub sockets: Sockets,
    /// The counters of `Tcp` and `TcpExt`.
    pub counters: Counters,
    /// The numbers of sockets (/proc/net/sockstat).
    pub sockstat: Sockstat,
    /// The settings of ephemeral ports.
    pub ports: PortSettings,
    /// `tcp_max_tw_buckets`; `None` if the kernel shows it only in the initial namespace.
    pub max_tw_buckets: Option<Sysctl>,
    /// `tcp_max_orphans` of the host; `None` if the kernel shows it only in the initial namespace.
    pub max_orphans: Option<Sysctl>,
    /// `tcp_syncookies`; `None` if the kernel was built without SYN cookies.
    pub syncookies: Option<Sysctl>,
    /// `tcp_max_syn_backlog`.
    pub max_syn_backlog: Option<Sysctl>,
}

impl NamespaceReaders {
    /// Opens all readers inside `namespace`; `root` is `/`.
    ///
    /// # Errors
    /// One line: the reader that cannot be opened, and the kernel's error.
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
            .context("cannot open the readers of TCP")
    }
}

/// The listeners that existed before tcpwatch started.
pub struct PreexistingListeners {
    /// One reader for each namespace.
    readers: Vec<Sockets>,
    sockets: Vec<Socket>,
}

impl PreexistingListeners {
    /// Finds the listeners in `namespaces`.
    ///
    /// # Errors
    /// Sockets cannot be read.
    pub fn find(namespaces: &[Namespace]) -> anyhow::Result<Self> {
        let open = |namespace: &Namespace| namespace.run(|| Sockets::open(Path::new("/"), namespace.inode));
        let mut readers: Vec<_> = namespaces.iter().map(open).collect::<anyhow::Result<_>>()?;
        let sockets = listening(&mut readers)?;
        Ok(Self { readers, sockets })
    }

    /// The inode numbers of the listeners, in order.
    #[must_use]
    pub fn inodes(&self) -> Vec<Option<NonZeroU32>> {
        self.sockets.iter().map(|socket| socket.inode).collect()
    }

    /// Gives the kernel side the owners of the listeners, in the same order. A listener that has closed meanwhile is left out: the
    /// kernel side has seen the listener that replaced it.
    ///
    /// # Errors
    /// The sockets cannot be read, or the map of the kernel side is full.
    pub fn seed(mut self, kernel: &mut Kernel, owners: &[Option<Owner>]) -> anyhow::Result<()> {
        let there = self.still_there()?;
        let mut listeners = Listeners::default();
        for ((socket, owner), there) in self.sockets.iter().zip(owners).zip(there) {
            if there {
                listeners.add(socket.netns, socket.lport, owner.as_ref());
            }
        }
        kernel.seed_listeners(listeners)
    }

    /// For each listener, whether it still exists.
    fn still_there(&mut self) -> anyhow::Result<Vec<bool>> {
        // A new socket on the same port has another inode number.
        let key = |socket: &Socket| (socket.netns, socket.lport, socket.inode);
        let now: HashSet<_> = listening(&mut self.readers)?.iter().map(key).collect();
        Ok(self.sockets.iter().map(|socket| now.contains(&key(socket))).collect())
    }
}

/// The listeners found by all `readers`.
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
    fn a_replaced_listener_no_longer_exists() {
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
