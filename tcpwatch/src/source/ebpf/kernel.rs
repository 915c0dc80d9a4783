//! The loaded BPF programs and their maps: the ledger, the records and the missed events.

use std::fmt;
use std::mem::{self, offset_of};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::RingBuf;
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::{BtfTracePoint, TracePoint};
use aya::{Btf, Ebpf};
use aya_log::EbpfLogger;
use log::Log;
use tcpwatch_common::ledger::{Count, STATES};
use tcpwatch_common::{Ledger, names};

use super::bpf;
use super::chain::Suffix;
use super::feature::Features;
use super::histograms::Histograms;
use super::ledger::{LedgerMap, LedgerSum};
use super::stack_ring::StackRing;
use super::stream::Stream;
use crate::input::reset_reasons::Reasons;

/// The kind of the attached hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The BTF-typed tracepoint.
    TpBtf,
    /// The classic tracepoint.
    Tracepoint,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// Whether the kernel skips runs of programs on the hook, and counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Skips {
    /// The kernel counts the runs that it skips.
    Counted,
    /// The kernel has no such count (before Linux 5.12), and skips none (before 6.1).
    Never,
    /// The kernel may skip runs, but does not count them or hides the number.
    Uncounted,
}

/// A link that keeps an entry program attached.
pub(super) enum Link {
    Typed(&'static str, BtfTracePointLinkId),
    Classic(TracePointLinkId),
}

/// The loaded BPF programs. Dropping this detaches everything; nothing is pinned.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Option<Arc<Btf>>,
    /// The current count of sockets, and the values of its bank at its start.
    pub(super) count: Count,
    pub(super) before_count: [i64; STATES],
    /// The links, in the order in which they were attached.
    pub(super) links: Vec<Link>,
    pub(super) logger: Option<EbpfLogger<&'static dyn Log>>,
    pub(super) hook: Option<Hook>,
    pub(super) marks: bool,
    pub(super) features: Features,
    pub(super) knows_namespaces: bool,
    /// Whether the transitions of each namespace are counted.
    pub(super) counts_namespaces: bool,
    /// One line for each value that stays unknown, with the reason.
    pub(super) unknown: Vec<String>,
    /// Approximate memory of the maps, including maps that were created and dropped before, bytes.
    pub(super) map_bytes: u64,
    pub(super) skips: Skips,
    /// The largest number of missed events read so far.
    pub(super) missed: AtomicU64,
    pub(super) ledger: LedgerMap,
    pub(super) histograms: Option<Histograms>,
    pub(super) reasons: Reasons,
    /// The programs for resets, if all of them are attached.
    pub(super) resets: Option<[&'static str; 2]>,
}

impl Kernel {
    /// The meaning of the kernel's numbers for reset reasons.
    #[must_use]
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// The hook that is attached.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        self.hook
    }

    /// The probed features of this kernel.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether records have the network namespace. Without BTF the classic hook does not know it.
    #[must_use]
    pub fn knows_namespaces(&self) -> bool {
        self.knows_namespaces
    }

    /// One line for each requested value that stays unknown, with the reason.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether marks keep the counts exact from the first row on.
    #[must_use]
    pub fn marks(&self) -> bool {
        self.marks
    }

    /// Detaches the hook. Nothing is counted or sent from now on; earlier counts and records can still be read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<()> {
        // Detach the second copy last: it handles only events for which the kernel skips the first copy.
        for link in mem::take(&mut self.links) {
            match link {
                Link::Typed(name, link) => {
                    let program = self.ebpf.program_mut(name).context("the program is gone")?;
                    <&mut BtfTracePoint>::try_from(program)?.detach(link)?;
                }
                Link::Classic(link) => {
                    let name = Suffix::Classic.entry();
                    let program = self.ebpf.program_mut(name).context("the program is gone")?;
                    <&mut TracePoint>::try_from(program)?.detach(link)?;
                }
            }
        }
        Ok(())
    }

    /// The ledger, summed over the CPUs, without its `ends`.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger_sum().counts
    }

    /// The ledger, summed over the CPUs, with its `ends`.
    #[must_use]
    pub fn ledger_sum(&self) -> LedgerSum {
        self.ledger.sum()
    }

    /// Lost records so far. Cheaper than [`Kernel::ledger`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        let [lost] = self.counters(offset_of!(Ledger, lost));
        lost
    }

    /// The `N` counters at `offset` bytes of the ledger.
    pub(super) fn counters<const N: usize>(&self, offset: usize) -> [u64; N] {
        self.ledger.counters(offset)
    }

    /// The ledger after it has stopped changing. After [`Kernel::detach`] a program may still run in a preempted thread.
    #[must_use]
    pub fn settled_ledger(&self) -> Ledger {
        const STILL: Duration = Duration::from_millis(20);
        const TRIES: u32 = 10;
        let mut ledger = self.ledger();
        for _ in 0..TRIES {
            thread::sleep(STILL);
            let again = self.ledger();
            if again == ledger {
                break;
            }
            ledger = again;
        }
        ledger
    }

    /// Events of the whole host that no copy of the programs handled, before any filter. `None` if the kernel does not count
    /// skipped runs. Since Linux 7.0 it may include events that are between the two copies at the time of the read. It never
    /// decreases.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let missed = self.missed_now()?;
        Some(missed.max(self.missed.fetch_max(missed, Ordering::Relaxed)))
    }

    /// Like [`Kernel::missed`], but it may decrease.
    pub(in crate::source) fn missed_now(&self) -> Option<u64> {
        // Read in this order: the second copy may handle an event between the two reads, and must not be missed.
        let skipped = self.skipped(self.entry()?)?;
        let [taken_over] = self.counters(offset_of!(Ledger, taken_over));
        let [too_deep] = self.counters(offset_of!(Ledger, too_deep));
        Some(skipped.saturating_sub(taken_over) + too_deep)
    }

    /// The name of the entry program that is attached first.
    fn entry(&self) -> Option<&'static str> {
        self.hook.map(|hook| match hook {
            Hook::TpBtf => Suffix::Typed.entry(),
            Hook::Tracepoint => Suffix::Classic.entry(),
        })
    }

    /// Missed resets: the kernel skipped a run, or there was no room for the amendment. `None` if resets are not watched, or if
    /// the kernel does not count skipped runs.
    #[must_use]
    pub fn missed_resets(&self) -> Option<u64> {
        let [mut missed] = self.counters(offset_of!(Ledger, missed_resets));
        for name in self.resets? {
            missed += self.skipped(name)?;
        }
        Some(missed)
    }

    /// Runs of the program `name` that the kernel skipped; `None` if it does not count them.
    pub(super) fn skipped(&self, name: &str) -> Option<u64> {
        match self.skips {
            Skips::Counted => bpf::skipped_runs(self.ebpf.program(name)?.fd().ok()?.as_fd()).ok()?,
            Skips::Never => Some(0),
            Skips::Uncounted => None,
        }
    }

    /// Forwards the log of the BPF programs.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// User stacks lost because their ring buffer was full.
    #[must_use]
    pub fn lost_stacks(&self) -> u64 {
        let [lost] = self.counters(offset_of!(Ledger, lost_stacks));
        lost
    }

    /// Takes the ring buffer of user stacks. Call it once.
    ///
    /// # Errors
    /// It was taken before, or cannot be mapped.
    pub fn stacks(&mut self) -> Result<StackRing> {
        let map = self
            .ebpf
            .take_map(names::MAP_STACKS)
            .context("the ring buffer of stacks was taken before")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer of stacks")?;
        Ok(StackRing::new(ring))
    }

    /// Takes the stream of records. Call it once, in a tokio runtime.
    ///
    /// # Errors
    /// It was taken before, or cannot be mapped.
    pub fn stream(&mut self) -> Result<Stream> {
        let map = self
            .ebpf
            .take_map(names::MAP_EVENTS)
            .context("the ring buffer of records was taken before")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer; try a smaller --ring-size")?;
        Ok(Stream::new(ring)?)
    }
}
