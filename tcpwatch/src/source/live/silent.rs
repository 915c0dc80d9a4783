//! Sockets that fire no transitions (half-open requests, timewait sockets), and the kernel's counters beside them.

use anyhow::Result;
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use crate::event::{AcceptCounters, TimeWaitCounters};
use crate::model::counts;
use crate::model::filter::Filter;
use crate::model::socket::Kind;
use crate::source::namespace::NamespaceReaders;
use crate::sys::release::Release;

/// States such sockets are shown in.
const SHOWN: StateSet = StateSet::NONE
    .with(TcpState::SynRecv)
    .with(TcpState::FinWait2)
    .with(TcpState::TimeWait);

/// Reads them, and remembers of each namespace what its counters were: namespaces come and go, and a counter's history is
/// no event.
#[derive(Default)]
pub(super) struct Silent {
    /// Since the first reading, over all namespaces.
    since: TimeWaitCounters,
    /// Timewait sockets gone since then; below zero for a moment, where one entered between two files' reading.
    left: Option<i64>,
    accepts: AcceptCounters,
    before: Vec<(u32, TimeWaitCounters, AcceptCounters)>,
}

impl Silent {
    /// What `filter` lets through of the sockets, and the counters, over `readers`' namespaces; all but population and limit since
    /// the first reading.
    pub(super) fn read(
        &mut self,
        readers: &mut [NamespaceReaders],
        filter: &Filter,
    ) -> Result<(Pass, TimeWaitCounters, AcceptCounters)> {
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        let mut limit = Some(0);
        let mut now = Vec::with_capacity(readers.len());
        for reader in readers {
            let (these, accepts) = counters(reader)?;
            let pass = if filter.is_any_socket() {
                count(reader)?
            } else {
                walk(reader, filter)?
            };
            walked.add(&pass);
            limit = limit.zip(these.limit).map(|(sum, limit)| sum + limit);
            let population = Some(pass.timewait.iter().sum());
            now.push((reader.inode, TimeWaitCounters { population, ..these }, accepts));
        }
        self.add(&now);
        self.before = now;
        // The counters are the namespaces', and no part of them can be told to be the filter's.
        let any = filter.is_any_socket();
        let facts = TimeWaitCounters {
            entered: self.since.entered.filter(|_| any),
            refused: self.since.refused.filter(|_| any),
            recycled: self.since.recycled.filter(|_| any),
            left: self.since.left.filter(|_| any),
            population: Some(walked.timewait.iter().sum()),
            limit,
        };
        Ok((walked, facts, self.accepts))
    }

    /// Adds what happened in each namespace since it was read last; one read for the first time has no history.
    fn add(&mut self, now: &[(u32, TimeWaitCounters, AcceptCounters)]) {
        let of = |counter: fn(&TimeWaitCounters) -> Option<u64>| {
            now.iter().try_fold(0_i64, |sum, (inode, these, _)| {
                let known = self.before.iter().find(|(known, ..)| known == inode);
                let then = known.map_or(counter(these), |(_, before, _)| counter(before))?;
                Some(sum.saturating_add(counter(these)?.wrapping_sub(then).cast_signed()))
            })
        };
        let of_accepts = |counter: fn(&AcceptCounters) -> Option<u64>| {
            now.iter().try_fold(0_i64, |sum, (inode, _, these)| {
                let known = self.before.iter().find(|(known, ..)| known == inode);
                let then = known.map_or(counter(these), |(.., before)| counter(before))?;
                Some(sum.saturating_add(counter(these)?.wrapping_sub(then).cast_signed()))
            })
        };
        let overflows = of_accepts(|these| these.overflows);
        let drops = of_accepts(|these| these.drops);
        let syn_drops = of_accepts(|these| these.syn_drops);
        let entered = of(|these| these.entered);
        let (refused, recycled) = (of(|these| these.refused), of(|these| these.recycled));
        let population = of(|these| these.population);
        let gone = entered.zip(population).map(|(entered, more)| entered - more);
        self.left = gone.map(|gone| self.left.unwrap_or(0) + gone);
        let add = |total: Option<u64>, more: Option<i64>| {
            more.map(|more| total.unwrap_or(0).saturating_add_signed(more.max(0)))
        };
        self.accepts = AcceptCounters {
            overflows: add(self.accepts.overflows, overflows),
            drops: add(self.accepts.drops, drops),
            syn_drops: add(self.accepts.syn_drops, syn_drops),
        };
        self.since = TimeWaitCounters {
            entered: add(self.since.entered, entered),
            refused: add(self.since.refused, refused),
            recycled: add(self.since.recycled, recycled),
            // What was told once is not taken back.
            left: self
                .left
                .map(|left| u64::try_from(left).unwrap_or(0).max(self.since.left.unwrap_or(0))),
            population: None,
            limit: None,
        };
    }
}

/// All of them. Timewait sockets may be many: where the kernel tells how many, only those in `FIN_WAIT2` are dumped.
fn count(reader: &mut NamespaceReaders) -> Result<Pass> {
    let Some(population) = reader.sockstat.read()?.tw else {
        return reader.sockets.count(SHOWN);
    };
    let mut pass = reader
        .sockets
        .count(StateSet::NONE.with(TcpState::SynRecv).with(TcpState::FinWait2))?;
    let fin_wait2 = pass.timewait[usize::from(TcpState::FinWait2.number())];
    pass.timewait[usize::from(TcpState::TimeWait.number())] = population.saturating_sub(fin_wait2);
    Ok(pass)
}

/// Those `filter` lets through.
fn walk(reader: &mut NamespaceReaders, filter: &Filter) -> Result<Pass> {
    let mut pass = bytemuck::Zeroable::zeroed();
    reader.sockets.walk(SHOWN, |socket| {
        if socket.kind != Some(Kind::Full) && filter.matches_ends(socket) {
            counts::add(&mut pass, socket);
        }
    })?;
    Ok(pass)
}

/// The counters of one namespace.
fn counters(reader: &mut NamespaceReaders) -> Result<(TimeWaitCounters, AcceptCounters)> {
    let now = reader.counters.read()?;
    let entered = now.get("TcpExt", "TW").zip(now.get("TcpExt", "TWKilled"));
    let refused = now.get("TcpExt", "TCPTimeWaitOverflow");
    let recycled = now.get("TcpExt", "TWRecycled");
    let accepts = AcceptCounters {
        overflows: now.get("TcpExt", "ListenOverflows"),
        drops: now.get("TcpExt", "ListenDrops"),
        syn_drops: now.get("TcpExt", "TCPReqQFullDrop"),
    };
    let limit = match &mut reader.max_tw_buckets {
        Some(sysctl) => sysctl.read()?.and_then(|limit| u64::try_from(limit).ok()),
        None => None,
    };
    let facts = TimeWaitCounters {
        entered: entered
            .map(|(planned, killed)| planned + killed)
            .filter(|_| Release::running() >= Release::TW_COUNTS_ENTRIES),
        refused,
        recycled,
        left: None,
        population: None,
        limit,
    };
    Ok((facts, accepts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(inode: u32, entered: u64, population: u64) -> (u32, TimeWaitCounters, AcceptCounters) {
        let facts = TimeWaitCounters {
            entered: Some(entered),
            refused: Some(0),
            recycled: Some(0),
            left: None,
            population: Some(population),
            limit: None,
        };
        (inode, facts, AcceptCounters::default())
    }

    #[test]
    fn what_entered_and_is_not_there_has_left() {
        let mut silent = Silent::default();
        let mut left = |now: &[(u32, TimeWaitCounters, AcceptCounters)]| {
            silent.add(now);
            silent.before = now.to_vec();
            (silent.since.entered, silent.since.left)
        };
        assert_eq!(
            left(&[counters(1, 1000, 10)]),
            (Some(0), Some(0)),
            "a history is no event"
        );
        assert_eq!(left(&[counters(1, 1005, 15)]), (Some(5), Some(0)));
        assert_eq!(left(&[counters(1, 1005, 3)]), (Some(5), Some(12)));
        assert_eq!(
            left(&[counters(1, 1005, 4)]),
            (Some(5), Some(12)),
            "seen before it was counted"
        );
        assert_eq!(left(&[counters(1, 1006, 4)]), (Some(6), Some(12)));
        assert_eq!(left(&[counters(1, 1006, 4), counters(2, 9, 9)]), (Some(6), Some(12)));
        assert_eq!(left(&[counters(2, 9, 8)]), (Some(6), Some(13)));
        assert_eq!(
            left(&[counters(2, 8, 8)]).0,
            Some(6),
            "a counter that goes back is no event"
        );
    }
}
