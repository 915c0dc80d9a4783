//! One look at sockets in the states that should pass, and at who holds them.

mod listening;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

use anyhow::Result;
use hashbrown::{HashMap, HashSet};
use tcpwatch_common::{StateSet, TcpState};

use self::listening::Listening;
use super::owners::Owners;
use super::sockets::Sockets;
use crate::clock;
use crate::model::filter::Filter;
use crate::model::leaks::{AcceptQueue, Held, Look, SOCKETS_MAX, Seen};
use crate::model::owner::Owner;
use crate::model::socket::{Detail, Kind};
use crate::sys::netns::{Namespace, Which, names, resolve};
use crate::sys::procs::has_ended;

/// What to look at, and where.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The network namespaces.
    pub netns: Which,
    /// The sockets; `states` are some of those that should pass.
    pub filter: Filter,
    /// Whether it is an error that no process matches the filter: between later looks one may start.
    pub must_match: bool,
    /// Whether to tell which sockets are open, whatever their state.
    pub open: bool,
    /// Sockets that the kernel ended, by their inode numbers: whether somebody holds them is to be told.
    pub ended: Vec<NonZeroU32>,
    /// Processes that held stuck sockets: whether they have ended is to be told.
    pub pids: Vec<NonZeroU32>,
}

/// The sockets found so far.
struct Found {
    details: Vec<Detail>,
    left_out: u64,
    open: Option<HashSet<u32>>,
    listening: Listening,
}

impl Asked {
    /// Looks once, in /proc too if it is wanted `whose` the sockets are.
    ///
    /// # Errors
    /// One line: sockets or processes cannot be read.
    pub fn look(&self, whose: bool) -> Result<Look> {
        let root = Path::new("/");
        let started_ns = clock::monotonic_ns();
        let mut found = Found {
            details: Vec::new(),
            left_out: 0,
            open: self.open.then(HashSet::new),
            listening: Listening::default(),
        };
        let namespaces = resolve(root, &self.netns)?;
        for namespace in &namespaces {
            match self.walk(root, namespace, &mut found) {
                Ok(()) => {}
                // Of all, one may have gone between being found and being entered.
                Err(why) if self.netns == Which::All => {
                    log::debug!("network namespace {}: {why:#}", namespace.inode);
                }
                Err(why) => return Err(why),
            }
        }
        let mut look = Look {
            started_ns,
            ended_ns: clock::monotonic_ns(),
            namespaces: named(root, &namespaces),
            sockets: Vec::with_capacity(found.details.len()),
            listeners: found.listening.ports(),
            unseen: None,
            held: HashMap::new(),
            gone: HashSet::new(),
            open: found.open.take(),
            left_out: found.left_out,
        };
        // After the sockets were read: what has got an inode by then is not missed here.
        let mut owners = if whose || !self.filter.owner.is_any() {
            let mut owners = Owners::scan(root)?;
            if self.must_match {
                owners.ensure_match(&self.filter.owner)?;
            }
            Some(owners)
        } else {
            None
        };
        for detail in std::mem::take(&mut found.details) {
            let mut seen = Seen {
                detail,
                process: None,
                holders: Vec::new(),
                awaited: found.awaited(&detail, owners.as_mut()),
            };
            if let Some(owners) = &mut owners
                && !self.find_owner(&mut seen, &found.listening, owners)
            {
                continue;
            }
            look.sockets.push(seen);
        }
        look.unseen = owners.as_ref().map(Owners::unseen);
        if let Some(owners) = &mut owners {
            for &inode in &self.ended {
                let mut held = owners.of(Some(inode));
                let held = Held {
                    process: held.whose().process.map(|owner| *owner),
                    holders: held.holders(),
                };
                look.held.insert(inode, held);
            }
        }
        let gone = self.pids.iter().copied().filter(|&pid| has_ended(root, pid));
        look.gone.extend(gone);
        Ok(look)
    }

    /// Finds whose `seen` is: what nobody has accepted is of who listens for it. Whether it is one of those who are asked for.
    fn find_owner(&self, seen: &mut Seen, listening: &Listening, owners: &mut Owners) -> bool {
        let socket = &seen.detail.socket;
        let is_unaccepted = socket.state == TcpState::CloseWait && socket.inode.is_none();
        let inodes = match socket.inode {
            None if is_unaccepted => listening.made(socket).collect(),
            inode => Vec::from_iter(inode),
        };
        let asked = &self.filter.owner;
        let mut wanted = asked.is_any();
        let mut processes = Vec::with_capacity(inodes.len());
        for inode in inodes {
            let mut held = owners.of(Some(inode));
            wanted = wanted || held.match_filter(asked);
            processes.push(held.whose().process.map(|owner| *owner));
            if wanted && !is_unaccepted {
                seen.holders = held.holders();
            }
        }
        // Where several listen, one process may have made all of them.
        let first = processes.first().copied().flatten();
        let pid = |owner: &Option<Owner>| owner.and_then(|owner| owner.pid);
        seen.process = first.filter(|_| processes.iter().all(|other| pid(other) == pid(&first)));
        wanted
    }

    fn walk(&self, root: &Path, namespace: &Namespace, found: &mut Found) -> Result<()> {
        let listen = StateSet::NONE.with(TcpState::Listen);
        let mut sockets = namespace.run(|| Sockets::open(root, namespace.inode))?;
        let wanted = if self.open {
            StateSet::ALL
        } else {
            StateSet(self.filter.states.0 | listen.0)
        };
        sockets.walk_in_detail(wanted, |detail| {
            let socket = &detail.socket;
            if let (Some(open), Some(inode)) = (&mut found.open, socket.inode) {
                open.insert(inode.get());
            }
            if socket.state == TcpState::Listen {
                found.listening.add(detail);
            } else if self.filter.states.contains(socket.state) && is_full(detail) && self.filter.matches_ends(socket) {
                if found.details.len() < SOCKETS_MAX {
                    found.details.push(*detail);
                } else {
                    found.left_out += 1;
                }
            }
        })
    }
}

impl Found {
    /// The accept queue that `detail` waits for, if it is in `SYN_SENT` and connects to a listener that was found.
    fn awaited(&self, detail: &Detail, owners: Option<&mut Owners>) -> Option<AcceptQueue> {
        let connecting = Some(&detail.socket).filter(|socket| socket.state == TcpState::SynSent);
        let listener = self.listening.awaited(connecting?)?;
        let whose = owners.and_then(|owners| owners.of(listener.inode).whose().process);
        Some(AcceptQueue {
            owner: whose.map(|owner| *owner),
            ..listener.queue?
        })
    }
}

/// `namespaces`, with their names where there are several to be told apart.
fn named(root: &Path, namespaces: &[Namespace]) -> BTreeMap<u32, Option<String>> {
    let names = if namespaces.len() > 1 {
        names(root)
    } else {
        HashMap::new()
    };
    let inodes = namespaces.iter().map(|namespace| namespace.inode);
    inodes.map(|inode| (inode, names.get(&inode).cloned())).collect()
}

/// Not what remains after closing, in `FIN_WAIT2` too. /proc does not tell the two apart, but that this has no inode.
fn is_full(detail: &Detail) -> bool {
    let socket = &detail.socket;
    match socket.kind {
        Some(kind) => kind == Kind::Full,
        None => socket.state != TcpState::FinWait2 || socket.inode.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::read_link;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::{process, thread};

    use super::*;
    use crate::model::leaks::states;

    #[test]
    fn ours_is_found_with_its_descriptor_and_what_waits_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let unaccepted = TcpStream::connect(address).unwrap();
        unaccepted.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let asked = Asked {
            netns: Which::Own,
            filter: Filter {
                lport: address.port().to_string().parse().unwrap(),
                states: states(),
                ..Filter::default()
            },
            must_match: false,
            open: true,
            ended: Vec::new(),
            pids: Vec::new(),
        };
        let look = loop {
            let look = asked.look(true).unwrap();
            if look.sockets.len() == 2 {
                break look;
            }
            thread::yield_now();
        };
        let fd = server.as_raw_fd();
        let link = read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let [held, waits] = [true, false].map(|held| {
            let mut sockets = look.sockets.iter();
            sockets.find(|seen| seen.detail.socket.inode.is_some() == held).unwrap()
        });
        let inode = held.detail.socket.inode.unwrap();
        assert_eq!(link.to_str(), Some(format!("socket:[{inode}]").as_str()));
        assert_eq!(held.holders.len(), 1);
        assert_eq!(held.holders[0].fds, [u32::try_from(fd).unwrap()]);
        assert_eq!(waits.holders, []);
        for seen in [held, waits] {
            assert_eq!(seen.process.and_then(|owner| owner.pid), NonZeroU32::new(process::id()));
            assert_eq!(
                (seen.detail.receive_queue, seen.detail.send_queue),
                (Some(1), Some(0)),
                "a FIN that nobody has read"
            );
            assert!(seen.detail.cookie.is_some() && seen.detail.last_ack_ms.is_some());
        }
        assert_eq!(held.detail.socket.state, TcpState::CloseWait);
        let open = look.open.as_ref().unwrap();
        for fd in [listener.as_raw_fd(), client.as_raw_fd(), fd] {
            let link = read_link(format!("/proc/self/fd/{fd}")).unwrap();
            let number = link
                .to_str()
                .and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            assert!(
                open.contains(&number.unwrap().parse::<u32>().unwrap()),
                "{link:?}, in whatever state"
            );
        }
        assert!(look.listeners.iter().any(|&(_, port)| port == address.port()));
        assert!(
            asked
                .look(false)
                .unwrap()
                .sockets
                .iter()
                .all(|seen| seen.process.is_none())
        );
    }
}
