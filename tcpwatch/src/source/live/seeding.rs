//! Tells the kernel side who holds the sockets that listen already, once /proc was read for it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::Result;
use hashbrown::HashSet;
use tcpwatch_common::{StateSet, TcpState};

use crate::clock;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::Owner;
use crate::input::socket::Socket;
use crate::input::socket_owner::Unseen;
use crate::model::unseen;
use crate::source::ebpf::{Kernel, Listeners};
use crate::source::namespaces::read_each_of;
use crate::source::owner_resolver::{ProcReader, ProcThread};
use crate::sys::netns::{Namespace, unless_left_out};

/// Where /proc could not be read it is tried again so much later, ns.
const AGAIN_NS: u64 = 1_000_000_000;

/// The owners of the sockets that listen, one after the other, and what could not be seen of them.
type Found = Result<(Vec<Option<Owner>>, Unseen)>;

/// The sockets that listened before tcpwatch did, until their owners are known.
pub(super) struct Seeding {
    proc: Arc<ProcThread>,
    /// `None` where they could not be read.
    listeners: Option<PreexistingListeners>,
    /// What /proc is read for.
    found: Option<Receiver<Found>>,
    again_ns: u64,
}

impl Seeding {
    /// Finds the sockets in `namespaces` that listen, and has /proc read: also where nobody listens, for who holds what is open is known
    /// then, and may not be when it is closed.
    pub(super) fn start(namespaces: &[Namespace], proc: Arc<ProcThread>) -> Self {
        let listeners = PreexistingListeners::find(namespaces);
        let listeners = listeners.inspect_err(warn).ok();
        let mut seeding = Self {
            proc,
            listeners,
            found: None,
            again_ns: 0,
        };
        seeding.ask();
        seeding
    }

    fn ask(&mut self) {
        let now_ns = clock::monotonic_ns();
        if now_ns < self.again_ns {
            return;
        }
        self.again_ns = now_ns + AGAIN_NS;
        let inodes = self
            .listeners
            .as_ref()
            .map_or_else(Vec::new, PreexistingListeners::inodes);
        let (done, found) = channel();
        let work = move |reader: &mut ProcReader| {
            let owners = reader.scan().map(|owners| {
                let whose = inodes.into_iter().map(|inode| owners.find_holders(inode).process());
                (whose.collect(), owners.unseen())
            });
            let _ = done.send(owners);
        };
        self.found = self.proc.post(work).is_ok().then_some(found);
    }

    /// Whether /proc is being read for it.
    pub(super) const fn is_reading(&self) -> bool {
        self.found.is_some()
    }

    /// Tells the kernel side of the owners, if they are known by now; whether there is nothing more to do.
    pub(super) fn advance(&mut self, kernel: &mut Kernel) -> bool {
        let found = self.found.as_ref().map(Receiver::try_recv);
        match found {
            Some(Err(TryRecvError::Empty)) => return false,
            Some(Ok(Ok((whose, unseen)))) => {
                if let Some(listeners) = self.listeners.take() {
                    match listeners.seed(kernel, &whose) {
                        Ok(()) => unseen::unseen_warning(&unseen)
                            .into_iter()
                            .for_each(|words| log::warn!("{words}")),
                        Err(why) => warn(&why),
                    }
                }
                return true;
            }
            // It failed, and said so; or there was no thread.
            Some(Ok(Err(_)) | Err(TryRecvError::Disconnected)) | None => {}
        }
        self.found = None;
        self.ask();
        false
    }
}

fn warn(why: &anyhow::Error) {
    log::warn!("the owners of the sockets that listen already are unknown: {why:#}");
}

/// The listeners that existed before tcpwatch started.
struct PreexistingListeners {
    namespaces: Vec<Namespace>,
    sockets: Vec<Socket>,
}

impl PreexistingListeners {
    /// Finds the listeners in `namespaces`.
    ///
    /// # Errors
    /// Sockets cannot be read.
    fn find(namespaces: &[Namespace]) -> Result<Self> {
        Ok(Self {
            sockets: listening(namespaces)?,
            namespaces: namespaces.to_vec(),
        })
    }

    /// The inode numbers of the listeners, in order.
    fn inodes(&self) -> Vec<Option<NonZeroU32>> {
        self.sockets.iter().map(|socket| socket.inode).collect()
    }

    /// Gives the kernel side the owners of the listeners, in the same order. A listener that has closed meanwhile is left out: the
    /// kernel side has seen the listener that replaced it.
    ///
    /// # Errors
    /// The sockets cannot be read, or the map of the kernel side is full.
    fn seed(self, kernel: &mut Kernel, owners: &[Option<Owner>]) -> Result<()> {
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
    fn still_there(&self) -> Result<Vec<bool>> {
        // A new socket on the same port has another inode number.
        let key = |socket: &Socket| (socket.netns, socket.lport, socket.inode);
        let now: HashSet<_> = listening(&self.namespaces)?.iter().map(key).collect();
        Ok(self.sockets.iter().map(|socket| now.contains(&key(socket))).collect())
    }
}

/// The listeners in `namespaces`. One that is gone has none.
fn listening(namespaces: &[Namespace]) -> Result<Vec<Socket>> {
    let mut sockets = Vec::new();
    let readings = read_each_of(namespaces, |reader| {
        reader
            .sockets()?
            .walk(StateSet::NONE.with(TcpState::Listen), |socket| sockets.push(*socket))
    })?;
    for reading in readings {
        unless_left_out(reading, &NetnsSelector::All)?;
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::path::Path;

    use super::*;
    use crate::input::netns_selector::NetnsSelector;
    use crate::sys::netns::resolve;

    #[test]
    fn a_replaced_listener_no_longer_exists() {
        let own = resolve(Path::new("/"), &NetnsSelector::Own).unwrap();
        let [stays, goes] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let early = PreexistingListeners::find(&own).unwrap();
        let is_there = |listener: &TcpListener| {
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
