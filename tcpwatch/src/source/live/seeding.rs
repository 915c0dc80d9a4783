//! Tells the kernel side who holds the sockets that listen already, once /proc was read for it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use anyhow::Result;

use crate::clock;
use crate::input::owner::Owner;
use crate::input::socket_owner::Unseen;
use crate::model::unseen;
use crate::source::ebpf::Kernel;
use crate::source::namespace_readers::PreexistingListeners;
use crate::source::owner_resolver::{ProcReader, ProcThread};
use crate::sys::netns::Namespace;

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
