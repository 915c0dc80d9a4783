//! Sockets that fire no transitions (half-open requests, timewait sockets), and the kernel's counters beside them.

use anyhow::Result;
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use crate::event::TimeWaitCounters;
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
    entered: Option<u64>,
    refused: Option<u64>,
    before: Vec<(u32, TimeWaitCounters)>,
}

impl Silent {
    /// What `filter` lets through of the sockets, and the counters, over `readers`' namespaces; entered and refused since
    /// the first reading.
    pub(super) fn read(
        &mut self,
        readers: &mut [NamespaceReaders],
        filter: &Filter,
    ) -> Result<(Pass, TimeWaitCounters)> {
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        let mut limit = Some(0);
        let mut now = Vec::with_capacity(readers.len());
        for reader in readers {
            walked.add(&if filter.is_any_socket() {
                count(reader)?
            } else {
                walk(reader, filter)?
            });
            let these = counters(reader)?;
            limit = limit.zip(these.limit).map(|(sum, limit)| sum + limit);
            now.push((reader.inode, these));
        }
        let before = |inode: u32| {
            self.before
                .iter()
                .find(|(known, _)| *known == inode)
                .map(|(_, counters)| counters)
        };
        let since = |counter: fn(&TimeWaitCounters) -> Option<u64>| {
            now.iter().try_fold(0, |sum, (inode, these)| {
                let then = before(*inode).map_or(counter(these), counter)?;
                Some(sum + counter(these)?.saturating_sub(then))
            })
        };
        let (entered, refused) = (since(|these| these.entered), since(|these| these.refused));
        self.entered = entered.map(|entered| self.entered.unwrap_or(0) + entered);
        self.refused = refused.map(|refused| self.refused.unwrap_or(0) + refused);
        self.before = now;
        // The counters are the namespaces', and no part of them can be told to be the filter's.
        let any = filter.is_any_socket();
        let facts = TimeWaitCounters {
            entered: self.entered.filter(|_| any),
            refused: self.refused.filter(|_| any),
            population: Some(walked.timewait.iter().sum()),
            limit,
        };
        Ok((walked, facts))
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
fn counters(reader: &mut NamespaceReaders) -> Result<TimeWaitCounters> {
    let now = reader.counters.read()?;
    let entered = now.get("TcpExt", "TW").zip(now.get("TcpExt", "TWKilled"));
    let refused = now.get("TcpExt", "TCPTimeWaitOverflow");
    let limit = match &mut reader.max_tw_buckets {
        Some(sysctl) => sysctl.read()?.and_then(|limit| u64::try_from(limit).ok()),
        None => None,
    };
    Ok(TimeWaitCounters {
        entered: entered
            .map(|(planned, killed)| planned + killed)
            .filter(|_| Release::running() >= Release::TW_COUNTS_ENTRIES),
        refused,
        population: None,
        limit,
    })
}
