//! The counts of a host: ledger, walks and counters of every namespace looked at.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tcpwatch_common::Evidence;

use super::host_counters::HostCounters;
use super::listener_drops::ListenerDrops;
use super::state_counter::StateCounter;
use crate::clock;
use crate::input::counter::Counter;
use crate::input::netns_selector::NetnsSelector;
use crate::input::{Input, LedgerSample, PortsSample};
use crate::model::filter::Filter;
use crate::source::ebpf::{Kernel, LedgerSum};
use crate::source::namespace::NamespaceReaders;
use crate::sys::descriptor_limit;
use crate::sys::netns::{self, Namespace};

/// Every so often namespaces are looked for again (`--netns all`), and the counts are compared with a walk.
const LOOK_AGAIN_NS: u64 = 10_000_000_000;

/// Of the time, at most a hundredth is spent on walks nobody waits for.
pub(super) const SHARE: u64 = 100;

/// What is read of a host at the end of an interval.
pub(super) struct IntervalReader {
    netns: NetnsSelector,
    places: Places,
    state_counter: StateCounter,
    host_counters: HostCounters,
    listener_drops: ListenerDrops,
    /// What the namespaces' listeners had dropped by the last reading; `None` where the kernel does not count it.
    drops_before: Option<u64>,
    /// Ends that only a reset could have explained, and no reset came; see [`read_explained`].
    unexplained: i64,
    look_again_ns: u64,
    ports_again_ns: u64,
}

/// The namespaces looked at, and what is read of each.
pub(super) struct Places {
    pub(super) namespaces: Vec<Namespace>,
    pub(super) readers: Vec<NamespaceReaders>,
}

impl IntervalReader {
    /// Opens what is read of each of `namespaces`, and counts the sockets there are.
    ///
    /// # Errors
    /// One line: what cannot be opened, and why.
    pub(super) fn start(
        kernel: &mut Kernel,
        filter: &Filter,
        netns: NetnsSelector,
        namespaces: Vec<Namespace>,
    ) -> Result<Self> {
        let mut places = Places {
            namespaces: Vec::new(),
            readers: Vec::new(),
        };
        places.become_these(namespaces, &netns)?;
        let state_counter = StateCounter::start(kernel, &mut places, filter)?;
        Ok(Self {
            netns,
            places,
            state_counter,
            host_counters: HostCounters::default(),
            listener_drops: ListenerDrops::default(),
            drops_before: None,
            unexplained: 0,
            look_again_ns: clock::monotonic_ns() + LOOK_AGAIN_NS,
            ports_again_ns: 0,
        })
    }

    /// Reads the counts, and gives them to `each`, then a tick, and then what listeners dropped, if that is needed: that may take a while.
    ///
    /// # Errors
    /// Something that could be read before cannot be read now.
    pub(super) fn sample(
        &mut self,
        kernel: &mut Kernel,
        filter: &Filter,
        needs_drops: bool,
        each: &mut dyn FnMut(Input),
    ) -> Result<()> {
        if clock::monotonic_ns() >= self.look_again_ns {
            self.look_again(kernel, filter)?;
        }
        self.state_counter.catch_up(kernel, &mut self.places, filter)?;
        let (walked, facts) = self.host_counters.read(&mut self.places.readers, filter)?;
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
                .map(|(key, count)| (Evidence::of_key(key), count))
                .collect(),
            uncounted_ends: ledger.uncounted_ends,
            lost: ledger.lost,
            missed,
            missed_resets: kernel.missed_resets(),
            unmarked,
            drift: self.state_counter.take_drift(),
        })));
        each(super::tick());
        if needs_drops { self.drops(drops, each) } else { Ok(()) }
    }

    /// Who holds which ephemeral ports now; `None` where it is too early to look again, where only some connections are looked at, or
    /// there are several namespaces, each with ports of its own.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub(super) fn ports(&mut self, filter: &Filter) -> Result<Option<PortsSample>> {
        let start = clock::monotonic_ns();
        let [reader] = self.places.readers.as_mut_slice() else {
            return Ok(None);
        };
        // The openings of a filter's connections do not tell when the ports of all run out.
        if start < self.ports_again_ns || !filter.is_any_socket() {
            return Ok(None);
        }
        let sample = reader.ports.sample(&mut reader.sockets)?;
        let now = clock::monotonic_ns();
        self.ports_again_ns = now + (now - start) * SHARE;
        Ok(Some(sample))
    }

    /// Gives `each` the listeners that dropped something since this was called last, whatever the filter. They are not looked at where
    /// the kernel's count of `drops` stands still.
    fn drops(&mut self, drops: Option<u64>, each: &mut dyn FnMut(Input)) -> Result<()> {
        let before = std::mem::replace(&mut self.drops_before, drops);
        if drops.is_none() || drops != before {
            each(Input::ListenerDrops(
                self.listener_drops.look(&mut self.places.readers)?,
            ));
        }
        Ok(())
    }

    /// Says that the hook is detached: sockets go on, and are counted no more, and what a walk found now would be no drift.
    pub(super) fn detached(&mut self) {
        self.look_again_ns = u64::MAX;
    }

    /// Looks for namespaces that came or went, and compares the counts with a walk, which also finds the sockets that were
    /// there before a namespace was found.
    fn look_again(&mut self, kernel: &mut Kernel, filter: &Filter) -> Result<()> {
        let start = clock::monotonic_ns();
        if self.netns == NetnsSelector::All {
            let found = netns::resolve(Path::new("/"), &self.netns)?;
            self.places.become_these(found, &self.netns)?;
        }
        self.state_counter.compare(kernel, &mut self.places, filter)?;
        let now = clock::monotonic_ns();
        self.look_again_ns = now + LOOK_AGAIN_NS.max((now - start) * SHARE);
        Ok(())
    }
}

/// Reads the ledger until every end since the last reading is explained, at most `TRIES` times.
///
/// The kernel announces the end of a connection that it resets before the reset itself. A reading in between would show an end of
/// unknown kind, which the next one would have to take back.
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

impl Places {
    /// Opens the readers of those of `namespaces` that have none, and closes those of namespaces that are gone: an open
    /// one keeps its namespace alive.
    fn become_these(&mut self, namespaces: Vec<Namespace>, netns: &NetnsSelector) -> Result<()> {
        self.readers
            .retain(|reader| namespaces.iter().any(|namespace| namespace.inode == reader.inode));
        for namespace in &namespaces {
            if self.readers.iter().any(|reader| reader.inode == namespace.inode) {
                continue;
            }
            match NamespaceReaders::open(Path::new("/"), namespace) {
                Ok(reader) => self.readers.push(reader),
                // Of all, one may have gone between being found and being entered.
                Err(error) if *netns == NetnsSelector::All && !descriptor_limit::is_reached(&error) => {
                    log::warn!("network namespace {}: {error:#}", namespace.inode);
                }
                Err(error) => return Err(error),
            }
        }
        self.namespaces = namespaces;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;
    use tcpwatch_common::evidence::{Evidence, KNOWN, RESET_AFTER, RESET_SENT};

    use super::*;

    /// Ends of connections in `ESTABLISHED`: so many that no reset explains, and so many that one does.
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
