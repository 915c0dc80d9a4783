//! The running kernel, read at intervals: ledger, walks and counters of every namespace looked at, as inputs.

use std::path::Path;

use anyhow::Result;
use tcpwatch_common::ledger::{Pass, STATES};
use tcpwatch_common::{Ledger, StateSet, TcpState};

use super::ebpf::{Hook, Kernel};
use super::namespace::NamespaceReaders;
use crate::cli::values::NetnsArg;
use crate::clock;
use crate::event::{Input, LedgerSample, TimeWaitCounters};
use crate::model::counts;
use crate::model::filter::Filter;
use crate::model::socket::Kind;
use crate::sys::netns::{self, Namespace};
use crate::sys::release::Release;

/// Every so often the namespaces are looked for again (`--netns all`), and the classic hook's counts are compared.
const LOOK_AGAIN_NS: u64 = 10_000_000_000;

/// Of the time between two comparisons, at most a hundredth is spent on them.
const SHARE: u64 = 100;

/// States of sockets that fire no transitions.
const SILENT: StateSet = StateSet::NONE
    .with(TcpState::SynRecv)
    .with(TcpState::FinWait2)
    .with(TcpState::TimeWait);

/// The kernel side, and what must be read beside it.
pub struct Live {
    kernel: Kernel,
    filter: Filter,
    netns: NetnsArg,
    readers: Vec<NamespaceReaders>,
    /// Full sockets at the moment the counts were anchored, less those the ledger had by then (classic hook).
    anchor: [i64; STATES],
    missed: u64,
    drift: Option<u64>,
    look_again_ns: u64,
    counts_entries: bool,
}

impl Live {
    /// Opens what is read of each of `namespaces`, and counts the sockets there are.
    ///
    /// # Errors
    /// One line: what cannot be opened, and why.
    pub fn start(kernel: Kernel, filter: Filter, netns: NetnsArg, namespaces: &[Namespace]) -> Result<Self> {
        let mut live = Self {
            kernel,
            filter,
            netns,
            readers: Vec::new(),
            anchor: [0; STATES],
            missed: 0,
            drift: None,
            look_again_ns: clock::monotonic_ns() + LOOK_AGAIN_NS,
            counts_entries: Release::running() >= Release::TW_COUNTS_ENTRIES,
        };
        live.open(namespaces)?;
        if live.kernel.hook() == Some(Hook::TpBtf) {
            live.mark(namespaces)?;
        } else {
            (live.anchor, _) = live.walk_full()?;
        }
        Ok(live)
    }

    /// Reads everything, and gives it to `each`, a tick last.
    ///
    /// # Errors
    /// Something that could be read before cannot be read now.
    pub fn sample(&mut self, mut each: impl FnMut(Input)) -> Result<()> {
        if clock::monotonic_ns() >= self.look_again_ns {
            self.look_again()?;
        }
        self.kernel.flush_log();
        let missed = self.kernel.missed();
        if missed > self.missed {
            self.missed = missed;
            self.count_anew()?;
        }
        let (walked, facts) = self.read_namespaces()?;
        let ledger = self.kernel.ledger()?;
        let (sockets, unmarked) = self.full_sockets(&ledger)?;
        each(Input::Sockets(Box::new(walked)));
        each(Input::HostFacts(facts));
        each(Input::Ledger(Box::new(LedgerSample {
            moves: ledger.moves,
            sockets,
            lost: ledger.lost,
            missed,
            unmarked,
            drift: self.drift,
        })));
        each(Input::Tick {
            time: clock::now(),
            monotonic_ns: clock::monotonic_ns(),
        });
        Ok(())
    }

    /// Full sockets in each state now, and by how many they may be off.
    fn full_sockets(&self, ledger: &Ledger) -> Result<([i64; STATES], u64)> {
        if self.kernel.hook() == Some(Hook::TpBtf) {
            return self.kernel.live(ledger);
        }
        let mut sockets = ledger.sockets[0];
        for (state, anchor) in sockets.iter_mut().zip(self.anchor) {
            *state += anchor;
        }
        Ok((sockets, ledger.unmarked))
    }

    /// Opens the readers of those namespaces that have none, and closes those of namespaces that are gone: an open one
    /// keeps its namespace alive.
    fn open(&mut self, namespaces: &[Namespace]) -> Result<()> {
        self.readers
            .retain(|reader| namespaces.iter().any(|namespace| namespace.inode == reader.inode));
        for namespace in namespaces {
            if !self.readers.iter().any(|reader| reader.inode == namespace.inode) {
                match NamespaceReaders::open(Path::new("/"), namespace) {
                    Ok(reader) => self.readers.push(reader),
                    Err(error) if self.netns != NetnsArg::All => return Err(error),
                    // It may have gone between being found and being entered.
                    Err(error) => log::warn!("network namespace {}: {error:#}", namespace.inode),
                }
            }
        }
        Ok(())
    }

    /// Marks the sockets of every namespace for the live counts.
    fn mark(&mut self, namespaces: &[Namespace]) -> Result<()> {
        namespaces
            .iter()
            .try_for_each(|namespace| namespace.run(|| self.kernel.mark_sockets()))
    }

    /// Looks for namespaces that came or went, and compares the classic hook's counts with a walk.
    fn look_again(&mut self) -> Result<()> {
        let start = clock::monotonic_ns();
        if self.netns == NetnsArg::All {
            let namespaces = netns::resolve(Path::new("/"), &self.netns)?;
            self.open(&namespaces)?;
        }
        if self.kernel.hook() == Some(Hook::Tracepoint) {
            self.compare_with_walk()?;
        }
        let now = clock::monotonic_ns();
        self.look_again_ns = now + LOOK_AGAIN_NS.max((now - start) * SHARE);
        Ok(())
    }

    /// Counts the sockets anew, transitions having passed that nobody counted.
    fn count_anew(&mut self) -> Result<()> {
        if self.kernel.hook() == Some(Hook::Tracepoint) {
            return self.compare_with_walk();
        }
        let before = self.kernel.ledger()?;
        let (old, _) = self.kernel.live(&before)?;
        self.kernel.start_epoch()?;
        let namespaces = netns::resolve(Path::new("/"), &self.netns)?;
        self.mark(&namespaces)?;
        let after = self.kernel.ledger()?;
        let (new, _) = self.kernel.live(&after)?;
        self.drift = Some(unexplained(&old, &new, moved(&before, &after)));
        Ok(())
    }

    /// Compares the classic hook's counts with a walk, and anchors them there.
    fn compare_with_walk(&mut self) -> Result<()> {
        let (anchor, moved) = self.walk_full()?;
        self.drift = Some(unexplained(&self.anchor, &anchor, moved));
        // A walk during which much moved is the worse anchor of the two, unless the one we have is plainly wrong.
        if moved == 0 || self.drift != Some(0) {
            self.anchor = anchor;
        }
        Ok(())
    }

    /// Full sockets by a walk, less those the ledger has; and how many transitions there were during the walk.
    fn walk_full(&mut self) -> Result<([i64; STATES], u64)> {
        const TRIES: u32 = 5;
        let mut tried = 0;
        loop {
            tried += 1;
            let before = self.kernel.ledger()?;
            let mut pass: Pass = bytemuck::Zeroable::zeroed();
            for reader in &mut self.readers {
                if self.filter.is_any_socket() {
                    add(&mut pass, &reader.sockets.count(StateSet::ALL)?);
                } else {
                    let filter = &self.filter;
                    reader.sockets.walk(StateSet::ALL, |socket| {
                        if filter.matches_ends(socket) {
                            counts::add(&mut pass, socket);
                        }
                    })?;
                }
            }
            let after = self.kernel.ledger()?;
            let moved = moved(&before, &after);
            if moved == 0 || tried == TRIES {
                let mut anchor = [0; STATES];
                for (anchor, (&walked, ledger)) in anchor.iter_mut().zip(pass.full.iter().zip(after.sockets[0])) {
                    *anchor = walked.cast_signed() - ledger;
                }
                return Ok((anchor, moved));
            }
        }
    }

    /// Sockets that fire no transitions, and the kernel's counters, over all namespaces.
    fn read_namespaces(&mut self) -> Result<(Pass, TimeWaitCounters)> {
        let mut walked: Pass = bytemuck::Zeroable::zeroed();
        let mut facts: Option<TimeWaitCounters> = None;
        let any = self.filter.is_any_socket();
        for reader in &mut self.readers {
            let counters = reader.counters.read()?;
            let counter = |name: &str| counters.get("TcpExt", name).filter(|_| any);
            let entered = counter("TW")
                .zip(counter("TWKilled"))
                .map(|(normal, killed)| normal + killed);
            let refused = counter("TCPTimeWaitOverflow");
            let population = reader.sockstat.read()?.tw;
            let limit = match &mut reader.max_tw_buckets {
                Some(sysctl) => sysctl.read()?.and_then(|limit| u64::try_from(limit).ok()),
                None => None,
            };
            let mut pass;
            if let (true, Some(population)) = (any, population) {
                // Of the timewait sockets, which may be many, only those few in FIN_WAIT2 need be copied here.
                pass = reader
                    .sockets
                    .count(StateSet::NONE.with(TcpState::SynRecv).with(TcpState::FinWait2))?;
                let fin_wait2 = pass.timewait[usize::from(TcpState::FinWait2.number())];
                pass.timewait[usize::from(TcpState::TimeWait.number())] = population.saturating_sub(fin_wait2);
            } else {
                pass = bytemuck::Zeroable::zeroed();
                let filter = &self.filter;
                reader.sockets.walk(SILENT, |socket| {
                    if socket.kind != Some(Kind::Full) && filter.matches_ends(socket) {
                        counts::add(&mut pass, socket);
                    }
                })?;
            }
            add(&mut walked, &pass);
            let these = TimeWaitCounters {
                entered: entered.filter(|_| self.counts_entries),
                refused,
                population: Some(pass.timewait.iter().sum()),
                limit,
            };
            facts = Some(facts.map_or(these, |sum| add_facts(&sum, &these)));
        }
        Ok((walked, facts.unwrap_or_default()))
    }
}

/// Adds `other`'s counts to `sum`.
fn add(sum: &mut Pass, other: &Pass) {
    for (sum, other) in bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(sum))
        .iter_mut()
        .zip(bytemuck::cast_slice::<_, u64>(std::slice::from_ref(other)))
    {
        *sum += other;
    }
}

/// The counters of two namespaces together: unknown where one is.
fn add_facts(one: &TimeWaitCounters, other: &TimeWaitCounters) -> TimeWaitCounters {
    let both = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
    TimeWaitCounters {
        entered: both(one.entered, other.entered),
        refused: both(one.refused, other.refused),
        population: both(one.population, other.population),
        limit: both(one.limit, other.limit),
    }
}

/// Sockets by which two counts differ, beyond what `moved` transitions between them explain.
fn unexplained(one: &[i64; STATES], other: &[i64; STATES], moved: u64) -> u64 {
    let differ: u64 = one.iter().zip(other).map(|(one, other)| one.abs_diff(*other)).sum();
    // One transition takes from one state and adds to another.
    differ.saturating_sub(2 * moved)
}

/// Transitions between two readings, by all the ledger counts: those outside `--state` move sockets too.
fn moved(before: &Ledger, after: &Ledger) -> u64 {
    let moves = |ledger: &Ledger| ledger.moves.iter().flatten().sum::<u64>() + ledger.lives;
    let sockets =
        unexplained(&before.sockets[0], &after.sockets[0], 0) + unexplained(&before.sockets[1], &after.sockets[1], 0);
    (moves(after) - moves(before)).max(sockets)
}
