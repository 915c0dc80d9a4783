//! Scans the sockets in transient states, and their holders.

mod listening;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use hashbrown::{HashMap, HashSet};
use log::Level;
use tcpwatch_common::{StateSet, TcpState};

use self::listening::Listening;
use super::namespace_names::name_all;
use super::namespaces::read_each_of;
use super::owner_resolver::ProcThread;
use super::owners::Owners;
use super::sockets::Sockets;
use crate::clock;
use crate::input::namespace::NamespaceNames;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::Owner;
use crate::input::socket::{Address, Detail, Kind, Socket};
use crate::input::socket_scan::{AcceptQueue, ScannedSocket, SocketHolders, SocketScan};
use crate::model::filter::Filter;
use crate::model::leaks::SOCKETS_MAX;
use crate::sys::descriptor_limit;
use crate::sys::netns::{Gone, Namespace, resolve};
use crate::sys::procs::has_ended;

/// The sockets to scan.
#[derive(Clone, Debug)]
pub struct ScanRequest {
    /// Selects network namespaces.
    pub netns: NetnsSelector,
    /// Selects sockets; its `states` are transient states.
    pub filter: Filter,
    /// Minimum time in the state for a stuck socket, ns.
    pub older_ns: u64,
    /// Whether to list all open sockets, in any state.
    pub open: bool,
}

/// The results of earlier scans. The next scan uses them to find sockets that may be stuck, and processes whose descriptors to
/// check.
#[derive(Clone, Debug, Default)]
pub struct ScansBefore {
    /// Start of the last scan, `CLOCK_MONOTONIC` in ns; `None` before the first.
    started_ns: Option<u64>,
    /// Number of scans so far.
    scans: u64,
    /// The scanned namespaces, kept open; `None` with `--netns all`, where each scan finds them again.
    namespaces: Option<Arc<Vec<Namespace>>>,
    /// The sockets of the last scan, [`SOCKETS_MAX`] at most.
    sockets: HashMap<SocketKey, Found>,
    /// Inode numbers of sockets that the kernel ended and that a process may still hold. At most [`Self::MOST`]; further ones are left
    /// out, and the model counts them. A number goes with the scan of /proc that finds no holder.
    ended: HashSet<NonZeroU32>,
    /// Processes that held sockets at the last scan of /proc, and have not exited.
    pids: HashSet<NonZeroU32>,
}

/// Identifies a socket across scans.
type SocketKey = (u32, Address, u16, Address, u16, TcpState);

/// A socket of a scan.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// The earliest time at which it may have entered its state, `CLOCK_MONOTONIC` in ns.
    since_ns: u64,
    inode: Option<NonZeroU32>,
}

impl Found {
    fn is_old(&self, now_ns: u64, older_ns: u64) -> bool {
        now_ns.saturating_sub(self.since_ns) >= older_ns
    }
}

fn key(socket: &Socket) -> SocketKey {
    (
        socket.netns,
        socket.local,
        socket.lport,
        socket.remote,
        socket.rport,
        socket.state,
    )
}

impl ScansBefore {
    /// The maximum number of stored sockets that the kernel ended.
    pub const MOST: usize = 65_536;

    /// Records that the kernel ended the socket `inode`. The next scan checks whether a process still holds it.
    pub fn ended(&mut self, inode: NonZeroU32) {
        if self.ended.len() < Self::MOST {
            self.ended.insert(inode);
        }
    }

    /// Whether the kernel ended the socket `inode` and a process may still hold it.
    #[must_use]
    pub fn has_ended(&self, inode: NonZeroU32) -> bool {
        self.ended.contains(&inode)
    }

    /// Inode numbers of the sockets that may have been in their state for `older_ns` at `now_ns`.
    pub fn may_be_stuck(&self, now_ns: u64, older_ns: u64) -> impl Iterator<Item = NonZeroU32> {
        let found = self
            .sockets
            .values()
            .filter(move |found| found.is_old(now_ns, older_ns));
        found.filter_map(|found| found.inode)
    }

    /// The state after a scan that started at `started_ns` and found `details`.
    fn next(&self, started_ns: u64, older_ns: u64, details: &[Detail]) -> Self {
        let entered_since = self.started_ns.unwrap_or(0);
        let sockets: HashMap<SocketKey, Found> = details
            .iter()
            .map(|detail| {
                let key = key(&detail.socket);
                let before = self.sockets.get(&key);
                let since_ns = before.map_or(entered_since, |before| before.since_ns);
                let inode = detail.socket.inode;
                (key, Found { since_ns, inode })
            })
            .collect();
        // A stuck socket that is missing was closed, or the kernel ended it.
        let left = self.sockets.iter().filter(|(key, found)| {
            let may_end_unclosed = matches!(key.5, TcpState::CloseWait | TcpState::FinWait2);
            may_end_unclosed && found.is_old(started_ns, older_ns) && !sockets.contains_key(*key)
        });
        let mut ended = self.ended.clone();
        let room = Self::MOST.saturating_sub(ended.len());
        ended.extend(left.filter_map(|(_, found)| found.inode).take(room));
        Self {
            started_ns: Some(started_ns),
            scans: self.scans + 1,
            namespaces: None,
            sockets,
            ended,
            pids: self.pids.clone(),
        }
    }

    /// Whether owners are needed at `now_ns`: a socket may have been in its state for `older_ns`, or may be held although it
    /// ended. The first scan finds the owners for the second, which follows at once.
    fn needs_owners(&self, now_ns: u64, older_ns: u64) -> bool {
        let mut found = self.sockets.values();
        self.scans == 1
            || self.scans != 2 && (!self.ended.is_empty() || found.any(|found| found.is_old(now_ns, older_ns)))
    }
}

/// The results of the walks of all namespaces.
struct Walked {
    details: Vec<Detail>,
    left_out: u64,
    open: Option<HashSet<u32>>,
    listening: Listening,
}

/// A scan of the sockets, whose owners are not known yet.
struct Unowned {
    walked: Walked,
    scan: SocketScan,
    after: ScansBefore,
}

impl ScanRequest {
    /// Scans the sockets, and also /proc if some may be stuck. Returns the result, and the state for the next scan. If /proc hangs,
    /// it hangs the thread `proc`, and the owners are unknown; without `proc`, the scan waits.
    ///
    /// # Errors
    /// One line: the sockets or processes cannot be read.
    pub fn scan(&self, before: &ScansBefore, proc: Option<&ProcThread>) -> Result<(SocketScan, ScansBefore)> {
        let root = Path::new("/");
        // A path may lead to another namespace by now, or to none.
        let namespaces = match (&before.namespaces, proc) {
            (Some(held), _) => Arc::clone(held),
            (None, None) => Arc::new(resolve(root, &self.netns)?),
            (None, Some(proc)) => {
                let netns = self.netns.clone();
                let found = proc.run(move |_| resolve(Path::new("/"), &netns));
                let found = found.map_err(|why| anyhow!("{why}")).context("cannot read /proc")?;
                Arc::new(found?)
            }
        };
        let found = self.walk_all(before, namespaces)?;
        let is_any = self.filter.owner.is_any();
        let asks = found.after.needs_owners(found.scan.ended_ns, self.older_ns) || !is_any;
        if !asks && found.after.pids.is_empty() {
            return Ok(found.without_owners());
        }
        let Some(proc) = proc else {
            return self.find_owners(root, &found, asks);
        };
        let found = Arc::new(found);
        let (request, of) = (self.clone(), Arc::clone(&found));
        match proc.run(move |_| request.find_owners(Path::new("/"), &of, asks)) {
            Ok(owned) => owned,
            Err(why) if !is_any => bail!("cannot read /proc: {why}; leave out the options that select owners"),
            Err(_) => Ok(found.without_owners()),
        }
    }

    /// Walks `namespaces`.
    fn walk_all(&self, before: &ScansBefore, namespaces: Arc<Vec<Namespace>>) -> Result<Unowned> {
        let started_ns = clock::monotonic_ns();
        let mut walked = Walked {
            details: Vec::new(),
            left_out: 0,
            open: self.open.then(HashSet::new),
            listening: Listening::default(),
        };
        for (walk, namespace) in read_each_of(namespaces.iter(), |reader| self.walk(reader.sockets()?, &mut walked))?
            .into_iter()
            .zip(namespaces.iter())
        {
            match walk {
                Ok(()) => {}
                // With `--netns all`, a namespace may disappear between finding and entering it.
                Err(why) if self.netns == NetnsSelector::All && !descriptor_limit::is_reached(&why) => {
                    // Not again by each scan.
                    let is_news = before.scans == 0 && !why.is::<Gone>();
                    let level = if is_news { Level::Warn } else { Level::Debug };
                    log::log!(level, "network namespace {} is left out: {why:#}", namespace.inode);
                }
                Err(why) => return Err(why),
            }
        }
        let scan = SocketScan {
            started_ns,
            ended_ns: clock::monotonic_ns(),
            namespaces: named(&namespaces),
            sockets: Vec::new(),
            listeners: walked.listening.ports(),
            unseen: None,
            held: HashMap::new(),
            exited: HashSet::new(),
            open: walked.open.take(),
            opened_at: None,
            stacks: HashMap::new(),
            left_out: walked.left_out,
        };
        let mut after = before.next(started_ns, self.older_ns, &walked.details);
        after.namespaces = (self.netns != NetnsSelector::All).then_some(namespaces);
        Ok(Unowned { walked, scan, after })
    }

    /// Adds the holders of the sockets that were `found`, if `asks`, and the processes that held some and have ended.
    fn find_owners(&self, root: &Path, found: &Unowned, asks: bool) -> Result<(SocketScan, ScansBefore)> {
        let walked = &found.walked;
        let (mut scan, mut after) = (found.scan.clone(), found.after.clone());
        // Read /proc after the sockets, so that every inode of a read socket is found.
        if asks {
            let mut owners = Owners::scan(root)?;
            for &detail in &walked.details {
                let mut found = walked.scanned(detail, Some(&mut owners));
                if self.find_owner(&mut found, &walked.listening, &mut owners) {
                    scan.sockets.push(found);
                }
            }
            scan.unseen = Some(owners.unseen());
            scan.held = after
                .ended
                .iter()
                .map(|&inode| (inode, held(&mut owners, inode)))
                .collect();
            after.ended.retain(|inode| !scan.held[inode].holders.is_empty());
        } else {
            scan.sockets = walked.without_owners();
        }
        scan.exited = after.pids.iter().copied().filter(|&pid| has_ended(root, pid)).collect();
        after.pids.retain(|pid| !asks && !scan.exited.contains(pid));
        after.pids.extend(holders(&scan));
        Ok((scan, after))
    }

    /// Finds the owner of `found`. A connection that is not accepted yet belongs to the listening process. Returns whether the
    /// owner matches the filter.
    fn find_owner(&self, found: &mut ScannedSocket, listening: &Listening, owners: &mut Owners) -> bool {
        let socket = &found.detail.socket;
        let is_unaccepted =
            matches!(socket.state, TcpState::CloseWait | TcpState::Established) && socket.inode.is_none();
        let inodes = match socket.inode {
            None if is_unaccepted => listening.possible_listeners(socket).collect(),
            inode => Vec::from_iter(inode),
        };
        let asked = &self.filter.owner;
        let mut wanted = asked.is_any();
        let mut processes = Vec::with_capacity(inodes.len());
        for inode in inodes {
            let mut held = owners.find_holders(Some(inode));
            wanted = wanted || held.match_filter(asked);
            processes.push(held.process());
            if wanted && !is_unaccepted {
                found.holders = held.holders();
            }
        }
        // With several listeners, one process may have opened all of them.
        let first = processes.first().copied().flatten();
        let pid = |owner: &Option<Owner>| owner.and_then(|owner| owner.pid);
        found.process = first.filter(|_| processes.iter().all(|other| pid(other) == pid(&first)));
        wanted
    }

    fn walk(&self, sockets: &mut Sockets, walked: &mut Walked) -> Result<()> {
        let wanted = if self.open {
            StateSet::ALL
        } else {
            self.filter.states.with(TcpState::Listen)
        };
        sockets.walk_in_detail(wanted, |detail| {
            let socket = &detail.socket;
            if let (Some(open), Some(inode)) = (&mut walked.open, socket.inode) {
                open.insert(inode.get());
            }
            if socket.state == TcpState::Listen {
                walked.listening.add(detail);
            } else if self.filter.states.contains(socket.state) && is_full(detail) && self.filter.matches_socket(socket)
            {
                if walked.details.len() < SOCKETS_MAX {
                    walked.details.push(*detail);
                } else {
                    walked.left_out += 1;
                }
            }
        })
    }
}

impl Unowned {
    /// The scan without owners.
    fn without_owners(&self) -> (SocketScan, ScansBefore) {
        let mut scan = self.scan.clone();
        scan.sockets = self.walked.without_owners();
        (scan, self.after.clone())
    }
}

impl Walked {
    /// The sockets without their owners.
    fn without_owners(&self) -> Vec<ScannedSocket> {
        self.details.iter().map(|&detail| self.scanned(detail, None)).collect()
    }

    /// The socket of `detail`, without its owner.
    fn scanned(&self, detail: Detail, owners: Option<&mut Owners>) -> ScannedSocket {
        ScannedSocket {
            detail,
            process: None,
            holders: Vec::new(),
            awaited: self.awaited(&detail, owners),
        }
    }

    /// The accept queue that `detail` waits for, if it is in `SYN_SENT` and its listener was found.
    fn awaited(&self, detail: &Detail, owners: Option<&mut Owners>) -> Option<AcceptQueue> {
        let connecting = Some(&detail.socket).filter(|socket| socket.state == TcpState::SynSent);
        let listener = self.listening.awaited(connecting?)?;
        Some(AcceptQueue {
            queued: listener.queued,
            limit: listener.limit?,
            owner: owners.and_then(|owners| owners.find_holders(listener.inode).process()),
        })
    }
}

/// The holders of the socket `inode`.
fn held(owners: &mut Owners, inode: NonZeroU32) -> SocketHolders {
    let mut held = owners.find_holders(Some(inode));
    SocketHolders {
        process: held.process(),
        holders: held.holders(),
    }
}

/// The processes that hold a socket of `scan`.
fn holders(scan: &SocketScan) -> impl Iterator<Item = NonZeroU32> {
    let named = scan.sockets.iter().map(|seen| seen.process);
    let named = named.chain(scan.held.values().map(|held| held.process));
    let holders = scan.sockets.iter().map(|seen| &seen.holders);
    let holders = holders.chain(scan.held.values().map(|held| &held.holders));
    let named = named.flatten().filter_map(|owner| owner.pid);
    named.chain(holders.flatten().filter_map(|holder| holder.process.pid))
}

/// The names of `namespaces`, if there are several.
fn named(namespaces: &[Namespace]) -> BTreeMap<u32, Option<String>> {
    let names = if namespaces.len() > 1 {
        name_all(Path::new("/"), namespaces)
    } else {
        NamespaceNames::default()
    };
    let inodes = namespaces.iter().map(|namespace| namespace.inode);
    inodes.map(|inode| (inode, names.0.get(&inode).cloned())).collect()
}

/// Whether this is a full socket, not a timewait socket, which can also be in `FIN_WAIT2`. In /proc the only difference is that
/// a timewait socket has no inode.
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
    use crate::source::owner_resolver::ProcReader;
    use crate::source::worker::Refused;

    #[test]
    fn ours_is_found_with_its_descriptor_and_what_waits_in_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        let unaccepted = TcpStream::connect(address).unwrap();
        unaccepted.shutdown(Shutdown::Write).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let request = ScanRequest {
            netns: NetnsSelector::Own,
            filter: Filter {
                lport: address.port().to_string().parse().unwrap(),
                states: states(),
                ..Filter::default()
            },
            older_ns: 0,
            open: true,
        };
        let first = ScansBefore::default();
        let scan = loop {
            let (scan, _) = request.scan(&first, None).unwrap();
            if scan.sockets.len() == 2 {
                break scan;
            }
            thread::yield_now();
        };
        let fd = server.as_raw_fd();
        let link = read_link(format!("/proc/self/fd/{fd}")).unwrap();
        let [held, waits] = [true, false].map(|held| {
            let mut sockets = scan.sockets.iter();
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
        let open = scan.open.as_ref().unwrap();
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
        assert!(scan.listeners.iter().any(|&(_, port)| port == address.port()));
    }

    /// Asks for the sockets of `listener` in any of the transient states.
    fn request(listener: &TcpListener) -> ScanRequest {
        ScanRequest {
            netns: NetnsSelector::Own,
            filter: Filter {
                lport: listener.local_addr().unwrap().port().to_string().parse().unwrap(),
                states: states(),
                ..Filter::default()
            },
            older_ns: 0,
            open: false,
        }
    }

    #[test]
    fn a_process_that_holds_no_socket_any_more_is_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let this = NonZeroU32::new(process::id()).unwrap();
        let mut request = request(&listener);
        request.filter.owner.pids.push(this);
        let mut before = ScansBefore::default();
        while !before.pids.contains(&this) {
            (_, before) = request.scan(&before, None).unwrap();
        }
        drop(server);
        loop {
            let (found, after) = request.scan(&before, None).unwrap();
            before = after;
            if found.sockets.is_empty() {
                break;
            }
        }
        assert_eq!(before.pids, HashSet::new());
    }

    /// The sockets are found all the same, and no second thread gets stuck.
    #[test]
    fn where_proc_hangs_owners_are_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut request = request(&listener);
        let patience = std::time::Duration::from_millis(300);
        let proc = ProcThread::with_patience("proc", ["reading /proc", "owners"], patience, || {
            ProcReader::new(Path::new("/"), None)
        });
        let (look, before) = loop {
            let scanned = request.scan(&ScansBefore::default(), Some(&proc)).unwrap();
            if scanned.0.sockets.len() == 1 {
                break scanned;
            }
            thread::yield_now();
        };
        let owner = |look: &SocketScan| look.sockets[0].process.and_then(|owner| owner.pid);
        assert_eq!(owner(&look), NonZeroU32::new(process::id()));
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let hung = proc.run(move |_| hangs.recv().is_ok());
        assert_eq!(hung, Err(Refused::Stuck));
        while !proc.is_stuck() {
            thread::yield_now();
        }
        let before = ScansBefore { scans: 3, ..before };
        let (look, _) = request.scan(&before, Some(&proc)).unwrap();
        assert_eq!((look.sockets.len(), owner(&look), look.unseen), (1, None, None));
        request.filter.owner.pids.push(NonZeroU32::MIN);
        let refused = request.scan(&before, Some(&proc)).unwrap_err().to_string();
        assert!(
            refused.contains("leave out the options that select owners"),
            "{refused}"
        );
        drop((release, server));
    }

    #[test]
    fn a_scan_knows_what_may_be_stuck_and_what_was_ended() {
        let socket = |lport: u16| {
            let address = Address::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
            let mut detail = crate::model::leaks::tests::socket(TcpState::CloseWait, 9).detail;
            detail.socket.inode = NonZeroU32::new(lport.into());
            (detail.socket.lport, detail.socket.local) = (lport, address);
            detail
        };
        let inode = |number| NonZeroU32::new(number).unwrap();
        let first = ScansBefore::default().next(100, 100, &[socket(1), socket(2)]);
        assert!(first.needs_owners(100, 1_000), "the first always does");
        assert!(first.may_be_stuck(100, 100).eq([1, 2].map(inode)) || first.may_be_stuck(100, 100).count() == 2);
        let second = first.next(200, 100, &[socket(2), socket(3)]);
        assert!(
            second.has_ended(inode(1)) && !second.has_ended(inode(2)),
            "it may be held still"
        );
        assert!(!second.needs_owners(200, 100), "the first has just found them");
        let mut third = second.next(300, 100, &[socket(3)]);
        assert!(third.has_ended(inode(1)) && third.has_ended(inode(2)) && third.needs_owners(300, 1_000));
        third.ended.clear();
        // It came after the first scan had begun.
        assert!(third.needs_owners(300, 200) && !third.needs_owners(300, 201));
        let fourth = third.next(310, 1_000, &[]);
        assert!(!fourth.has_ended(inode(3)), "it was not there for long");
        third.ended(inode(9));
        assert!(third.needs_owners(300, 201), "somebody may hold it");
    }
}
