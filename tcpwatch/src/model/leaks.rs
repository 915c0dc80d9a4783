//! Sockets that stay in states which should pass: since when, whose they are, and whether any of their kind ever leaves.
//!
//! A scan finds the sockets that are there; transitions show when later ones entered a state, and which left it. An age is exact where
//! the entry was seen. A socket that was there before has a lower bound: the time since it was first seen, or what the kernel's timers
//! show (`age.rs`).
//! Where data still moves the way that is open, or is read, it is in use: its time begins anew.
//!
//! What the kernel ends, its application has not closed: the descriptor is open until a look at /proc does not find it any more.

mod age;
mod ended;
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
use jiff::Timestamp;
use tcpwatch_common::{StateSet, TcpState};

use self::ended::Ended;
pub use self::group::{Age, FDS_MAX, Group, Key, Shared, Side};
pub use self::history::Closings;
use self::history::History;
pub use self::opened_by::{OpenedBy, caller, culprit, is_interpreter, is_library, opened_by};
use self::server_side::ServerSide;
use self::tracked::{Tracked, moved_ns};
pub use self::verdict::{Doubt, Verdict};
use super::ending;
use crate::input::owner::{Owner, Process};
use crate::input::socket::{Address, Detail};
use crate::input::socket_owner::Unseen;
use crate::input::socket_scan::{Held, Seen, SocketScan};
use crate::input::{Event, Opened};

/// The states that should pass.
pub const STATES: [TcpState; 4] = [
    TcpState::CloseWait,
    TcpState::FinWait2,
    TcpState::SynSent,
    TcpState::LastAck,
];

/// Sockets that a look keeps at most.
pub const SOCKETS_MAX: usize = 262_144;
/// Entries into a state remembered at most.
const ENTRIES_MAX: usize = 262_144;
/// Groups whose past is kept from one look to the next, beside those that have sockets, and groups in all.
const GROUPS_MAX: [usize; 2] = [4096, 65_536];
const MILLISECOND: u64 = 1_000_000;

/// [`STATES`] as a set.
#[must_use]
pub fn states() -> StateSet {
    STATES.into_iter().fold(StateSet::NONE, StateSet::with)
}

/// A connection's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ends {
    netns: u32,
    local: Address,
    lport: u16,
    remote: Address,
    rport: u16,
}

/// By what a socket is known again: its cookie, or its ends where the source tells no cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Name {
    Cookie(NonZeroU64),
    Ends(Ends),
}

/// An entry into a state that was seen.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: TcpState,
    at_ns: u64,
    owner: Option<Owner>,
    opened: Option<Opened>,
}

/// What there is to say at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaksFrame {
    /// When the look ended, ns since the Unix epoch.
    pub unix_ns: i64,
    /// For how long entries and closings were watched, ns; `None` for a single look.
    pub window_ns: Option<u64>,
    /// What makes a socket stuck: so long in its state, ns.
    pub older_ns: u64,
    /// Those groups that have stuck sockets, the largest first; then those that had some, which were closed late.
    pub groups: Vec<Group>,
    /// The others that have sockets in the states, the largest first.
    pub passing: Vec<Group>,
    /// The network namespaces looked at, by inode number, and the name of each that has one.
    pub namespaces: BTreeMap<u32, Option<String>>,
    /// Whether the last look was at who holds the sockets, too: else that is what an earlier one found.
    pub whose_known: bool,
    /// What could not be seen of the owners.
    pub unseen: Unseen,
    /// Transitions that were lost: entries among them have no exact time. A socket that was stuck and is gone is missed all the
    /// same, by the next look.
    pub lost: u64,
    /// Events of the whole host that no program handled; some may be of other network namespaces.
    pub missed: u64,
    /// Entries and groups left out for want of room since the start, and sockets by the last look.
    pub evicted: u64,
}

impl LeaksFrame {
    /// When the look ended.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Sockets in the states.
    #[must_use]
    pub fn in_state(&self) -> u64 {
        let groups = self.groups.iter().chain(&self.passing);
        let there = groups.filter(|group| !group.process_gone);
        there.map(|group| group.in_state).sum()
    }

    /// Those that are stuck, and those of them that the kernel has ended, which are in no state any more.
    #[must_use]
    pub fn stuck(&self) -> [u64; 2] {
        let there = self.groups.iter().filter(|group| !group.process_gone);
        there.fold([0, 0], |[sockets, ended], group| {
            [sockets + group.sockets, ended + group.ended]
        })
    }
}

/// What is known of sockets in [`STATES`].
#[derive(Debug)]
pub struct Leaks {
    older_ns: u64,
    /// When the watch began: the end of its first look.
    began_ns: Option<u64>,
    /// Whether namespaces can be told apart.
    by_netns: bool,
    sockets: HashMap<Ends, Tracked>,
    entries: HashMap<Name, Entry>,
    /// Sockets that left a state since the look under way began.
    left: HashSet<Name>,
    ended: Ended,
    listeners: HashSet<(u32, u16)>,
    shared: ServerSide,
    histories: HashMap<Key, History>,
    /// The groups of stuck sockets that the last frame told, by which it is known what a process had that ends.
    told: HashMap<Key, Group>,
    /// Those whose process has ended.
    gone: HashMap<Key, Group>,
    /// When the past of some group was last forgotten.
    forgot_ns: u64,
    /// When the last look ended.
    looked_ns: u64,
    namespaces: BTreeMap<u32, Option<String>>,
    whose_known: bool,
    unseen: Unseen,
    /// Sockets that the last look left out.
    left_out: u64,
    /// What else had no room since the start.
    evicted: u64,
}

impl Leaks {
    /// Nothing known; `older_ns` in its state makes a socket stuck. `by_netns` says whether events tell their namespace.
    #[must_use]
    pub fn new(older_ns: u64, by_netns: bool) -> Self {
        Self {
            older_ns,
            began_ns: None,
            by_netns,
            sockets: HashMap::new(),
            entries: HashMap::new(),
            left: HashSet::new(),
            ended: Ended::default(),
            listeners: HashSet::new(),
            shared: ServerSide::default(),
            histories: HashMap::new(),
            told: HashMap::new(),
            gone: HashMap::new(),
            forgot_ns: 0,
            looked_ns: 0,
            namespaces: BTreeMap::new(),
            whose_known: false,
            unseen: Unseen::default(),
            left_out: 0,
            evicted: 0,
        }
    }

    /// Says that a look begins: what leaves from now on is not there any more when it ends.
    pub fn begin_look(&mut self) {
        self.left.clear();
    }

    /// Says that transitions are heard of by now: what the next look finds is what later ones are compared with.
    pub fn begin_watch(&mut self) {
        self.began_ns = None;
        self.histories.clear();
    }

    /// The sockets that the kernel ended, by their inode numbers: whether somebody holds them still is to be found out by the next
    /// look.
    pub fn ended(&self) -> impl Iterator<Item = NonZeroU32> {
        self.ended.inodes()
    }

    /// The processes of stuck sockets: whether they have ended is to be found out by the next look.
    #[must_use]
    pub fn pids(&self) -> Vec<NonZeroU32> {
        let mut pids: Vec<_> = self.told.keys().filter_map(|key| key.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Takes a transition; `wanted` says whether its owner is one that was asked for, where it is known.
    pub fn transition(&mut self, event: &Event, wanted: bool) {
        if event.from == event.to {
            return;
        }
        let names = self.names(event);
        if event.from == TcpState::Close {
            self.ended.used_again(event.cookie);
        }
        if states().contains(event.from) {
            self.left(event, names, wanted);
        }
        if states().contains(event.to)
            && let Some(name) = names.into_iter().flatten().next()
        {
            let entry = Entry {
                state: event.to,
                at_ns: event.monotonic_ns,
                owner: event.owner,
                opened: event.opened,
            };
            if self.entries.len() < ENTRIES_MAX || self.entries.contains_key(&name) {
                self.entries.insert(name, entry);
            } else {
                self.evicted += 1;
            }
        }
    }

    /// Counts that the socket of `event` left a state.
    fn left(&mut self, event: &Event, names: [Option<Name>; 2], wanted: bool) {
        let mut entry = None;
        for name in names.into_iter().flatten() {
            entry = self.entries.remove(&name).or(entry);
            if self.left.len() < SOCKETS_MAX {
                self.left.insert(name);
            }
        }
        let ends = self.ends(event);
        let tracked = ends.and_then(|ends| self.sockets.get(&ends));
        let tracked = tracked.filter(|tracked| {
            let cookies = (tracked.detail.cookie, event.cookie);
            tracked.key.state == event.from && !matches!(cookies, (Some(one), Some(other)) if one != other)
        });
        if !wanted && tracked.is_none() {
            return;
        }
        let entered_ns = entry.filter(|entry| entry.state == event.from).map(|entry| entry.at_ns);
        let since_ns = tracked.map(|tracked| tracked.since_ns).or(entered_ns);
        let dwell_ns = event
            .dwell_ns
            .or_else(|| Some(event.monotonic_ns.saturating_sub(since_ns?)));
        let key = tracked.map(|tracked| tracked.key).or_else(|| {
            let entry = entry.filter(|entry| entry.state == event.from);
            let entered_by = entry.and_then(|entry| entry.owner);
            let ends = ends?;
            Some(Key {
                netns: ends.netns,
                pid: event.owner.or(entered_by).and_then(|owner| owner.pid),
                side: self.side(&ends, event.from, event.opened),
                state: event.from,
                orphans: event.from == TcpState::LastAck,
            })
        });
        // Nobody knows where it was connected to: it never was.
        let Some(key) = key else { return };
        let is_tracked = tracked.is_some();
        let tracked = ends.filter(|_| is_tracked).and_then(|ends| self.sockets.remove(&ends));
        let older_ns = self.older_ns;
        let open = match event.evidence {
            // There the kernel gives up, and nobody is to close anything.
            _ if !key.is_for_application() => Some(false),
            None => Some(false),
            Some(evidence) => ending::leaves_descriptor(evidence),
        };
        // Who shuts down, reads to the end and closes then, as is usual, passes FIN_WAIT2 quickly: that is not looked into.
        let open = open.map(|open| open && (event.from == TcpState::CloseWait || dwell_ns >= Some(older_ns)));
        let owner = tracked.as_ref().and_then(|tracked| tracked.owner).or(event.owner);
        // Where the socket tells nothing /proc does, by the number that a look found.
        let is_known = tracked
            .as_ref()
            .is_some_and(|tracked| tracked.detail.socket.inode.is_some());
        if let Some(history) = self.history(key, event.monotonic_ns) {
            history.owner = owner.or(history.owner);
            match open {
                Some(true) => history.closings.ended += 1,
                Some(false) => history.closings.add(dwell_ns, older_ns),
                None if is_known => {}
                None => history.closings.unknown += 1,
            }
        }
        if open.unwrap_or(is_known)
            && let Some(ends) = ends
        {
            let ended = tracked.unwrap_or_else(|| Tracked::ended(event, &ends, key, dwell_ns));
            self.evicted += u64::from(!self.ended.insert(ended));
        }
    }

    /// Takes what a look found.
    pub fn look(&mut self, look: SocketScan) {
        let is_first = self.began_ns.is_none();
        self.began_ns.get_or_insert(look.ended_ns);
        let listeners = look.listeners.into_iter();
        self.listeners = listeners.map(|(netns, port)| (self.netns(netns), port)).collect();
        self.left_out = look.left_out;
        self.shared = ServerSide::of(look.sockets.iter().map(|seen| self.ends_of(&seen.detail)));
        self.unseen = look.unseen.unwrap_or_default();
        self.namespaces = look.namespaces;
        self.whose_known = look.unseen.is_some();
        for closed in self.ended.look(look.held) {
            // Who was never seen to hold it may hold it still, unseen.
            let dwell_ns = look.ended_ns.saturating_sub(closed.since_ns);
            let dwell_ns = Some(dwell_ns).filter(|_| !closed.holders.is_empty());
            let older_ns = self.older_ns;
            if let Some(history) = self.history(closed.key, look.ended_ns) {
                history.closings.add(dwell_ns, older_ns);
            }
        }
        let mut before = std::mem::take(&mut self.sockets);
        let mut there = HashSet::with_capacity(look.sockets.len());
        for seen in look.sockets {
            let ends = self.ends_of(&seen.detail);
            let names = [seen.detail.cookie.map(Name::Cookie), Some(Name::Ends(ends))];
            let mut names_there = names.into_iter().flatten();
            if names_there.clone().any(|name| self.left.contains(&name)) {
                continue;
            }
            there.extend(names_there.clone());
            let state = seen.detail.socket.state;
            let entry = names_there.find_map(|name| self.entries.get(&name));
            let entry = entry.filter(|entry| entry.state == state).copied();
            let previous = before.remove(&ends).filter(|previous| {
                previous.detail.socket.state == state && previous.detail.cookie == seen.detail.cookie
            });
            let tracked = self.tracked(seen, &ends, entry, previous, look.ended_ns);
            self.sockets.insert(ends, tracked);
        }
        self.left.clear();
        // What came before the look and is not in it has gone unseen.
        self.entries
            .retain(|name, entry| entry.at_ns >= look.started_ns || there.contains(name));
        if look.left_out == 0 && !is_first {
            for gone in before.into_values() {
                let dwell_ns = self.looked_ns.saturating_sub(gone.since_ns);
                let older_ns = self.older_ns;
                if let Some(history) = self.history(gone.key, look.ended_ns) {
                    history.closings.add(Some(dwell_ns), older_ns);
                }
            }
        }
        self.looked_ns = look.ended_ns;
        self.processes_ended(&look.gone);
        self.remember(is_first, look.ended_ns);
    }

    /// What an ending process closed it did not mean to close: what was told of it stays, and nothing is taken for a closing.
    fn processes_ended(&mut self, gone: &HashSet<NonZeroU32>) {
        if gone.is_empty() {
            return;
        }
        let there: HashSet<Key> = self.sockets.values().map(|socket| socket.key).collect();
        let ended = |key: &Key| key.pid.is_some_and(|pid| gone.contains(&pid)) && !there.contains(key);
        for (key, mut group) in self.told.extract_if(|key, _| ended(key)) {
            if let Some(history) = self.histories.get_mut(&key) {
                history.closings = group.closings;
            }
            if self.gone.len() < GROUPS_MAX[0] {
                group.process_gone = true;
                self.gone.insert(key, group);
            }
        }
    }

    /// What is known of the socket `seen`, whose entry may have been seen, and which an earlier look may have found.
    fn tracked(
        &self,
        seen: Seen,
        ends: &Ends,
        entry: Option<Entry>,
        previous: Option<Tracked>,
        ended_ns: u64,
    ) -> Tracked {
        let socket = seen.detail.socket;
        let mut since_ns = entry.map(|entry| entry.at_ns);
        let at_least = since_ns.is_none();
        if at_least {
            let least_ns = ended_ns.saturating_sub(age::at_least_ns(&seen.detail));
            since_ns = Some(
                previous
                    .as_ref()
                    .map_or(least_ns, |previous| previous.since_ns.min(least_ns)),
            );
        }
        let mut moved_ns = moved_ns(&seen.detail, ended_ns);
        if let Some(previous) = &previous {
            // Nothing comes in CLOSE_WAIT: what is less is read, at some time since the last look.
            let was_read = seen.detail.receive_queue < previous.detail.receive_queue;
            moved_ns = moved_ns.max(if was_read { ended_ns } else { previous.moved_ns });
        }
        let (mut owner, mut holders) = (seen.process, seen.holders);
        let opened = entry.and_then(|entry| entry.opened);
        let side = previous.as_ref().map(|previous| previous.key.side);
        let entered_by = entry.and_then(|entry| entry.owner);
        if let Some(previous) = previous
            && !self.whose_known
        {
            (owner, holders) = (previous.owner, previous.holders);
        }
        // Several may hold it, of whom nobody can be named; who accepted it is one of them.
        if holders.is_empty() {
            owner = owner.or(entered_by);
        }
        Tracked {
            detail: seen.detail,
            since_ns: since_ns.unwrap_or(ended_ns),
            at_least,
            moved_ns,
            owner,
            entered_by,
            holders,
            awaited: seen.awaited,
            key: Key {
                netns: ends.netns,
                pid: owner.and_then(|owner| owner.pid),
                side: side.unwrap_or_else(|| self.side(ends, socket.state, opened)),
                state: socket.state,
                orphans: socket.inode.is_none() && socket.state != TcpState::CloseWait,
            },
        }
    }

    /// Brings the past of each group up to the look just taken, which ended at `now_ns`.
    fn remember(&mut self, is_first: bool, now_ns: u64) {
        let mut counts: HashMap<Key, u64> = HashMap::new();
        for socket in self.sockets.values() {
            *counts.entry(socket.key).or_default() += 1;
        }
        if self.histories.len() > GROUPS_MAX[0] {
            let before = self.histories.len();
            self.histories.retain(|key, _| counts.contains_key(key));
            self.forget((before - self.histories.len()) as u64, now_ns);
        }
        if is_first {
            for (key, sockets) in counts {
                if let Some(history) = self.history(key, now_ns) {
                    history.first = sockets;
                }
            }
        }
    }

    fn forget(&mut self, groups: u64, now_ns: u64) {
        if groups > 0 {
            self.evicted += groups;
            self.forgot_ns = now_ns;
        }
    }

    /// The past of the group `key`; `None` where at `now_ns` there is no room for it.
    fn history(&mut self, key: Key, now_ns: u64) -> Option<&mut History> {
        if !self.histories.contains_key(&key) {
            if self.histories.len() >= GROUPS_MAX[1] {
                self.forget(1, now_ns);
                return None;
            }
            let new = History {
                since_ns: self.forgot_ns,
                ..History::default()
            };
            self.histories.insert(key, new);
        }
        self.histories.get_mut(&key)
    }

    /// What there is to say of the last look; `to_unix_ns` makes Unix time of our clock's, `watched` says whether transitions are
    /// heard of, `lost` how many were not.
    pub fn frame(&mut self, to_unix_ns: i64, watched: bool, lost: u64) -> LeaksFrame {
        let now_ns = self.looked_ns;
        let began_ns = self.began_ns.filter(|_| watched);
        let mut groups: HashMap<Key, Group> = HashMap::new();
        for socket in self.sockets.values() {
            let age = socket.age(now_ns);
            let group = groups.entry(socket.key).or_insert_with(|| Group::new(socket.key));
            group.add_to_state(age, socket.owner);
            if age.ns >= self.older_ns {
                group.add_stuck(age, &socket.detail, &socket.holders);
                group.entered_by.add(socket.entered_by.map(Process::from));
                group.awaited = group.awaited.or(socket.awaited);
                group.beyond += u64::from(self.is_beyond(&socket.key, age));
            }
        }
        for socket in self.ended.sockets().filter(|_| watched) {
            let age = socket.age(now_ns);
            if age.ns >= self.older_ns {
                let group = groups.entry(socket.key).or_insert_with(|| Group::new(socket.key));
                group.add_ended(age, socket.owner, &socket.detail, &socket.holders);
                group.beyond += u64::from(self.is_beyond(&socket.key, age));
            }
        }
        if watched {
            for (key, group) in &self.gone {
                groups.entry(*key).or_insert_with(|| group.clone());
            }
            for (key, history) in &self.histories {
                if history.closings.late > 0 && !groups.contains_key(key) {
                    let mut group = Group::new(*key);
                    group.owner = history.owner;
                    groups.insert(*key, group);
                }
            }
        }
        for group in groups.values_mut().filter(|group| !group.process_gone) {
            if let Some(began) = began_ns
                && let Some(history) = self.history(group.key, now_ns)
            {
                history.stuck(group.sockets);
                group.peak = history.peak;
                group.late_since_peak = history.late_since_peak();
                group.closings = history.closings;
                let window_ns = now_ns.saturating_sub(began.max(history.since_ns));
                group.window_ns = Some(window_ns);
                if window_ns > 0 && history.since_ns <= began {
                    let more = number(group.in_state + group.ended) - number(history.first);
                    group.growth_per_min = Some(more / number(window_ns) * 60e9);
                }
            }
            group.settle();
        }
        let (mut groups, mut passing): (Vec<Group>, Vec<Group>) = groups
            .into_values()
            .partition(|group| group.sockets > 0 || group.in_state == 0);
        let told = groups.iter().filter(|group| group.sockets > 0 && !group.process_gone);
        self.told = told.map(|group| (group.key, group.clone())).collect();
        groups.sort_unstable_by_key(|group| (std::cmp::Reverse(group.sockets), group.key));
        passing.sort_unstable_by_key(|group| (std::cmp::Reverse(group.in_state), group.key));
        LeaksFrame {
            unix_ns: now_ns.cast_signed().wrapping_add(to_unix_ns),
            window_ns: began_ns.map(|began| now_ns.saturating_sub(began)),
            older_ns: self.older_ns,
            groups,
            passing,
            namespaces: self.namespaces.clone(),
            whose_known: self.whose_known,
            unseen: self.unseen,
            lost,
            missed: 0,
            evicted: self.evicted + self.left_out,
        }
    }

    /// Whether a socket of the group `key`, of this `age`, is older than thrice the time in which any other was closed late.
    fn is_beyond(&self, key: &Key, age: Age) -> bool {
        let history = self.histories.get(key);
        let late = history.and_then(|history| history.closings.late_ns);
        late.is_none_or(|[_, longest]| age.ns > longest.saturating_mul(3))
    }

    fn netns(&self, netns: u32) -> u32 {
        if self.by_netns { netns } else { 0 }
    }

    /// The ends of the socket of `event`; `None` where a port is not chosen yet.
    fn ends(&self, event: &Event) -> Option<Ends> {
        Some(Ends {
            netns: self.netns(event.netns.map_or(0, std::num::NonZeroU32::get)),
            local: event.local,
            lport: event.lport?.get(),
            remote: event.remote,
            rport: event.rport?.get(),
        })
    }

    fn ends_of(&self, detail: &Detail) -> Ends {
        let socket = &detail.socket;
        Ends {
            netns: self.netns(socket.netns),
            local: socket.local,
            lport: socket.lport,
            remote: socket.remote,
            rport: socket.rport,
        }
    }

    /// By what the socket of `event` may be known, the surest first.
    fn names(&self, event: &Event) -> [Option<Name>; 2] {
        [event.cookie.map(Name::Cookie), self.ends(event).map(Name::Ends)]
    }

    /// Which side the socket between `ends`, in `state`, is: by how it was opened, where that was seen; the one that listens where
    /// somebody does. Where nobody does any more it is the end that most others share.
    fn side(&self, ends: &Ends, state: TcpState, opened: Option<Opened>) -> Side {
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

/// For rates: what is lost above 2^53 does not matter.
#[expect(clippy::cast_precision_loss, reason = "a rate has no more digits than that")]
fn number(count: u64) -> f64 {
    count as f64
}
