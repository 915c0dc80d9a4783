//! What there is to show of the sockets in the states after a scan: groups with their verdicts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use super::group::{Group, Key};
use super::verdict::{judge, window_ns};
use super::{Leaks, Verdict};
use crate::input::owner::Process;
use crate::input::socket_owner::Unseen;
use crate::model::real;

/// What there is to show after a scan.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaksFrame {
    /// When the scan ended, ns since the Unix epoch.
    pub unix_ns: i64,
    /// For how long entries and closes were watched, ns; `None` for a single scan.
    pub window_ns: Option<u64>,
    /// The time after which a socket is stuck, ns.
    pub older_ns: u64,
    /// The groups: what must be mended first, of equal verdicts the largest first, and those whose process has exited last.
    pub groups: Vec<Group>,
    /// The network namespaces that were scanned, by inode number, and the name of each that has one.
    pub namespaces: BTreeMap<u32, Option<String>>,
    /// What the last scan could not see of the holders; `None` if it did not read them: then the holders are those of an earlier scan.
    pub unseen: Option<Unseen>,
    /// Transitions that were lost: the age of a socket that entered by one of them is a lower bound. The next scan still notices a stuck
    /// socket that is gone.
    pub lost: u64,
    /// Events of the whole host that no program handled; some may be of other network namespaces. `None` if the kernel does not count
    /// them, or transitions are not read.
    pub missed: Option<u64>,
    /// Entries and groups left out for want of room since the start, and sockets by the last scan.
    pub evicted: u64,
}

impl LeaksFrame {
    /// When the scan ended.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.unix_ns.into()).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn present(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| !group.process_exited)
    }

    /// Sockets in the states.
    #[must_use]
    pub fn in_state(&self) -> u64 {
        self.present().map(|group| group.in_state).sum()
    }

    /// Stuck sockets, and how many of them the kernel has ended: these are in no state any more.
    #[must_use]
    pub fn stuck(&self) -> [u64; 2] {
        self.present().fold([0, 0], |[sockets, ended], group| {
            [sockets + group.sockets, ended + group.ended]
        })
    }
}

impl Leaks {
    /// What there is to show after the last scan; `to_unix_ns` is added to monotonic times, `watched` is whether transitions are
    /// read, `lost` how many were lost.
    pub fn frame(&mut self, to_unix_ns: i64, watched: bool, lost: u64) -> LeaksFrame {
        let now_ns = self.scanned_ns;
        let began_ns = self.began_ns.filter(|_| watched);
        let mut groups = self.group_sockets(watched);
        if let Some(began_ns) = began_ns {
            self.add_past(&mut groups, began_ns);
        }
        for group in groups.values_mut() {
            group.sort();
            (group.verdict, group.more_ns) = judge(group, self.older_ns);
        }
        groups.retain(|_, group| group.sockets > 0 || group.in_state > 0 || group.verdict == Verdict::Slow);
        let stuck = groups.values().filter(|group| group.sockets > 0);
        self.reported = stuck.map(|group| (group.key, group.clone())).collect();
        if watched {
            self.exited.retain(|key, _| !groups.contains_key(key));
            groups.extend(self.exited.iter().map(|(key, (_, group))| (*key, group.clone())));
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_unstable_by_key(|group| {
            let sockets = Reverse((group.sockets, group.in_state));
            (group.process_exited, group.verdict.rank(), sockets, group.key)
        });
        LeaksFrame {
            unix_ns: now_ns.cast_signed().wrapping_add(to_unix_ns),
            window_ns: began_ns.map(|began| now_ns.saturating_sub(began)),
            older_ns: self.older_ns,
            groups,
            namespaces: self.namespaces.clone(),
            unseen: self.unseen,
            lost,
            missed: None,
            evicted: self.evicted.saturating_add(self.left_out),
        }
    }

    /// Groups the sockets of the last scan. If transitions are `watched`, sockets that the kernel ended are grouped too. A group does not
    /// depend on the order of its sockets, because the maps have none.
    fn group_sockets(&self, watched: bool) -> BTreeMap<Key, Group> {
        let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
        for socket in self.sockets.values() {
            let age = socket.age(self.scanned_ns);
            let group = groups.entry(socket.key).or_insert_with(|| Group::new(socket.key));
            group.add_to_state(age, socket.owner);
            if age.ns >= self.older_ns {
                group.add_stuck(age, &socket.detail, &socket.holders);
                group.entered_by.add(socket.entered_by.map(Process::from));
                group.awaited = group.awaited.max(socket.awaited);
            }
        }
        for socket in self.ended.sockets().filter(|_| watched) {
            let age = socket.age(self.scanned_ns);
            if age.ns >= self.older_ns {
                let group = groups.entry(socket.key).or_insert_with(|| Group::new(socket.key));
                group.add_ended(age, socket.owner, &socket.detail, &socket.holders);
            }
        }
        groups
    }

    /// Adds to `groups` their past since the watch began at `began_ns`, and the groups without sockets.
    fn add_past(&mut self, groups: &mut BTreeMap<Key, Group>, began_ns: u64) {
        let now_ns = self.scanned_ns;
        for key in groups.keys() {
            self.history(*key, now_ns);
        }
        for (key, history) in &mut self.histories {
            let closings = history.closings;
            let group = groups.entry(*key).or_insert_with(|| Group::new(*key));
            group.owner = group.owner.or(history.owner);
            group.growth = history.count_stuck(group.sockets, now_ns, window_ns(self.older_ns, closings.slowest_ns()));
            group.last_late_ns = closings.last_late_ns.map(|at_ns| now_ns.saturating_sub(at_ns));
            group.closings = closings;
            group.watched_ns = Some(now_ns.saturating_sub(began_ns.max(history.since_ns)));
            let minutes = real(now_ns.saturating_sub(began_ns)) / 60e9;
            if let Some(first) = history.first.filter(|_| minutes > 0.0) {
                group.growth_per_min = Some((real(group.in_state + group.ended) - real(first)) / minutes);
            }
        }
    }
}
