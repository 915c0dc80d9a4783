//! Sockets that stay in states which should pass: their ages, their owners, and whether any of their group is ever closed.
//!
//! A scan finds the sockets that are there; transitions show when later ones entered a state, and which left it. An age is exact where
//! the entry was seen. A socket that was there before has a lower bound: the time since it was first seen, or what the kernel's timers
//! show (`age.rs`).
//! A socket in which data still moves the way that is open, or is read, is in use: its time begins anew.
//!
//! A socket that the kernel ended is not closed by its application: its descriptor is open until a scan of /proc does not find it.

mod age;
mod ended;
mod frame;
mod group;
mod history;
mod opened_by;
mod server_side;
#[cfg(test)]
pub(crate) mod tests;
mod tracked;
mod verdict;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::{HashMap, HashSet};
use tcpwatch_common::{StateSet, TcpState};

use self::ended::Ended;
pub use self::frame::LeaksFrame;
pub use self::group::{Age, FDS_MAX, Group, Key, Shared, Side};
pub use self::history::Closings;
use self::history::History;
pub use self::opened_by::{OpenedBy, caller, culprit, is_interpreter, is_library, opened_by};
use self::server_side::ServerSide;
use self::tracked::{Tracked, moved_ns};
use self::verdict::longest_window_ns;
pub use self::verdict::{Growth, Verdict, window_ns};
use super::ending;
use crate::input::owner::Owner;
use crate::input::socket::{Address, Detail};
use crate::input::socket_owner::Unseen;
use crate::input::socket_scan::{ScannedSocket, SocketHolders, SocketScan};
use crate::input::{Opened, Transition};

/// The states that should pass.
pub const STATES: [TcpState; 4] = [
    TcpState::CloseWait,
    TcpState::FinWait2,
    TcpState::SynSent,
    TcpState::LastAck,
];

/// Sockets that a scan keeps at most.
pub const SOCKETS_MAX: usize = 262_144;
/// Entries into a state remembered at most: as many as sockets.
const ENTRIES_MAX: usize = SOCKETS_MAX;
/// Identities of sockets that left a state during one scan, at most: two for each socket.
const CLOSED_MAX: usize = 2 * SOCKETS_MAX;
/// Groups whose past is kept from one scan to the next, beside those that have sockets, and groups in all.
const GROUPS_MAX: [usize; 2] = [4096, 65_536];
const MILLISECOND: u64 = 1_000_000;

/// [`STATES`] as a set.
#[must_use]
pub fn states() -> StateSet {
    STATES.into_iter().fold(StateSet::NONE, StateSet::with)
}

/// The states that can be asked for: [`STATES`], and `ESTABLISHED`, in which a socket is stuck where no data moves.
#[must_use]
pub fn possible_states() -> StateSet {
    states().with(TcpState::Established)
}

/// A connection's two endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Endpoints {
    netns: u32,
    local: Address,
    lport: u16,
    remote: Address,
    rport: u16,
}

/// Identifies a socket: its cookie, or its endpoints where the source has no cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum SocketId {
    Cookie(NonZeroU64),
    Endpoints(Endpoints),
}

/// An entry into a state that was seen.
#[derive(Clone, Copy, Debug)]
struct StateEntry {
    state: TcpState,
    at_ns: u64,
    owner: Option<Owner>,
    opened: Option<Opened>,
}

/// What is known of the sockets in the states.
#[derive(Debug)]
pub struct Leaks {
    states: StateSet,
    older_ns: u64,
    /// When the watch began: the end of its first scan.
    began_ns: Option<u64>,
    /// Whether namespaces can be distinguished.
    by_netns: bool,
    /// The sockets of the last scan, [`SOCKETS_MAX`] at most; the scan counts the rest.
    sockets: HashMap<Endpoints, Tracked>,
    /// Sockets that the last scan did not find any more, with the time of the scan before, ns: their transition may be read later. They
    /// go with the next scan.
    missing: BTreeMap<Endpoints, (Tracked, u64)>,
    /// At most [`ENTRIES_MAX`]; one more is left out, and counted. An entry goes when its socket leaves the state, or when a scan does
    /// not find the socket.
    entries: HashMap<SocketId, StateEntry>,
    /// Sockets that left a state since the scan under way began, with that state; `None` between scans. At most [`CLOSED_MAX`]; further
    /// ones are left out, and counted.
    closed_during_scan: Option<HashSet<(SocketId, TcpState)>>,
    ended: Ended,
    /// The listeners of the last scan: at most one for each port of each network namespace that was scanned. The next scan replaces them.
    listeners: HashSet<(u32, u16)>,
    /// The ends of the sockets of the last scan: at most two for each. The next scan replaces them.
    shared: ServerSide,
    /// At most [`GROUPS_MAX`]: the first number of groups without sockets, the second in all. The rest is evicted, and counted. A group
    /// without sockets expires after the longest window.
    histories: HashMap<Key, History>,
    /// The groups of stuck sockets in the last frame, to be kept where their process exits: at most one for each socket of the last
    /// scan and of `ended`. The next frame replaces them.
    reported: BTreeMap<Key, Group>,
    /// The groups of processes that have exited, with the time, ns. At most [`GROUPS_MAX`], the first number; one more is left out, and
    /// counted. Each expires after the longest window.
    exited: BTreeMap<Key, (u64, Group)>,
    /// When the past of some group was last evicted, ns.
    forgot_ns: u64,
    /// When the last scan ended, ns.
    scanned_ns: u64,
    /// The network namespaces of the last scan. The next scan replaces them.
    namespaces: BTreeMap<u32, Option<String>>,
    /// What the last scan could not see of the holders; `None` if it did not read them.
    unseen: Option<Unseen>,
    /// Sockets that the last scan left out.
    left_out: u64,
    /// What else had no room since the start.
    evicted: u64,
}

impl Leaks {
    /// Nothing known of sockets in `states`; `older_ns` makes one stuck. `by_netns` is whether transitions have their namespace.
    #[must_use]
    pub fn new(states: StateSet, older_ns: u64, by_netns: bool) -> Self {
        Self {
            states,
            older_ns,
            began_ns: None,
            by_netns,
            sockets: HashMap::new(),
            missing: BTreeMap::new(),
            entries: HashMap::new(),
            // The first scan begins before transitions are read.
            closed_during_scan: Some(HashSet::new()),
            ended: Ended::default(),
            listeners: HashSet::new(),
            shared: ServerSide::default(),
            histories: HashMap::new(),
            reported: BTreeMap::new(),
            exited: BTreeMap::new(),
            forgot_ns: 0,
            scanned_ns: 0,
            namespaces: BTreeMap::new(),
            unseen: None,
            left_out: 0,
            evicted: 0,
        }
    }

    /// Starts a scan: a socket that leaves its state from now on is gone when the scan ends.
    pub fn start_scan(&mut self) {
        self.closed_during_scan = Some(HashSet::new());
    }

    /// Starts the watch: transitions are read by now, and later scans are compared with the next.
    pub fn start_watch(&mut self) {
        self.began_ns = None;
        self.histories.clear();
    }

    /// The sockets that the kernel ended, by their inode numbers.
    #[cfg(test)]
    pub(crate) fn ended(&self) -> impl Iterator<Item = NonZeroU32> {
        self.ended.inodes()
    }

    /// Applies a transition; `wanted` is whether the filter selects its owner.
    pub fn apply_transition(&mut self, event: &Transition, wanted: bool) {
        if event.from == event.to {
            return;
        }
        let ids = self.ids(event);
        if event.from == TcpState::Close {
            self.ended.used_again(event.cookie);
        }
        if self.states.contains(event.from) {
            self.apply_exit(event, ids, wanted);
        }
        if self.states.contains(event.to)
            && let Some(id) = ids.into_iter().flatten().next()
        {
            let entry = StateEntry {
                state: event.to,
                at_ns: event.monotonic_ns,
                owner: event.owner,
                opened: event.opened,
            };
            if self.entries.len() < ENTRIES_MAX || self.entries.contains_key(&id) {
                self.entries.insert(id, entry);
            } else {
                self.evicted += 1;
            }
        }
    }

    /// Counts that the socket of `event`, known by `ids`, left a state.
    fn apply_exit(&mut self, event: &Transition, ids: [Option<SocketId>; 2], wanted: bool) {
        let mut entry = None;
        for id in ids.into_iter().flatten() {
            entry = self.entries.remove(&id).or(entry);
        }
        if let Some(closed) = &mut self.closed_during_scan {
            if closed.len() + ids.len() <= CLOSED_MAX {
                closed.extend(ids.into_iter().flatten().map(|id| (id, event.from)));
            } else {
                self.evicted += 1;
            }
        }
        let entry = entry.filter(|entry| entry.state == event.from);
        // The kernel never connected a socket without a remote port.
        let Some(ends) = self.event_endpoints(event) else {
            return;
        };
        let is_same = |tracked: &Tracked| {
            let cookies = (tracked.detail.cookie, event.cookie);
            tracked.key.state == event.from && !matches!(cookies, (Some(one), Some(other)) if one != other)
        };
        let tracked = if self.sockets.get(&ends).is_some_and(is_same) {
            self.sockets.remove(&ends)
        } else if self.missing.get(&ends).is_some_and(|(tracked, _)| is_same(tracked)) {
            self.missing.remove(&ends).map(|(tracked, _)| tracked)
        } else {
            None
        };
        if !wanted && tracked.is_none() {
            return;
        }
        let since_ns = match &tracked {
            // Data may have moved since the last scan: it was stuck if it was so then.
            _ if event.from == TcpState::Established => {
                let idle_ns = tracked.as_ref().map_or(0, |tracked| tracked.age(self.scanned_ns).ns);
                Some(event.monotonic_ns.saturating_sub(idle_ns))
            }
            // Its time began anew when data moved.
            Some(tracked) if tracked.moved_ns > tracked.since_ns => Some(tracked.moved_ns),
            tracked => event
                .dwell_ns
                .map(|dwell_ns| event.monotonic_ns.saturating_sub(dwell_ns))
                .or_else(|| tracked.as_ref().map(|tracked| tracked.since_ns))
                .or_else(|| entry.map(|entry| entry.at_ns)),
        };
        let dwell_ns = since_ns.map(|since_ns| event.monotonic_ns.saturating_sub(since_ns));
        let entered_by = entry.and_then(|entry| entry.owner);
        let key = tracked.as_ref().map_or_else(
            || Key {
                netns: ends.netns,
                pid: event.owner.or(entered_by).and_then(|owner| owner.pid),
                side: self.side(&ends, event.from, event.opened),
                state: event.from,
                orphans: event.from == TcpState::LastAck,
            },
            |tracked| Key {
                pid: tracked.key.pid.or(event.owner.and_then(|owner| owner.pid)),
                ..tracked.key
            },
        );
        let is_late = dwell_ns.is_none_or(|ns| ns >= self.older_ns);
        let open = match event.evidence {
            // The kernel gives up, and there is nothing to close.
            _ if key.is_for_kernel() => Some(false),
            // The peer closed first.
            None if event.from == TcpState::Established && event.to == TcpState::CloseWait => Some(true),
            None => Some(false),
            Some(evidence) => ending::leaves_descriptor(evidence),
        };
        // An application that shuts down, reads to the end and closes, as is usual, passes FIN_WAIT2 quickly.
        let may_be_held = event.from != TcpState::FinWait2 || is_late;
        let open = open.map(|open| open && may_be_held);
        let owner = tracked.as_ref().and_then(|tracked| tracked.owner).or(event.owner);
        // Where the evidence is unknown, /proc shows whether the descriptor is open, by the inode number that a scan found.
        let has_inode = may_be_held
            && tracked
                .as_ref()
                .is_some_and(|tracked| tracked.detail.socket.inode.is_some());
        let older_ns = self.older_ns;
        if let Some(history) = self.history(key, event.monotonic_ns) {
            history.owner = owner.or(history.owner);
            match (open, dwell_ns) {
                (Some(true), _) => history.closings.ended += 1,
                (Some(false), Some(dwell_ns)) => history.closings.add(dwell_ns, event.monotonic_ns, older_ns),
                (None, _) if has_inode => {}
                _ => {
                    history.closings.unknown += 1;
                    // From here on all closes are known again.
                    if is_late {
                        history.since_ns = event.monotonic_ns;
                    }
                }
            }
        }
        if open.unwrap_or(has_inode) && event.from != TcpState::Established {
            let ended = tracked.unwrap_or_else(|| Tracked::ended(event, &ends, key, dwell_ns));
            self.evicted += u64::from(!self.ended.insert(ended, event.monotonic_ns));
        }
    }

    /// Applies what a scan found.
    pub fn apply_scan(&mut self, mut scan: SocketScan) {
        // A recording may have been made for more states.
        scan.sockets
            .retain(|found| self.states.contains(found.detail.socket.state));
        let is_first = self.began_ns.is_none();
        self.began_ns.get_or_insert(scan.ended_ns);
        let listeners = scan.listeners.into_iter();
        self.listeners = listeners.map(|(netns, port)| (self.netns(netns), port)).collect();
        self.left_out = scan.left_out;
        self.shared = ServerSide::count(scan.sockets.iter().map(|found| self.endpoints(&found.detail)));
        self.unseen = scan.unseen;
        self.namespaces = scan.namespaces;
        for closed in self.ended.update_holders(scan.held, scan.ended_ns) {
            // A process that was never seen to hold it may hold it still, unseen.
            if !closed.holders.is_empty() {
                self.add_closing(&closed, scan.ended_ns, scan.ended_ns);
            }
        }
        let closed_during_scan = self.closed_during_scan.take().unwrap_or_default();
        let mut before = std::mem::take(&mut self.sockets);
        let mut there = HashSet::with_capacity(scan.sockets.len());
        for found in scan.sockets {
            let ends = self.endpoints(&found.detail);
            let ids = [
                found.detail.cookie.map(SocketId::Cookie),
                Some(SocketId::Endpoints(ends)),
            ];
            let mut ids = ids.into_iter().flatten();
            let state = found.detail.socket.state;
            if ids.clone().any(|id| closed_during_scan.contains(&(id, state))) {
                continue;
            }
            there.extend(ids.clone());
            let entry = ids.find_map(|id| self.entries.get(&id));
            let entry = entry.filter(|entry| entry.state == state).copied();
            let previous = before.remove(&ends).filter(|previous| {
                previous.detail.socket.state == state && previous.detail.cookie == found.detail.cookie
            });
            let tracked = self.track(found, &ends, entry, previous, [scan.started_ns, scan.ended_ns]);
            self.sockets.insert(ends, tracked);
        }
        // An entry from before the scan, of a socket that the scan did not find, is over: its end was not seen.
        self.entries
            .retain(|id, entry| entry.at_ns >= scan.started_ns || there.contains(id));
        // Their transitions were lost: those that came were read by now.
        for (gone, until_ns) in std::mem::take(&mut self.missing).into_values() {
            self.add_closing(&gone, until_ns, scan.ended_ns);
        }
        if scan.left_out == 0 && !is_first {
            let has_exited = |socket: &Tracked| socket.key.pid.is_some_and(|pid| scan.exited.contains(&pid));
            let missing = before.into_iter().filter(|(_, socket)| !has_exited(socket));
            self.missing = missing
                .map(|(ends, socket)| (ends, (socket, self.scanned_ns)))
                .collect();
        }
        self.scanned_ns = scan.ended_ns;
        self.set_exited(&scan.exited, scan.ended_ns);
        self.expire(is_first, scan.ended_ns);
    }

    /// Counts that `socket`, which was there until `until_ns`, was found closed at `now_ns`.
    fn add_closing(&mut self, socket: &Tracked, until_ns: u64, now_ns: u64) {
        let (dwell_ns, older_ns) = (socket.age(until_ns).ns, self.older_ns);
        if let Some(history) = self.history(socket.key, now_ns) {
            history.closings.add(dwell_ns, now_ns, older_ns);
        }
    }

    /// Keeps the groups of the processes in `exited` as they were reported: an exiting process did not mean to close its sockets.
    fn set_exited(&mut self, exited: &HashSet<NonZeroU32>, now_ns: u64) {
        let there: HashSet<Key> = self.sockets.values().map(|socket| socket.key).collect();
        let has_exited = |key: &Key| key.pid.is_some_and(|pid| exited.contains(&pid)) && !there.contains(key);
        for (key, mut group) in self.reported.extract_if(.., |key, _| has_exited(key)) {
            if let Some(history) = self.histories.get_mut(&key) {
                history.closings = group.closings;
            }
            if self.exited.len() < GROUPS_MAX[0] {
                group.process_exited = true;
                self.exited.insert(key, (now_ns, group));
            } else {
                self.evicted += 1;
            }
        }
    }

    /// What is known of the socket `found` by a scan that began and ended at these times, ns. Its entry may have been seen, and an earlier
    /// scan may have found it.
    fn track(
        &self,
        found: ScannedSocket,
        ends: &Endpoints,
        entry: Option<StateEntry>,
        previous: Option<Tracked>,
        [started_ns, now_ns]: [u64; 2],
    ) -> Tracked {
        let socket = found.detail.socket;
        let mut since_ns = entry.map(|entry| entry.at_ns);
        let at_least = since_ns.is_none();
        if at_least {
            let least_ns = now_ns.saturating_sub(age::at_least_ns(&found.detail));
            since_ns = Some(
                previous
                    .as_ref()
                    .map_or(least_ns, |previous| previous.since_ns.min(least_ns)),
            );
        }
        let mut moved_ns = moved_ns(&found.detail, now_ns);
        if let Some(previous) = &previous {
            // Fewer bytes wait: some were read since the last scan.
            let was_read = found.detail.unread_bytes() < previous.detail.unread_bytes();
            moved_ns = moved_ns.max(if was_read { now_ns } else { previous.moved_ns });
        }
        // The kernel counts in ticks, and read this socket at some time during the scan: data that moved before the socket entered may
        // seem to have moved a moment after.
        let since_ns = since_ns.unwrap_or(now_ns);
        let error_ns = age::TICK_NS.saturating_add(now_ns.saturating_sub(started_ns));
        if socket.state != TcpState::Established && moved_ns <= since_ns.saturating_add(error_ns) {
            moved_ns = 0;
        }
        let (mut owner, mut holders) = (found.process, found.holders);
        let opened = entry.and_then(|entry| entry.opened);
        let side = previous.as_ref().map(|previous| previous.key.side);
        let entered_by = entry.and_then(|entry| entry.owner);
        if let Some(previous) = previous
            && self.unseen.is_none()
        {
            (owner, holders) = (previous.owner, previous.holders);
        }
        // Of several unrelated holders none is the owner, although one of them accepted it.
        if holders.is_empty() {
            owner = owner.or(entered_by);
        }
        Tracked {
            detail: found.detail,
            since_ns,
            at_least,
            moved_ns,
            owner,
            entered_by,
            holders,
            awaited: found.awaited,
            key: Key {
                netns: ends.netns,
                pid: owner.and_then(|owner| owner.pid),
                side: side.unwrap_or_else(|| self.side(ends, socket.state, opened)),
                state: socket.state,
                orphans: socket.inode.is_none() && !matches!(socket.state, TcpState::CloseWait | TcpState::Established),
            },
        }
    }

    /// Forgets what is too old to decide anything at `now_ns`, and notes with how many sockets each group began.
    fn expire(&mut self, is_first: bool, now_ns: u64) {
        let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
        for socket in self.sockets.values() {
            *counts.entry(socket.key).or_default() += 1;
        }
        let kept_ns = longest_window_ns(self.older_ns);
        if self.unseen.is_some() {
            self.evicted += self.ended.expire(now_ns, kept_ns);
        }
        self.exited
            .retain(|_, (exited_ns, _)| now_ns.saturating_sub(*exited_ns) < kept_ns);
        self.histories
            .retain(|key, history| counts.contains_key(key) || now_ns.saturating_sub(history.used_ns) < kept_ns);
        if self.histories.len() > GROUPS_MAX[0] {
            let before = self.histories.len();
            self.histories.retain(|key, _| counts.contains_key(key));
            self.note_eviction((before - self.histories.len()) as u64, now_ns);
        }
        if is_first {
            for (key, sockets) in counts {
                if let Some(history) = self.history(key, now_ns) {
                    history.first = Some(sockets);
                }
            }
        }
    }

    fn note_eviction(&mut self, groups: u64, now_ns: u64) {
        if groups > 0 {
            self.evicted += groups;
            self.forgot_ns = now_ns;
        }
    }

    /// The past of the group `key`; `None` where at `now_ns` there is no room for it.
    fn history(&mut self, key: Key, now_ns: u64) -> Option<&mut History> {
        if !self.histories.contains_key(&key) {
            if self.histories.len() >= GROUPS_MAX[1] {
                self.note_eviction(1, now_ns);
                return None;
            }
            self.histories.insert(key, History::new(self.forgot_ns));
        }
        let history = self.histories.get_mut(&key)?;
        history.used_ns = now_ns;
        Some(history)
    }

    fn netns(&self, netns: u32) -> u32 {
        if self.by_netns { netns } else { 0 }
    }

    /// The endpoints of the socket of `event`; `None` where a port is not chosen yet.
    fn event_endpoints(&self, event: &Transition) -> Option<Endpoints> {
        Some(Endpoints {
            netns: self.netns(event.netns.map_or(0, NonZeroU32::get)),
            local: event.local,
            lport: event.lport?.get(),
            remote: event.remote,
            rport: event.rport?.get(),
        })
    }

    fn endpoints(&self, detail: &Detail) -> Endpoints {
        let socket = &detail.socket;
        Endpoints {
            netns: self.netns(socket.netns),
            local: socket.local,
            lport: socket.lport,
            remote: socket.remote,
            rport: socket.rport,
        }
    }

    /// What identifies the socket of `event`, the surest first.
    fn ids(&self, event: &Transition) -> [Option<SocketId>; 2] {
        let endpoints = self.event_endpoints(event).map(SocketId::Endpoints);
        [event.cookie.map(SocketId::Cookie), endpoints]
    }

    /// Which side the socket with `ends`, in `state`, is: by how it was opened, where that was seen; else the side that listens. Where
    /// neither does any more, the server's end is the one that most others share.
    fn side(&self, ends: &Endpoints, state: TcpState, opened: Option<Opened>) -> Side {
        let passive = match opened {
            Some(opened) => opened == Opened::Passive,
            None if state == TcpState::SynSent => false,
            None => {
                let listens = |port: u16| self.listeners.contains(&(ends.netns, port));
                listens(ends.lport) || !listens(ends.rport) && self.shared.is_local(ends)
            }
        };
        if passive {
            Side::Passive(ends.lport)
        } else {
            Side::Active(ends.remote, ends.rport)
        }
    }
}
