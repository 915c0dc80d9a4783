//! Counts sockets that fire no transitions (request and timewait sockets), and reads the kernel's counters.

use anyhow::Result;
use hashbrown::{HashMap, HashSet};
use tcpwatch_common::ledger::Pass;
use tcpwatch_common::{StateSet, TcpState};

use super::interval_reader::SHARE;
use crate::clock;
use crate::input::counter::{Counter, CounterValues};
use crate::input::namespace::Namespace;
use crate::input::release::Release;
use crate::input::socket::Kind;
use crate::input::{FullestNamespace, HostFacts, Orphans, SynSettings, TimeWaitCounters};
use crate::model::counts;
use crate::model::filter::Filter;
use crate::source::namespaces::{NamespaceReader, WatchedNamespaces};
use crate::sys::netns;
use crate::sys::sockstat::TcpSockets;
use crate::sys::sysctl::{TCP_MAX_ORPHANS, TCP_MAX_SYN_BACKLOG, TCP_MAX_TW_BUCKETS, TCP_SYNCOOKIES};

/// The states of such sockets.
const SHOWN: StateSet = StateSet::NONE
    .with(TcpState::SynRecv)
    .with(TcpState::FinWait2)
    .with(TcpState::TimeWait);

/// Interval between reads of a namespace in which no socket changed its state, ns.
const QUIET_NS: u64 = 10_000_000_000;
/// Walks of several namespaces may take so long at the start, ns: somebody waits for the first row.
const FIRST_WALKS_NS: i64 = 200_000_000;

/// Reads the counters of all namespaces and adds up their increases. Namespaces can appear at any time; the value of a counter
/// before that does not count.
///
/// Of several namespaces, one in which no socket changed its state is read every ten seconds. Each walk passes over the sockets of the
/// whole host, so walks take at most 1/[`SHARE`] of the time: the namespace whose walk is oldest comes first.
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
    /// The last reading of each namespace, by its inode number. It goes with the namespace.
    before: HashMap<u32, NamespaceState>,
    /// The time that walks may take, ns; negative after a long one. `None` before the first read.
    credit_ns: Option<i64>,
    /// Time of the last read, `CLOCK_MONOTONIC` in ns.
    read_ns: u64,
}

/// The counters of one namespace.
#[derive(Clone, Copy)]
struct Reading {
    counters: CounterValues,
    /// Timewait sockets created.
    entered: Option<u64>,
    /// Current timewait sockets.
    population: Option<u64>,
}

/// What one reading of a namespace found.
#[derive(Clone)]
struct NamespaceState {
    inode: u32,
    reading: Reading,
    /// When all of it was read, `CLOCK_MONOTONIC` in ns.
    read_ns: u64,
    /// The sockets that match the filter.
    pass: Pass,
    /// When they were counted, `CLOCK_MONOTONIC` in ns; when the namespace was first seen if they never were.
    counted_ns: u64,
    /// Whether `pass` was counted at this read.
    is_exact: bool,
    /// Whether the namespace has no socket of any kind.
    is_empty: bool,
    /// Transitions in the namespace before; `None` if they are not counted.
    transitions: Option<u64>,
    sockets: TcpSockets,
    settings: Settings,
}

/// Settings of a namespace.
#[derive(Clone, Default)]
struct Settings {
    /// `tcp_max_tw_buckets`; `None` if the kernel shows it only in the initial namespace, or without timewait sockets in one of several.
    max_tw_buckets: Option<u64>,
    /// `tcp_max_orphans` of the host; `None` if the kernel shows it only in the initial namespace. Of several namespaces it is read once.
    max_orphans: Option<u64>,
    /// Of the only namespace.
    syn: SynSettings,
    /// The only namespace.
    namespace: Namespace,
}

impl HostCounters {
    /// Reads the sockets that match `filter`, and the counters, over `namespaces`. Counters are increases since the first read.
    /// `transitions` are those of each namespace, if they are counted.
    pub(super) fn read(
        &mut self,
        namespaces: &mut WatchedNamespaces,
        filter: &Filter,
        transitions: Option<&HashMap<u32, u64>>,
    ) -> Result<(Pass, HostFacts)> {
        let now_ns = clock::monotonic_ns();
        let is_one = namespaces.all().len() == 1;
        let before = std::mem::take(&mut self.before);
        let earned = i64::try_from((now_ns - self.read_ns.min(now_ns)) / SHARE).unwrap_or(i64::MAX);
        let credit = self
            .credit_ns
            .map_or(FIRST_WALKS_NS, |credit| credit.saturating_add(earned));
        let mut credit_ns = if is_one { i64::MAX } else { credit.min(FIRST_WALKS_NS) };
        namespaces.sort_by_key(|namespace| before.get(&namespace.inode).map_or(0, |seen| seen.counted_ns));
        let transitions_in = |inode: u32| Some(transitions?.get(&inode).copied().unwrap_or(0));
        let quiet = |inode: u32| {
            before
                .get(&inode)
                .filter(|seen| seen.is_quiet(now_ns, transitions_in(inode)))
        };
        let is_wanted = |namespace: &netns::Namespace| namespace.is_own() || quiet(namespace.inode).is_none();
        let mut seen = namespaces.read_some(is_wanted, |reader| {
            let inode = reader.inode();
            let transitions = transitions_in(inode);
            read_namespace(reader, filter, transitions, before.get(&inode), is_one, &mut credit_ns)
        })?;
        // A namespace that was left out, or could not be entered this time, goes on where it was.
        let read: HashSet<u32> = seen.iter().map(|seen| seen.inode).collect();
        let others = namespaces
            .all()
            .iter()
            .filter(|namespace| !read.contains(&namespace.inode));
        seen.extend(others.filter_map(|namespace| {
            let seen = before.get(&namespace.inode)?;
            Some(NamespaceState {
                is_exact: seen.is_empty,
                ..seen.clone()
            })
        }));
        (self.credit_ns, self.read_ns) = (Some(credit_ns), now_ns);
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        let (mut limit, mut fullest) = (None, None);
        let mut orphans = Orphans::default();
        let mut oldest_ns = None;
        for this in &seen {
            walked.add(&this.pass);
            if !this.is_exact {
                oldest_ns = Some(oldest_ns.unwrap_or(this.counted_ns).min(this.counted_ns));
            }
            let settings = &this.settings;
            limit = settings.max_tw_buckets.filter(|_| is_one);
            if let (Some(population), Some(limit)) = (this.sockets.tw, settings.max_tw_buckets) {
                let this = FullestNamespace {
                    netns: this.inode,
                    population,
                    limit,
                };
                fullest = Some(this.or(fullest));
            }
            // These are values of the host, equal in all namespaces that show them. The one of tcpwatch is read each time.
            orphans = Orphans {
                now: orphans.now.or(this.sockets.orphan),
                limit: settings.max_orphans.or(orphans.limit),
                mem_pages: orphans.mem_pages.or(this.sockets.mem),
            };
        }
        self.add(&before, &seen);
        let one = seen.first().filter(|_| is_one).map(|one| one.settings.clone());
        self.before = seen.into_iter().map(|seen| (seen.inode, seen)).collect();
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
        let (syn, namespace) = one.map_or_else(Default::default, |one| (one.syn, Some(one.namespace)));
        let facts = HostFacts {
            time_wait,
            counters: self.counters,
            orphans,
            syn,
            namespace,
            walk_age_ns: oldest_ns.map(|oldest| now_ns.saturating_sub(oldest)),
        };
        Ok((walked, facts))
    }

    /// Adds the increases of each namespace from `before` to `now`. A namespace read for the first time adds nothing.
    fn add(&mut self, before: &HashMap<u32, NamespaceState>, now: &[NamespaceState]) {
        let pairs = now.iter().map(|these| {
            let then = before.get(&these.inode).map(|then| &then.reading);
            // The kernel gives the number of a namespace that is gone to the next one, whose counters begin at 0.
            let then = then
                .filter(|then| !these.reading.is_before(then))
                .unwrap_or(&these.reading);
            (then, &these.reading)
        });
        let pairs: Vec<_> = pairs.collect();
        let increase_of = |number: &dyn Fn(&Reading) -> Option<u64>| {
            pairs.iter().try_fold(0_i64, |sum, (then, these)| {
                Some(sum.saturating_add(number(these)?.wrapping_sub(number(then)?).cast_signed()))
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

impl Reading {
    /// Whether a counter is lower than in `other`: this is not a later reading of the same namespace.
    fn is_before(&self, other: &Self) -> bool {
        self.entered < other.entered
            || Counter::ALL
                .into_iter()
                .any(|counter| self.counters.get(counter) < other.counters.get(counter))
    }
}

impl NamespaceState {
    /// Whether a read can wait: no socket changed its state, and there is no timewait socket nor half-open connection. At `now_ns` there
    /// were `transitions` in the namespace.
    fn is_quiet(&self, now_ns: u64, transitions: Option<u64>) -> bool {
        let half_open: u64 = self.pass.request.iter().sum();
        now_ns.saturating_sub(self.read_ns) < QUIET_NS
            && transitions.is_some_and(|transitions| self.transitions == Some(transitions))
            && self.sockets.tw == Some(0)
            && half_open == 0
    }
}

/// Reads one namespace. It is walked if it is the only one, or if there is credit left.
fn read_namespace(
    reader: &mut NamespaceReader<'_>,
    filter: &Filter,
    transitions: Option<u64>,
    before: Option<&NamespaceState>,
    is_one: bool,
    credit_ns: &mut i64,
) -> Result<NamespaceState> {
    let now_ns = clock::monotonic_ns();
    // Read the counters before the sockets: a timewait socket created in between must not seem to be one that ended.
    let reading = read_counters(reader)?;
    let sockets = reader.sockstat()?;
    let nothing = bytemuck::Zeroable::zeroed();
    let is_empty = sockets.tw == Some(0) && reader.full_sockets(sockets)? == Some(0);
    let (pass, counted_ns, is_exact) = if is_empty && !is_one {
        (nothing, now_ns, true)
    } else if *credit_ns > 0 {
        let started_ns = clock::monotonic_ns();
        let pass = walk(reader, filter, sockets.tw)?;
        *credit_ns = credit_ns.saturating_sub_unsigned(clock::monotonic_ns() - started_ns);
        (pass, now_ns, true)
    } else {
        let (old, counted_ns) = before.map_or((nothing, now_ns), |before| (before.pass, before.counted_ns));
        (split(old, sockets.tw, filter), counted_ns, false)
    };
    let settings = if is_one {
        Settings::read_all(reader)?
    } else {
        Settings::read_used(reader, sockets, before.map(|before| &before.settings))?
    };
    Ok(NamespaceState {
        inode: reader.inode(),
        reading: Reading {
            population: Some(pass.timewait.iter().sum()),
            ..reading
        },
        read_ns: now_ns,
        pass,
        counted_ns,
        is_exact,
        is_empty,
        transitions,
        sockets,
        settings,
    })
}

impl Settings {
    /// All settings of the only namespace.
    fn read_all(reader: &NamespaceReader<'_>) -> Result<Self> {
        Ok(Self {
            max_tw_buckets: reader.setting(TCP_MAX_TW_BUCKETS)?,
            max_orphans: reader.setting(TCP_MAX_ORPHANS)?,
            syn: SynSettings {
                cookies: reader.setting(TCP_SYNCOOKIES)?,
                max_backlog: reader.setting(TCP_MAX_SYN_BACKLOG)?,
            },
            namespace: reader.namespace(),
        })
    }

    /// What is used of the settings of each of several namespaces. To find one takes the kernel longer, the more namespaces there are.
    fn read_used(reader: &NamespaceReader<'_>, sockets: TcpSockets, before: Option<&Self>) -> Result<Self> {
        let max_tw_buckets = match sockets.tw {
            Some(0) => None,
            _ => reader.setting(TCP_MAX_TW_BUCKETS)?,
        };
        let max_orphans = match before {
            Some(before) => before.max_orphans,
            None => reader.setting(TCP_MAX_ORPHANS)?,
        };
        Ok(Self {
            max_tw_buckets,
            max_orphans,
            ..Self::default()
        })
    }
}

/// An old walk, `pass`, with the number `tw` of timewait sockets now: without a filter their number is known, but not how many are in
/// `FIN_WAIT2`.
fn split(mut pass: Pass, tw: Option<u64>, filter: &Filter) -> Pass {
    if let Some(tw) = tw.filter(|_| filter.is_any_socket()) {
        let fin_wait2 = &mut pass.timewait[usize::from(TcpState::FinWait2.number())];
        *fin_wait2 = tw.min(*fin_wait2);
        pass.timewait[usize::from(TcpState::TimeWait.number())] = tw - *fin_wait2;
    }
    pass
}

/// Counts all sockets that fire no transitions. There may be many timewait sockets: if the kernel shows their number `tw`, only those in
/// `FIN_WAIT2` are dumped.
fn count(reader: &mut NamespaceReader<'_>, tw: Option<u64>) -> Result<Pass> {
    let Some(population) = tw else {
        return reader.sockets()?.count(SHOWN);
    };
    let mut pass = reader
        .sockets()?
        .count(StateSet::NONE.with(TcpState::SynRecv).with(TcpState::FinWait2))?;
    let fin_wait2 = pass.timewait[usize::from(TcpState::FinWait2.number())];
    pass.timewait[usize::from(TcpState::TimeWait.number())] = population.saturating_sub(fin_wait2);
    Ok(pass)
}

/// Counts the sockets that fire no transitions and match `filter`; `tw` is the number of timewait sockets of the namespace.
fn walk(reader: &mut NamespaceReader<'_>, filter: &Filter, tw: Option<u64>) -> Result<Pass> {
    if filter.is_any_socket() {
        return count(reader, tw);
    }
    let mut pass = bytemuck::Zeroable::zeroed();
    reader.sockets()?.walk(SHOWN, |socket| {
        if socket.kind != Some(Kind::Full) && filter.matches_socket(socket) {
            counts::count_socket(&mut pass, socket);
        }
    })?;
    Ok(pass)
}

/// The counters of one namespace.
fn read_counters(reader: &NamespaceReader<'_>) -> Result<Reading> {
    let mut counters = reader.counters()?;
    let now = counters.read()?;
    let entered = now.get("TcpExt", "TW").zip(now.get("TcpExt", "TWKilled"));
    Ok(Reading {
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

    fn reading(inode: u32, entered: u64, population: u64) -> NamespaceState {
        NamespaceState {
            inode,
            reading: Reading {
                counters: CounterValues::read(|counter| (counter == Counter::ListenDrops).then_some(entered)),
                entered: Some(entered),
                population: Some(population),
            },
            read_ns: 0,
            pass: bytemuck::Zeroable::zeroed(),
            counted_ns: 0,
            is_exact: true,
            is_empty: false,
            transitions: Some(3),
            sockets: TcpSockets {
                tw: Some(population),
                ..TcpSockets::default()
            },
            settings: Settings::default(),
        }
    }

    #[test]
    fn an_old_walk_does_not_hide_that_timewait_sockets_came_or_went() {
        let mut old: Pass = bytemuck::Zeroable::zeroed();
        (old.timewait[5], old.timewait[6], old.request[3]) = (7, 100, 2);
        let split_of = |tw| {
            let pass = split(old, Some(tw), &Filter::default());
            (pass.timewait[5], pass.timewait[6], pass.request[3])
        };
        assert_eq!(split_of(500), (7, 493, 2));
        assert_eq!(split_of(5), (5, 0, 2));
    }

    #[test]
    fn a_namespace_is_quiet_for_ten_seconds_if_nothing_can_have_changed() {
        let seen = reading(1, 0, 0);
        assert!(seen.is_quiet(QUIET_NS - 1, Some(3)) && !seen.is_quiet(QUIET_NS, Some(3)));
        assert!(
            !seen.is_quiet(1, Some(4)) && !seen.is_quiet(1, None),
            "a transition, or unknown"
        );
        assert!(
            !reading(1, 0, 1).is_quiet(1, Some(3)),
            "a timewait socket ends by a timer"
        );
        let mut half_open = reading(1, 0, 0);
        half_open.pass.request[3] = 1;
        assert!(!half_open.is_quiet(1, Some(3)));
    }

    #[test]
    fn entered_minus_current_has_left() {
        let mut silent = HostCounters::default();
        let mut left = |now: &[NamespaceState]| {
            silent.add(&silent.before.clone(), now);
            silent.before = now.iter().map(|seen| (seen.inode, seen.clone())).collect();
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
