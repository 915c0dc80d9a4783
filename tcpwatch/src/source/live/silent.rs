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

/// What `filter` lets through of them, and the counters, summed over `readers`' namespaces.
pub(super) fn read(readers: &mut [NamespaceReaders], filter: &Filter) -> Result<(Pass, TimeWaitCounters)> {
    let mut walked: Pass = bytemuck::Zeroable::zeroed();
    let mut facts: Option<TimeWaitCounters> = None;
    for reader in readers {
        let pass = if filter.is_any_socket() {
            count(reader)?
        } else {
            walk(reader, filter)?
        };
        counts::add_pass(&mut walked, &pass);
        let mut these = counters(reader)?;
        these.population = Some(pass.timewait.iter().sum());
        if !filter.is_any_socket() {
            // These are the namespace's, and no part of them can be told to be the filter's.
            (these.entered, these.refused) = (None, None);
        }
        facts = Some(facts.map_or(these, |sum| add(&sum, &these)));
    }
    Ok((walked, facts.unwrap_or_default()))
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

/// The counters of two namespaces together: unknown where one is.
fn add(one: &TimeWaitCounters, other: &TimeWaitCounters) -> TimeWaitCounters {
    let both = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
    TimeWaitCounters {
        entered: both(one.entered, other.entered),
        refused: both(one.refused, other.refused),
        population: both(one.population, other.population),
        limit: both(one.limit, other.limit),
    }
}
