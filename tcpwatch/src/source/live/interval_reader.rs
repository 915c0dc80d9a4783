//! Reads the counts at the end of an interval: the ledger, socket walks and kernel counters of all watched namespaces.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tcpwatch_common::Evidence;
use tcpwatch_common::ledger::Pass;

use super::host_counters::HostCounters;
use super::listener_drops::ListenerDrops;
use super::state_counter::StateCounter;
use crate::clock;
use crate::input::counter::Counter;
use crate::input::namespace::NamespaceNames;
use crate::input::netns_selector::NetnsSelector;
use crate::input::{HostFacts, Input, LedgerSample};
use crate::model::filter::Filter;
use crate::source::ebpf::{Kernel, LedgerSum};
use crate::source::namespace_names::name_all;
use crate::source::namespaces::WatchedNamespaces;
use crate::source::owner_resolver::{ProcReader, ProcThread};
use crate::source::ports::PortSettings;
use crate::sys::netns::{self, Namespace};

/// Interval between searches for new namespaces (`--netns all`) and comparisons of the counts with a walk.
const LOOK_AGAIN_NS: u64 = 10_000_000_000;

/// The loop waits for the thread that reads /proc for this long at most: enough on most hosts, and no record is lost meanwhile.
const PROC_MAY_TAKE: Duration = Duration::from_millis(20);

/// Background walks take at most 1/100 of the time.
pub(super) const SHARE: u64 = 100;

/// A walk of the ports is repeated if this thread was stopped for so long in it, ns: it may lack sockets that were opened meanwhile.
const STOPPED_NS: u64 = 1_000_000;

/// Walks of the ports at most, at one moment.
const WALKS_MAX: u32 = 4;

/// The namespaces there are, and their names.
type Found = (Vec<Namespace>, NamespaceNames);

/// Reads the counts at the end of an interval.
pub(super) struct IntervalReader {
    /// What a socket itself shows; its owner is of no account.
    filter: Filter,
    netns: NetnsSelector,
    proc: Arc<ProcThread>,
    /// The result of the search for namespaces in /proc.
    found: Option<Receiver<Result<Found>>>,
    /// The names of the namespaces by the last search, until they are emitted.
    names: Option<NamespaceNames>,
    places: WatchedNamespaces,
    state_counter: StateCounter,
    host_counters: HostCounters,
    listener_drops: ListenerDrops,
    /// The drops of all listeners at the last read; `None` if the kernel does not count them.
    drops_before: Option<u64>,
    /// Endings that only a reset could explain, but no reset arrived; see [`read_explained`].
    unexplained: i64,
    recount_ns: u64,
    ports_again_ns: u64,
    /// The sockets and counters at the moment in which the hook was detached, for the last interval.
    last: Option<(Pass, HostFacts)>,
}

impl IntervalReader {
    /// Opens the readers of each of `namespaces`, and counts the existing sockets.
    ///
    /// # Errors
    /// One line: the reader that cannot be opened, and why.
    pub(super) fn start(
        kernel: &mut Kernel,
        filter: Filter,
        netns: NetnsSelector,
        namespaces: Vec<Namespace>,
        proc: Arc<ProcThread>,
    ) -> Result<Self> {
        let mut places = WatchedNamespaces::new(namespaces, netns == NetnsSelector::All);
        let state_counter = StateCounter::start(kernel, &mut places, &filter)?;
        Ok(Self {
            filter,
            netns,
            proc,
            found: None,
            names: None,
            places,
            state_counter,
            host_counters: HostCounters::default(),
            listener_drops: ListenerDrops::default(),
            drops_before: None,
            unexplained: 0,
            recount_ns: clock::monotonic_ns() + LOOK_AGAIN_NS,
            ports_again_ns: 0,
            last: None,
        })
    }

    /// Reads the counts and passes them to `each`, then a tick. If `needs_drops`, the drops of listeners follow, which can take
    /// some time.
    ///
    /// # Errors
    /// A file or map that could be read before cannot be read now.
    pub(super) fn sample(&mut self, kernel: &mut Kernel, needs_drops: bool, each: &mut dyn FnMut(Input)) -> Result<()> {
        let (walked, facts) = if let Some(last) = self.last.take() {
            last
        } else {
            let is_due = clock::monotonic_ns() >= self.recount_ns;
            if is_due || self.places.misses_one() {
                self.recount(kernel, is_due)?;
            }
            self.state_counter.catch_up(kernel, &mut self.places, &self.filter)?;
            let transitions = kernel.transitions_by_namespace()?;
            self.host_counters
                .read(&mut self.places, &self.filter, transitions.as_ref())?
        };
        if let Some(names) = self.names.take() {
            each(Input::NamespaceNames(names));
        }
        let missed = kernel.missed();
        let sum = read_explained(|| kernel.ledger_sum(), &mut self.unexplained);
        let LedgerSum { counts: ledger, ends } = sum;
        let (sockets, unmarked) = self.state_counter.now(kernel, &ledger)?;
        each(Input::Sockets(Box::new(walked)));
        let drops = facts.counters.get(Counter::ListenDrops);
        each(Input::HostFacts(Box::new(facts)));
        each(Input::Ledger(Box::new(LedgerSample {
            moves: ledger.moves,
            sockets,
            ends: ends
                .into_iter()
                .map(|(key, count)| (Evidence::from_key(key), count))
                .collect(),
            uncounted_ends: ledger.uncounted_ends,
            lost: ledger.lost,
            missed,
            missed_resets: kernel.missed_resets(),
            unmarked,
            drift: self.state_counter.take_drift(),
        })));
        each(super::tick());
        if needs_drops {
            self.drops(kernel, drops, each)
        } else {
            Ok(())
        }
    }

    /// Walks the ephemeral ports in use, and passes them to `each`. Several namespaces have separate ports, which are not walked. There
    /// is no walk if the last one is too recent.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub(super) fn ports(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        let start = clock::monotonic_ns();
        if self.places.all().len() != 1 {
            each(Input::Ports(None));
            return Ok(());
        }
        if start < self.ports_again_ns {
            return Ok(());
        }
        let cpu_ns = clock::thread_cpu_ns();
        let mut walks = 0;
        let samples = self.places.read_each(|reader| {
            let (mut settings, netns) = (PortSettings::open(Path::new("/")), reader.inode());
            loop {
                let timed = settings.sample(netns, reader.sockets()?)?;
                walks += 1;
                if timed.stopped_ns < STOPPED_NS || walks == WALKS_MAX {
                    break Ok(timed.sample);
                }
            }
        })?;
        // Of the time of this thread, so that a busy machine does not keep a wrong number for longer.
        let took_ns = clock::thread_cpu_ns().saturating_sub(cpu_ns);
        self.ports_again_ns = clock::monotonic_ns() + took_ns * SHARE;
        for sample in samples {
            each(Input::Ports(Some(Box::new(sample))));
        }
        Ok(())
    }

    /// Passes to `each` the listeners that dropped packets since the last call, regardless of the filter. Listeners are not
    /// read if the kernel's count `drops` has not changed.
    fn drops(&mut self, kernel: &Kernel, drops: Option<u64>, each: &mut dyn FnMut(Input)) -> Result<()> {
        let before = std::mem::replace(&mut self.drops_before, drops);
        if drops.is_none() || drops != before {
            each(Input::ListenerDrops(
                self.listener_drops.read(&mut self.places, kernel)?,
            ));
        }
        Ok(())
    }

    /// Reads what the last interval needs besides the ledger. To be called when the hook has just been detached: sockets and the kernel's
    /// counters go on to change, and would no longer agree with the ledger.
    ///
    /// # Errors
    /// As [`Self::sample`].
    pub(super) fn detached(&mut self) -> Result<()> {
        self.last = Some(self.host_counters.read(&mut self.places, &self.filter, None)?);
        Ok(())
    }

    /// Finds new and removed namespaces, and compares the counts with a walk if that `is_due`. The walk also counts the sockets that
    /// existed before a namespace was found.
    fn recount(&mut self, kernel: &mut Kernel, is_due: bool) -> Result<()> {
        let start = clock::monotonic_ns();
        if self.netns == NetnsSelector::All {
            match self.namespaces() {
                Ok(found) => {
                    let (namespaces, names) = found?;
                    self.names = Some(names);
                    let there = self.places.update(namespaces);
                    kernel.retain_namespaces(&there);
                }
                // The next interval takes them.
                Err(RecvTimeoutError::Timeout) if !self.proc.is_stuck() => return Ok(()),
                Err(_) => {}
            }
            self.found = None;
        }
        if !is_due {
            return Ok(());
        }
        self.state_counter.compare(kernel, &mut self.places, &self.filter)?;
        let now = clock::monotonic_ns();
        self.recount_ns = now + LOOK_AGAIN_NS.max((now - start) * SHARE);
        Ok(())
    }

    /// The namespaces there are, by /proc, if that is known soon.
    fn namespaces(&mut self) -> Result<Result<Found>, RecvTimeoutError> {
        if let Some(found) = &self.found {
            return found.recv_timeout(Duration::ZERO);
        }
        let (done, found) = channel();
        let list_namespaces = move |_: &mut ProcReader| {
            let root = Path::new("/");
            let found = netns::resolve(root, &NetnsSelector::All).map(|namespaces| {
                let names = name_all(root, &namespaces);
                (namespaces, names)
            });
            drop(done.send(found));
        };
        // Where it is refused the channel is closed.
        let _ = self.proc.post(list_namespaces);
        self.found.insert(found).recv_timeout(PROC_MAY_TAKE)
    }
}

/// Reads the ledger until every ending since the last read is explained, at most `TRIES` times.
///
/// The kernel reports the end of a connection before the reset that ends it. A read in between would show an unknown ending,
/// which the next read would have to take back.
fn read_explained(mut read: impl FnMut() -> LedgerSum, unexplained: &mut i64) -> LedgerSum {
    const TRIES: u32 = 5;
    const RESET_MAY_TAKE: Duration = Duration::from_millis(1);
    let mut sum = read();
    for _ in 0..TRIES {
        if sum.awaiting_reset() <= *unexplained {
            break;
        }
        thread::sleep(RESET_MAY_TAKE);
        sum = read();
    }
    *unexplained = sum.awaiting_reset();
    sum
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::evidence::{Evidence, KNOWN, RESET_AFTER, RESET_SENT};

    use super::*;

    /// Endings in `ESTABLISHED`: this many without a reset, and this many with one.
    fn ends(unexplained: i64, reset: i64) -> LedgerSum {
        let evidence = |flags| Evidence {
            err: 0,
            flags: KNOWN | flags,
            from: TcpState::Established.number(),
            shutdown: 3,
            reason: 0,
            reserved: 0,
        };
        LedgerSum {
            counts: bytemuck::Zeroable::zeroed(),
            ends: [
                (evidence(0).key(), unexplained),
                (evidence(RESET_SENT | RESET_AFTER).key(), reset),
            ]
            .into(),
        }
    }

    #[test]
    fn an_end_is_read_again_until_its_reset_has_come() {
        let mut readings = [ends(1, 0), ends(1, 0), ends(0, 1), ends(9, 9)].into_iter();
        let mut unexplained = 0;
        let mut read = || readings.next().expect("it is not read again without need");
        assert_eq!(read_explained(&mut read, &mut unexplained), ends(0, 1));
        assert_eq!(unexplained, 0);
    }

    #[test]
    fn an_end_that_no_reset_explains_is_waited_for_once() {
        let mut unexplained = 0;
        let mut times = 0;
        let mut read = || {
            times += 1;
            ends(2, 5)
        };
        assert_eq!(read_explained(&mut read, &mut unexplained), ends(2, 5));
        assert_eq!(read_explained(&mut read, &mut unexplained), ends(2, 5));
        assert_eq!((times, unexplained), (6 + 1, 2));
    }
}
