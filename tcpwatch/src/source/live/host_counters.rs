//! Counts sockets that fire no transitions (request and timewait sockets), and reads the kernel's counters.

use anyhow::Result;
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use crate::input::counter::{Counter, CounterValues};
use crate::input::namespace::Namespace;
use crate::input::release::Release;
use crate::input::socket::Kind;
use crate::input::{FullestNamespace, HostFacts, Orphans, SynSettings, TimeWaitCounters};
use crate::model::counts;
use crate::model::filter::Filter;
use crate::source::namespaces::{Look, WatchedNamespaces};
use crate::sys::sockstat::TcpSockets;
use crate::sys::sysctl::{TCP_MAX_ORPHANS, TCP_MAX_SYN_BACKLOG, TCP_MAX_TW_BUCKETS, TCP_SYNCOOKIES};

/// The states of such sockets.
const SHOWN: StateSet = StateSet::NONE
    .with(TcpState::SynRecv)
    .with(TcpState::FinWait2)
    .with(TcpState::TimeWait);

/// Reads the counters of all namespaces and adds up their increases. Namespaces can appear at any time; the value of a counter
/// before that does not count.
#[derive(Default)]
pub(super) struct HostCounters {
    /// Increases since the first read, over all namespaces.
    counters: CounterValues,
    /// Timewait sockets created since the first read.
    entered: Option<u64>,
    /// Timewait sockets that ended since the first read. Briefly negative if one was created between the reads of two files.
    gone: Option<i64>,
    /// The same value as emitted, which never decreases.
    left: Option<u64>,
    /// Of the namespaces of the last read.
    before: Vec<Reading>,
}

/// The counters of one namespace.
#[derive(Clone, Copy)]
struct Reading {
    inode: u32,
    counters: CounterValues,
    /// Timewait sockets created.
    entered: Option<u64>,
    /// Current timewait sockets.
    population: Option<u64>,
}

/// What a look into one namespace saw.
struct Seen {
    reading: Reading,
    /// The sockets that match the filter.
    pass: Pass,
    sockets: TcpSockets,
    /// `tcp_max_tw_buckets`; `None` if the kernel shows it only in the initial namespace.
    max_tw_buckets: Option<u64>,
    /// `tcp_max_orphans` of the host; `None` if the kernel shows it only in the initial namespace.
    max_orphans: Option<u64>,
    syn: SynSettings,
    namespace: Namespace,
}

impl HostCounters {
    /// Reads the sockets that match `filter`, and the counters, over `namespaces`. Counters are increases since the first read.
    pub(super) fn read(&mut self, namespaces: &mut WatchedNamespaces, filter: &Filter) -> Result<(Pass, HostFacts)> {
        let mut seen = namespaces.look(|look| see(look, filter))?;
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        let is_one = namespaces.all().len() == 1;
        let (mut limit, mut fullest) = (None, None);
        let mut orphans = Orphans::default();
        let mut now = Vec::with_capacity(seen.len());
        for this in &seen {
            walked.add(&this.pass);
            now.push(this.reading);
            limit = this.max_tw_buckets.filter(|_| is_one);
            if let (Some(population), Some(limit)) = (this.sockets.tw, this.max_tw_buckets) {
                let this = FullestNamespace {
                    netns: this.reading.inode,
                    population,
                    limit,
                };
                fullest = Some(this.or(fullest));
            }
            // These are values of the host, equal in all namespaces that show them.
            orphans = Orphans {
                now: this.sockets.orphan,
                limit: this.max_orphans.or(orphans.limit),
                mem_pages: this.sockets.mem,
            };
        }
        self.add(&now);
        // A namespace that could not be entered this time goes on where it was.
        let missed = |before: &Reading| {
            let is_watched = namespaces.all().iter().any(|namespace| namespace.inode == before.inode);
            is_watched && now.iter().all(|this| this.inode != before.inode)
        };
        let mut missing = std::mem::take(&mut self.before);
        missing.retain(missed);
        self.before = now;
        self.before.append(&mut missing);
        // The counters are for whole namespaces. The part that matches the filter is unknown.
        let any = filter.is_any_socket();
        let time_wait = TimeWaitCounters {
            entered: self.entered.filter(|_| any),
            refused: self.counters.get(Counter::TcpTimeWaitOverflow).filter(|_| any),
            recycled: self.counters.get(Counter::TwRecycled).filter(|_| any),
            left: self.left.filter(|_| any),
            population: Some(walked.timewait.iter().sum()),
            limit,
            fullest,
        };
        let one = seen.pop().filter(|_| is_one);
        let (syn, namespace) = one.map_or_else(Default::default, |one| (one.syn, Some(one.namespace)));
        let facts = HostFacts {
            time_wait,
            counters: self.counters,
            orphans,
            syn,
            namespace,
        };
        Ok((walked, facts))
    }

    /// Adds the increases of each namespace since its last read. A namespace read for the first time adds nothing.
    fn add(&mut self, now: &[Reading]) {
        let before = &self.before;
        let increase_of = |number: &dyn Fn(&Reading) -> Option<u64>| {
            now.iter().try_fold(0_i64, |sum, these| {
                let known = before.iter().find(|known| known.inode == these.inode);
                let then = number(known.unwrap_or(these))?;
                Some(sum.saturating_add(number(these)?.wrapping_sub(then).cast_signed()))
            })
        };
        let add = |total: Option<u64>, more: Option<i64>| {
            more.map(|more| total.unwrap_or(0).saturating_add_signed(more.max(0)))
        };
        self.counters = CounterValues::read(|counter| {
            let more = increase_of(&|these| these.counters.get(counter));
            add(self.counters.get(counter), more)
        });
        let entered = increase_of(&|these| these.entered);
        let population = increase_of(&|these| these.population);
        self.entered = add(self.entered, entered);
        let gone = entered.zip(population).map(|(entered, more)| entered - more);
        self.gone = gone.map(|gone| self.gone.unwrap_or(0) + gone);
        self.left = self
            .gone
            .map(|gone| u64::try_from(gone).unwrap_or(0).max(self.left.unwrap_or(0)));
    }
}

/// Reads one namespace.
fn see(look: &mut Look<'_>, filter: &Filter) -> Result<Seen> {
    // Read the counters before the sockets: a timewait socket created in between must not look like one that ended.
    let reading = read_counters(look)?;
    let sockets = look.sockstat()?;
    let pass = if filter.is_any_socket() {
        count(look, sockets.tw)?
    } else {
        walk(look, filter)?
    };
    Ok(Seen {
        reading: Reading {
            population: Some(pass.timewait.iter().sum()),
            ..reading
        },
        pass,
        sockets,
        max_tw_buckets: look.setting(TCP_MAX_TW_BUCKETS)?,
        max_orphans: look.setting(TCP_MAX_ORPHANS)?,
        syn: SynSettings {
            cookies: look.setting(TCP_SYNCOOKIES)?,
            max_backlog: look.setting(TCP_MAX_SYN_BACKLOG)?,
        },
        namespace: look.namespace(),
    })
}

/// Counts all such sockets. There may be many timewait sockets: if the kernel shows their number `tw`, only those in
/// `FIN_WAIT2` are dumped.
fn count(look: &mut Look<'_>, tw: Option<u64>) -> Result<Pass> {
    let Some(population) = tw else {
        return look.sockets()?.count(SHOWN);
    };
    let mut pass = look
        .sockets()?
        .count(StateSet::NONE.with(TcpState::SynRecv).with(TcpState::FinWait2))?;
    let fin_wait2 = pass.timewait[usize::from(TcpState::FinWait2.number())];
    pass.timewait[usize::from(TcpState::TimeWait.number())] = population.saturating_sub(fin_wait2);
    Ok(pass)
}

/// Counts the sockets that match `filter`.
fn walk(look: &mut Look<'_>, filter: &Filter) -> Result<Pass> {
    let mut pass = bytemuck::Zeroable::zeroed();
    look.sockets()?.walk(SHOWN, |socket| {
        if socket.kind != Some(Kind::Full) && filter.matches_socket(socket) {
            counts::count_socket(&mut pass, socket);
        }
    })?;
    Ok(pass)
}

/// The counters of one namespace.
fn read_counters(look: &Look<'_>) -> Result<Reading> {
    let mut counters = look.counters()?;
    let now = counters.read()?;
    let entered = now.get("TcpExt", "TW").zip(now.get("TcpExt", "TWKilled"));
    Ok(Reading {
        inode: look.inode(),
        counters: CounterValues::read(|counter| {
            let (group, name) = counter.name();
            now.get(group, name)
        }),
        entered: entered
            .map(|(planned, killed)| planned + killed)
            .filter(|_| crate::sys::release::running() >= Release::TW_COUNTS_ENTRIES),
        population: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(inode: u32, entered: u64, population: u64) -> Reading {
        Reading {
            inode,
            counters: CounterValues::read(|counter| (counter == Counter::ListenDrops).then_some(entered)),
            entered: Some(entered),
            population: Some(population),
        }
    }

    #[test]
    fn entered_minus_current_has_left() {
        let mut silent = HostCounters::default();
        let mut left = |now: &[Reading]| {
            silent.add(now);
            silent.before = now.to_vec();
            assert_eq!(silent.counters.get(Counter::ListenDrops), silent.entered);
            assert_eq!(silent.counters.get(Counter::OutSegs), None);
            (silent.entered, silent.left)
        };
        assert_eq!(
            left(&[reading(1, 1000, 10)]),
            (Some(0), Some(0)),
            "a history is no event"
        );
        assert_eq!(left(&[reading(1, 1005, 15)]), (Some(5), Some(0)));
        assert_eq!(left(&[reading(1, 1005, 3)]), (Some(5), Some(12)));
        assert_eq!(
            left(&[reading(1, 1005, 4)]),
            (Some(5), Some(12)),
            "seen before it was counted"
        );
        assert_eq!(left(&[reading(1, 1006, 4)]), (Some(6), Some(12)));
        assert_eq!(left(&[reading(1, 1006, 4), reading(2, 9, 9)]), (Some(6), Some(12)));
        assert_eq!(left(&[reading(2, 9, 8)]), (Some(6), Some(13)));
        assert_eq!(
            left(&[reading(2, 8, 8)]).0,
            Some(6),
            "a counter that goes back is no event"
        );
    }
}
