//! Leaves out of a run what its filter does not select, so that a recording has nothing of other connections and processes, and puts
//! the cgroups of processes before what is of these processes.
//!
//! The kernel side selects records by the ends of their sockets. Left to do here: records of other owners, whose owners may be known
//! later than the records, and what scans and listeners show of other sockets.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use hashbrown::{HashMap, HashSet};

use super::cgroups::CgroupPaths;
use super::filter::Filter;
use super::filter::owner::OwnerFilter;
use super::holdback::{CAPACITY, OWNER_WAIT_NS};
use super::recent::Recent;
use crate::input::latency::LatencySample;
use crate::input::listener::Listener;
use crate::input::needs::Needs;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::socket::{Address, Family};
use crate::input::socket_scan::SocketScan;
use crate::input::{Input, Transition};

/// What is looked up for the records of a run.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    /// The holders of sockets without a known owner.
    pub holders: bool,
    /// The cgroups of owners.
    pub cgroups: bool,
}

impl Asks {
    /// What a run with these `needs` looks up to select connections by `filter`, and to group them.
    #[must_use]
    pub fn new(needs: Needs, filter: &OwnerFilter) -> Self {
        Self {
            holders: needs.rows() || needs.churn.is_some() && !filter.is_any(),
            cgroups: needs.rows() || needs.groups_by_cgroup() || filter.needs_cgroup(),
        }
    }
}

/// Passes on the inputs that a filter selects, in their order.
#[derive(Debug)]
pub struct InputFilter {
    filter: Filter,
    /// What it waits for: the owners of records that have none, and the cgroups of all processes.
    awaits: Asks,
    /// Whether the process that closed a connection is as good as its owner: finished connections are shown one by one.
    selects_closers: bool,
    /// Inputs that wait for the owner of the first. As in [`super::holdback`], there are [`CAPACITY`] at most, and each waits for
    /// [`OWNER_WAIT_NS`] at most.
    queue: VecDeque<HeldInput>,
    /// Inputs passed on or left out so far. The number of an input less this is its index in the queue.
    released: u64,
    /// Numbers of the records in the queue that wait for the owner of a socket, by its inode number, oldest first.
    awaiting_owner: HashMap<NonZeroU32, VecDeque<u64>>,
    /// Time of the last tick that came, ns.
    monotonic_ns: u64,
    is_over: bool,
    /// The known cgroups, and the cgroups that were passed on.
    cgroups: CgroupPaths,
    passed_cgroups: CgroupPaths,
    /// Connections that were passed on, and may be amended.
    ended: Recent<NonZeroU64>,
    /// Inode numbers and ports of sockets that were passed on.
    inodes: Recent<NonZeroU32>,
    ports: Recent<u16>,
    /// The sockets of the last two scans, by their ends, with their cookies.
    scanned: [HashMap<Ends, Option<NonZeroU64>>; 2],
    /// The processes that the last scan with owners named.
    pids: HashSet<NonZeroU32>,
    /// Inode numbers of listeners that were left out, and whose owners are asked for.
    left_out: HashSet<NonZeroU32>,
    /// Records that were left out.
    unmatched: u64,
    /// Those of them whose owners are unknown.
    unknown_owners: u64,
    /// Times that may be of any owner.
    unmeasured: u64,
}

/// Both ends of a socket.
type Ends = (Address, u16, Address, u16);

/// An input that is held back, with the owner of its socket where that came later.
#[derive(Debug)]
struct HeldInput {
    input: Input,
    /// Since when it waits for its owners and their cgroups, ns; `None` if it is of no owners.
    since_ns: Option<u64>,
    awaits_owner_of: Option<NonZeroU32>,
    answer: Option<Result<Owner, UnknownOwner>>,
}

impl HeldInput {
    /// The transition of a record.
    const fn event(&self) -> Option<&Transition> {
        self.input.event()
    }

    /// The owner of the socket of a record.
    fn owner(&self) -> Option<Owner> {
        let found = self.answer.and_then(Result::ok);
        self.event()?.owner.or(found)
    }

    /// The process that closed the connection of a record, if that is another.
    const fn closer(&self) -> Option<Owner> {
        match &self.input {
            Input::Connection(connection) => connection.closer,
            _ => None,
        }
    }

    /// The processes that a record or a sample of the latency names.
    fn processes(&self) -> impl Iterator<Item = Owner> {
        let measured = match &self.input {
            Input::Latency(sample) => sample.measured.as_slice(),
            _ => &[],
        };
        let owners = self.owner().into_iter().chain(self.closer());
        owners.chain(measured.iter().filter_map(|measured| measured.owner))
    }
}

impl InputFilter {
    /// Whether the inputs of a run with these `needs` must pass one before the model takes them. What a recording leaves out, the run does
    /// not show either, so that both show the same.
    #[must_use]
    pub fn is_needed(filter: &Filter, needs: Needs, is_recorded: bool) -> bool {
        // Of single rows and of stuck sockets the model selects the owners itself.
        let counts_owners = needs.churn.is_some() || needs.latency.is_some();
        is_recorded && !filter.is_any_socket() || counts_owners && !filter.owner.is_any() || needs.groups_by_cgroup()
    }

    /// A filter of the inputs of a run with these `needs`, whose source has the same `filter`.
    #[must_use]
    pub fn new(filter: Filter, needs: Needs) -> Self {
        let asks = Asks::new(needs, &filter.owner);
        Self {
            awaits: Asks {
                holders: asks.holders && !filter.owner.is_any(),
                cgroups: asks.cgroups && (!filter.owner.is_any() || needs.groups_by_cgroup()),
            },
            selects_closers: needs.connections,
            filter,
            queue: VecDeque::new(),
            released: 0,
            awaiting_owner: HashMap::new(),
            monotonic_ns: 0,
            is_over: false,
            cgroups: CgroupPaths::default(),
            passed_cgroups: CgroupPaths::default(),
            ended: Recent::new(CAPACITY),
            inodes: Recent::new(CAPACITY),
            ports: Recent::new(CAPACITY),
            scanned: Default::default(),
            pids: HashSet::new(),
            left_out: HashSet::new(),
            unmatched: 0,
            unknown_owners: 0,
            unmeasured: 0,
        }
    }

    /// Takes `input`, and gives `each` what is passed on by now.
    pub fn take(&mut self, input: Input, each: &mut dyn FnMut(Input)) {
        match &input {
            Input::Owner { inode, owner } => self.set_owner(*inode, *owner),
            Input::CgroupPath { owner, cgroup } if self.awaits.cgroups => {
                self.cgroups.insert(owner, cgroup.clone());
                if self.filter.owner.is_any() {
                    self.passed_cgroups.insert(owner, cgroup.clone());
                    each(input);
                }
                // Many come at once, and a tick follows.
                return;
            }
            _ => {
                match &input {
                    Input::Tick { monotonic_ns, .. } => self.monotonic_ns = *monotonic_ns,
                    Input::End(_) => self.is_over = true,
                    _ => {}
                }
                self.hold(input);
            }
        }
        while self.queue.front().is_some_and(|first| !self.waits(first)) {
            self.release(each);
        }
    }

    fn hold(&mut self, input: Input) {
        let since_ns = match &input {
            Input::Latency(_) => Some(self.monotonic_ns),
            _ => input.event().map(|event| event.monotonic_ns),
        };
        let mut held = HeldInput {
            input,
            since_ns,
            awaits_owner_of: None,
            answer: None,
        };
        if self.awaits.holders
            && let Some(inode) = held.event().and_then(Transition::asks_owner)
        {
            held.awaits_owner_of = Some(inode);
            let number = self.released + self.queue.len() as u64;
            self.awaiting_owner.entry(inode).or_default().push_back(number);
        }
        self.queue.push_back(held);
    }

    /// Sets the owner of the oldest record that waits for the owner of socket `inode`; other answers are of what was left out, or, without
    /// a filter on owners, of records that were passed on.
    fn set_owner(&mut self, inode: NonZeroU32, owner: Result<Owner, UnknownOwner>) {
        if self.filter.owner.is_any() {
            if !self.left_out.remove(&inode) {
                self.hold(Input::Owner { inode, owner });
            }
            return;
        }
        let number = self.pop_awaiting(inode);
        let index = number.and_then(|number| usize::try_from(number.checked_sub(self.released)?).ok());
        if let Some(held) = index.and_then(|index| self.queue.get_mut(index)) {
            held.awaits_owner_of = None;
            held.answer = Some(owner);
        }
    }

    /// Ends the wait of the oldest record that waits for the owner of socket `inode`; returns its number.
    fn pop_awaiting(&mut self, inode: NonZeroU32) -> Option<u64> {
        let numbers = self.awaiting_owner.get_mut(&inode)?;
        let oldest = numbers.pop_front();
        if numbers.is_empty() {
            self.awaiting_owner.remove(&inode);
        }
        oldest
    }

    /// Whether it may still turn out that `held` is selected.
    fn waits(&self, held: &HeldInput) -> bool {
        let Some(since_ns) = held.since_ns else { return false };
        let waited_ns = self.monotonic_ns.saturating_sub(since_ns);
        if self.is_over || self.queue.len() > CAPACITY || waited_ns > OWNER_WAIT_NS {
            return false;
        }
        held.awaits_owner_of.is_some() || self.awaits.cgroups && !self.cgroups.has_all(held.processes())
    }

    /// Passes on the first input of the queue, or leaves it out.
    fn release(&mut self, each: &mut dyn FnMut(Input)) {
        let Some(mut held) = self.queue.pop_front() else { return };
        if let Some(inode) = held.awaits_owner_of.take() {
            self.pop_awaiting(inode);
            held.answer = Some(Err(UnknownOwner::NotScanned));
        }
        self.released += 1;
        if let Some(&event) = held.event() {
            if self.selects(&event, &held) {
                self.pass_record(held, each);
            } else {
                self.unmatched += 1;
                self.unknown_owners += u64::from(held.owner().is_none());
            }
            return;
        }
        match &mut held.input {
            Input::CloseAmended { id, .. } if !self.filter.owner.is_any() && !self.ended.contains(id) => return,
            Input::ListenerDrops(listeners) => self.strip_listeners(listeners),
            Input::Latency(sample) if !self.filter.owner.is_any() => self.strip_latency(sample),
            Input::SocketScan { scan, .. } if !self.filter.is_any_socket() => self.strip_scan(scan),
            Input::Loss(loss) => loss.unknown_owners = loss.unknown_owners.saturating_add(self.unknown_owners),
            Input::End(counts) => counts.unmatched = counts.unmatched.saturating_add(self.unmatched),
            _ => {}
        }
        if self.awaits.cgroups {
            held.processes().for_each(|process| self.pass_cgroup(process, each));
        }
        each(held.input);
    }

    /// Whether the filter selects the owner of a record, or, of a socket that a scan showed, one of its holders.
    fn selects(&self, event: &Transition, held: &HeldInput) -> bool {
        let owner = &self.filter.owner;
        self.cgroups.matches(held.owner(), owner)
            || self.selects_closers && self.cgroups.matches(held.closer(), owner)
            || self.is_scanned(event)
    }

    fn is_scanned(&self, event: &Transition) -> bool {
        let ends = ends(event);
        let cookies = self.scanned.iter().filter_map(|sockets| sockets.get(&ends));
        let mut cookies = cookies.map(|cookie| (*cookie, event.cookie));
        cookies.any(|cookies| !matches!(cookies, (Some(one), Some(other)) if one != other))
    }

    /// Passes on a record with what is known of its processes, which comes before it.
    fn pass_record(&mut self, mut held: HeldInput, each: &mut dyn FnMut(Input)) {
        let Some(event) = held.input.event_mut() else { return };
        let unknown = match held.answer {
            Some(Ok(owner)) => {
                event.owner = Some(owner);
                None
            }
            Some(Err(why)) => Some(why),
            None => None,
        };
        for port in [event.lport, event.rport].into_iter().flatten() {
            self.ports.insert(port.get());
        }
        let inode = event.inode;
        if let Some(inode) = inode {
            self.inodes.insert(inode);
        }
        if let Some(id) = event.id.filter(|_| event.evidence.is_some()) {
            self.ended.insert(id);
        }
        if self.awaits.cgroups {
            held.processes().for_each(|process| self.pass_cgroup(process, each));
        }
        each(held.input);
        if let (Some(why), Some(inode)) = (unknown, inode) {
            each(Input::Owner { inode, owner: Err(why) });
        }
    }

    /// Passes on the cgroup of `owner`, unless that was done. One that did not come in time is unknown.
    fn pass_cgroup(&mut self, owner: Owner, each: &mut dyn FnMut(Input)) {
        let cgroup = self.cgroups.get(&owner);
        let is_passed = self.passed_cgroups.has_all([owner]) && self.passed_cgroups.get(&owner) == cgroup;
        if !is_passed {
            self.passed_cgroups.insert(&owner, cgroup.clone());
            each(Input::CgroupPath { owner, cgroup });
        }
    }

    /// Leaves out the times of other owners. Those of groups without room and of unknown owners may be of any: they are not measured.
    fn strip_latency(&mut self, sample: &mut LatencySample) {
        let Self { filter, cgroups, .. } = self;
        let mut other = 0_u64;
        sample.measured.retain(|measured| {
            if measured.owner.is_none() {
                other = other.saturating_add(measured.histogram.total());
            }
            cgroups.matches(measured.owner, &filter.owner)
        });
        self.unmeasured = self.unmeasured.saturating_add(other);
        sample.unmeasured = sample.unmeasured.saturating_add(self.unmeasured);
    }

    /// Leaves out the listeners that do not match. A listener has no remote end, so it matches no filter on that.
    fn strip_listeners(&mut self, listeners: &mut Vec<Listener>) {
        let Self {
            filter,
            cgroups,
            left_out,
            ..
        } = self;
        listeners.retain(|listener| {
            let (family, any): (_, IpAddr) = match listener.address.ip {
                IpAddr::V4(_) => (Family::Ipv4, Ipv4Addr::UNSPECIFIED.into()),
                IpAddr::V6(_) => (Family::Ipv6, Ipv6Addr::UNSPECIFIED.into()),
            };
            let is_selected = filter.matches_ends(family, (listener.address.ip, listener.port), (any, 0))
                && cgroups.matches(listener.owner, &filter.owner);
            // Under a filter on owners, no answer passes that is of no record.
            if !is_selected && filter.owner.is_any() {
                left_out.extend(listener.asks_owner());
            }
            is_selected
        });
    }

    /// Leaves out what `scan` has of other sockets than those it selected and those of records that were passed on.
    fn strip_scan(&mut self, scan: &mut SocketScan) {
        let mut scanned = HashMap::with_capacity(scan.sockets.len());
        for found in &mut scan.sockets {
            let socket = &found.detail.socket;
            let ends = (socket.local, socket.lport, socket.remote, socket.rport);
            scanned.insert(ends, found.detail.cookie);
            self.ports.insert(socket.lport);
            self.ports.insert(socket.rport);
            if let Some(inode) = socket.inode {
                self.inodes.insert(inode);
            }
            if let Some(awaited) = &mut found.awaited {
                let is_selected = self.cgroups.matches(awaited.owner, &self.filter.owner);
                awaited.owner = awaited.owner.filter(|_| is_selected);
            }
        }
        let [last, before] = &mut self.scanned;
        *before = std::mem::replace(last, scanned);
        scan.listeners.retain(|(_, port)| self.ports.contains(port));
        scan.held.retain(|inode, _| self.inodes.contains(inode));
        if let Some(opened_at) = &mut scan.opened_at {
            opened_at.retain(|inode, _| self.inodes.contains(inode));
            let named: HashSet<_> = opened_at.values().copied().collect();
            scan.stacks.retain(|id, _| named.contains(id));
        }
        scan.exited.retain(|pid| self.pids.contains(pid));
        if scan.unseen.is_some() {
            self.pids = pids(scan).collect();
        }
    }
}

/// The ends of the socket of `event`.
fn ends(event: &Transition) -> Ends {
    let [lport, rport] = [event.lport, event.rport].map(|port| port.map_or(0, NonZeroU16::get));
    (event.local, lport, event.remote, rport)
}

/// The processes that `scan` names.
fn pids(scan: &SocketScan) -> impl Iterator<Item = NonZeroU32> {
    let held = scan.held.values().map(|held| (held.process, &held.holders));
    let all = scan
        .sockets
        .iter()
        .map(|found| (found.process, &found.holders))
        .chain(held);
    all.flat_map(|(process, holders)| {
        let holders = holders.iter().filter_map(|holder| holder.process.pid);
        process.and_then(|owner| owner.pid).into_iter().chain(holders)
    })
}

#[cfg(test)]
mod tests;
