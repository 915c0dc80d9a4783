//! The kernel side, loaded: its ledger, its records, and what it missed.

use std::fmt;
use std::mem;
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

use super::chain::Suffix;
use super::feature::Features;
use super::ledger::{LedgerMap, LedgerSum};
use super::misses;
use super::stacks::StackRing;
use super::stream::Stream;
use crate::input::reset_reasons::Reasons;

/// Which hook is attached.
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
    /// The kernel may skip runs, and does not count them, or hides their number.
    Uncounted,
}

/// A link that holds an entry program.
pub(super) enum Link {
    Typed(&'static str, BtfTracePointLinkId),
    Classic(TracePointLinkId),
}

/// The loaded kernel side. Dropping it detaches everything; nothing is pinned.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Option<Arc<Btf>>,
    /// The count of sockets that is kept, and what its bank held when it began.
    pub(super) count: Count,
    pub(super) before_count: [i64; STATES],
    /// In the order in which they were attached.
    pub(super) links: Vec<Link>,
    pub(super) logger: Option<EbpfLogger<&'static dyn Log>>,
    pub(super) hook: Option<Hook>,
    pub(super) marks: bool,
    pub(super) features: Features,
    pub(super) knows_namespaces: bool,
    /// A line for each thing that stays unknown, with the reason.
    pub(super) unknown: Vec<String>,
    /// Approximate bytes of memory of its maps, and of the maps that were made and dropped before.
    pub(super) map_bytes: u64,
    pub(super) skips: Skips,
    /// The largest number of missed events that was read.
    pub(super) missed: AtomicU64,
    pub(super) ledger: LedgerMap,
    pub(super) reasons: Reasons,
    /// The programs that see resets, where all of them are attached.
    pub(super) resets: Option<[&'static str; 2]>,
}

impl Kernel {
    /// What the kernel's numbers for the reason of a reset stand for.
    #[must_use]
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// The hook that is attached.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        self.hook
    }

    /// What this kernel was found to offer.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether records name the network namespace: without BTF the classic hook does not know it.
    #[must_use]
    pub fn knows_namespaces(&self) -> bool {
        self.knows_namespaces
    }

    /// A line for each thing that was asked for and stays unknown, with the reason.
    #[must_use]
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Whether marks keep the counts exact from the first row on.
    #[must_use]
    pub fn marks(&self) -> bool {
        self.marks
    }

    /// Detaches the hook: from now on nothing is counted and nothing is sent. What was, can still be read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<()> {
        // The second copy goes last: without the first it handles nothing, and until then what the first is skipped for.
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

    /// Records lost so far, more cheaply than by [`Kernel::ledger`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ledger.lost().0
    }

    /// The ledger once nothing moves it any more: after [`Kernel::detach`] a run may still be under way, in a thread that was preempted.
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

    /// Events of the whole host that no copy of the programs handled, before any filter; `None` where the kernel does not count the
    /// runs that it skips. Since Linux 7.0 it may be too high by the events that are between the two copies while it is read; it never
    /// goes down.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let missed = self.missed_now()?;
        Some(missed.max(self.missed.fetch_max(missed, Ordering::Relaxed)))
    }

    /// The same as it is read, which may be lower than it was.
    pub(in crate::source) fn missed_now(&self) -> Option<u64> {
        // Read in this order: what is skipped after the first reading, the second copy may have handled before the other.
        let skipped = self.skipped(self.entry()?)?;
        let ledger = self.ledger();
        Some(skipped.saturating_sub(ledger.taken_over) + ledger.too_deep)
    }

    /// The name of the entry program that is attached first.
    fn entry(&self) -> Option<&'static str> {
        self.hook.map(|hook| match hook {
            Hook::TpBtf => Suffix::Typed.entry(),
            Hook::Tracepoint => Suffix::Classic.entry(),
        })
    }

    /// Resets that were not heard of: the kernel skipped a run, or there was no room for what they change. `None` where resets are
    /// not watched, or the kernel does not count what it skips.
    #[must_use]
    pub fn missed_resets(&self) -> Option<u64> {
        let mut unheard = self.ledger.lost().1;
        for name in self.resets? {
            unheard += self.skipped(name)?;
        }
        Some(unheard)
    }

    /// Runs of the program `name` that the kernel skipped; `None` where it does not count them.
    pub(super) fn skipped(&self, name: &str) -> Option<u64> {
        match self.skips {
            Skips::Counted => misses::of(self.ebpf.program(name)?.fd().ok()?.as_fd()).ok()?,
            Skips::Never => Some(0),
            Skips::Uncounted => None,
        }
    }

    /// Passes on what the kernel side has logged.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// User stacks for which there was no room in their ring buffer.
    #[must_use]
    pub fn lost_stacks(&self) -> u64 {
        self.ledger().lost_stacks
    }

    /// The user stacks, where they are wanted. Called once.
    ///
    /// # Errors
    /// They were taken already, or cannot be mapped.
    pub fn stacks(&mut self) -> Result<StackRing> {
        let map = self
            .ebpf
            .take_map(names::MAP_STACKS)
            .context("the stacks are taken already")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer of stacks")?;
        Ok(StackRing::new(ring))
    }

    /// The stream. Called once, within a tokio runtime.
    ///
    /// # Errors
    /// It was taken already, or cannot be mapped.
    pub fn stream(&mut self) -> Result<Stream> {
        let map = self
            .ebpf
            .take_map(names::MAP_EVENTS)
            .context("the stream is taken already")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer; try a smaller --ring-size")?;
        Ok(Stream::new(ring)?)
    }
}
