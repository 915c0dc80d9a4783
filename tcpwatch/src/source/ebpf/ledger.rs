//! The ledger, mapped into memory. A read needs no system call and disturbs no BPF program.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, bail};
use aya::maps::Map;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tcpwatch_common::{Evidence, Ledger};

use crate::model::ending;

/// The counts at one moment, summed over all CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSum {
    /// All counts except `ends`, which is empty here.
    pub counts: Ledger,
    /// Finished connections, by [`tcpwatch_common::Evidence::key`].
    pub ends: BTreeMap<u64, i64>,
}

impl LedgerSum {
    /// Endings that only a reset can explain, which may still follow.
    pub(in crate::source) fn awaiting_reset(&self) -> i64 {
        let awaiting = self
            .ends
            .iter()
            .filter(|(key, _)| ending::awaits_reset(Evidence::from_key(**key)));
        awaiting.map(|(_, count)| count).sum()
    }

    fn sum(ledgers: impl IntoIterator<Item = Ledger>) -> Self {
        let mut sum = Self {
            counts: bytemuck::Zeroable::zeroed(),
            ends: BTreeMap::new(),
        };
        for ledger in ledgers {
            sum.counts.add(&ledger);
            for end in ledger.ends.iter().filter(|end| end.key != 0) {
                let count = sum.ends.entry(end.key).or_default();
                *count = count.wrapping_add(end.count);
            }
        }
        sum
    }
}

/// The map of ledgers, several for each CPU.
pub(super) struct LedgerMap {
    memory: NonNull<Ledger>,
    cpus: usize,
    /// Keeps the map open.
    _map: Map,
}

// SAFETY: the memory is read-only and lives as long as this value, on any thread.
unsafe impl Send for LedgerMap {}

impl LedgerMap {
    /// Maps `map` into memory.
    pub(super) fn open(map: Map) -> Result<Self> {
        let Map::Array(data) = &map else {
            bail!("the BPF object's ledger is not an array")
        };
        let cpus = usize::try_from(data.info()?.max_entries())?;
        // SAFETY: a new mapping at an address that the kernel chooses; no existing memory changes.
        let memory = unsafe {
            mmap(
                ptr::null_mut(),
                cpus * size_of::<Ledger>(),
                ProtFlags::READ,
                MapFlags::SHARED,
                data.fd().as_fd(),
                0,
            )
        }
        .context("cannot map the ledger into memory")?;
        let memory = NonNull::new(memory.cast()).context("the kernel mapped the ledger at address 0")?;
        Ok(Self {
            memory,
            cpus,
            _map: map,
        })
    }

    /// The sum over the CPUs.
    ///
    /// The CPUs continue while their ledgers are read one by one, so a change may be seen partly. So this reads again until
    /// nothing changed, at most `TRIES` times.
    pub(super) fn sum(&self) -> LedgerSum {
        const TRIES: u32 = 8;
        let mut sum = self.sum_once();
        for _ in 0..TRIES {
            let again = self.sum_once();
            if again == sum {
                break;
            }
            sum = again;
        }
        sum
    }

    /// Lost records and missed resets so far. Reads only two words for each ledger, so it is cheap enough to call often.
    pub(super) fn lost(&self) -> (u64, u64) {
        let of_cpu = |cpu| {
            let ledger = self.memory.as_ptr().wrapping_add(cpu);
            // SAFETY: the mapping holds `cpus` ledgers, and each word is read whole.
            unsafe {
                (
                    (&raw const (*ledger).lost).read_volatile(),
                    (&raw const (*ledger).missed_resets).read_volatile(),
                )
            }
        };
        (0..self.cpus)
            .map(of_cpu)
            .fold((0, 0), |sum, lost| (sum.0 + lost.0, sum.1 + lost.1))
    }

    fn sum_once(&self) -> LedgerSum {
        // SAFETY: the mapping holds `cpus` ledgers; the kernel writes them word by word, and so they are read.
        LedgerSum::sum((0..self.cpus).map(|cpu| unsafe { read(self.memory.add(cpu)) }))
    }
}

/// Copies a ledger that the kernel side may be writing, each word whole.
///
/// # Safety
/// `from` points at a mapped ledger.
unsafe fn read(from: NonNull<Ledger>) -> Ledger {
    let mut ledger: Ledger = bytemuck::Zeroable::zeroed();
    let words = bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(&mut ledger));
    for (index, word) in words.iter_mut().enumerate() {
        // SAFETY: the caller guarantees that `from` is a ledger, and the index is within it.
        *word = unsafe { from.cast::<u64>().add(index).read_volatile() };
    }
    ledger
}

impl Drop for LedgerMap {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `open`, with the same length, and no references to it exist.
        let _gone = unsafe { munmap(self.memory.as_ptr().cast(), self.cpus * size_of::<Ledger>()) };
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::evidence::{ENDS, EndCount};

    use super::*;

    #[test]
    fn endings_add_up_by_kind_without_a_limit() {
        let (mut one, mut other): (Ledger, Ledger) = bytemuck::Zeroable::zeroed();
        one.ends[5] = EndCount { key: 7, count: 3 };
        for (key, place) in (7..).zip(&mut other.ends) {
            *place = EndCount { key, count: -1 };
        }
        one.ends[6] = EndCount { key: 1, count: 1 };
        (one.uncounted_ends, other.uncounted_ends) = (4, 5);
        let sum = LedgerSum::sum([one, other]);
        assert_eq!((sum.ends[&7], sum.ends[&8], sum.ends[&1]), (2, -1, 1));
        assert_eq!((sum.ends.len(), sum.counts.uncounted_ends), (ENDS + 1, 9));
    }
}
