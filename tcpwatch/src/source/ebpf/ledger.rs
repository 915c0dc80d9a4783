//! The ledger, mapped into our memory: reading it is no system call, and disturbs no program.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};

use anyhow::{Context, Result, bail};
use aya::maps::Map;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tcpwatch_common::{Evidence, Ledger};

use crate::model::ending;

/// The counts of all CPUs together, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSum {
    /// All but `ends`, which is empty.
    pub counts: Ledger,
    /// Connections ended, by [`tcpwatch_common::Evidence::key`].
    pub ends: BTreeMap<u64, i64>,
}

impl LedgerSum {
    /// Ends that only a reset can explain, which may still come.
    pub(in crate::source) fn awaiting_reset(&self) -> i64 {
        let awaiting = self
            .ends
            .iter()
            .filter(|(key, _)| ending::awaits_reset(Evidence::of_key(**key)));
        awaiting.map(|(_, count)| count).sum()
    }

    fn of(ledgers: impl IntoIterator<Item = Ledger>) -> Self {
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

/// The map of ledgers, one a CPU.
pub(super) struct LedgerMap {
    memory: NonNull<Ledger>,
    cpus: usize,
    /// Keeps the map open.
    _map: Map,
}

// SAFETY: the memory is read only, and lives as long as this does, whichever thread it is on.
unsafe impl Send for LedgerMap {}

impl LedgerMap {
    /// Maps `map` into memory.
    pub(super) fn of(map: Map) -> Result<Self> {
        let Map::Array(data) = &map else {
            bail!("the BPF object's ledger is no array")
        };
        let cpus = usize::try_from(data.info()?.max_entries())?;
        // SAFETY: a new mapping at an address of the kernel's choice, of no memory of ours.
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
        let memory = NonNull::new(memory.cast()).context("the ledger is mapped nowhere")?;
        Ok(Self {
            memory,
            cpus,
            _map: map,
        })
    }

    /// The sum over the CPUs.
    ///
    /// The CPUs go on while they are read one by one: what moved from one to another in between would be seen twice, or not
    /// at all. So it is read again until nothing moved, or for a few times.
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

    /// Records and amendments lost so far: two words a CPU, for those who ask often.
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
        LedgerSum::of((0..self.cpus).map(|cpu| unsafe { read(self.memory.add(cpu)) }))
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
        // SAFETY: the index is within the ledger the caller vouches for.
        *word = unsafe { from.cast::<u64>().add(index).read_volatile() };
    }
    ledger
}

impl Drop for LedgerMap {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `of`, of the same length, and nothing refers to it any more.
        let _gone = unsafe { munmap(self.memory.as_ptr().cast(), self.cpus * size_of::<Ledger>()) };
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::evidence::{ENDS, EndCount};

    use super::*;

    #[test]
    fn ends_of_one_kind_add_up_and_there_is_no_limit_to_kinds() {
        let (mut one, mut other): (Ledger, Ledger) = bytemuck::Zeroable::zeroed();
        one.ends[5] = EndCount { key: 7, count: 3 };
        for (key, place) in (7..).zip(&mut other.ends) {
            *place = EndCount { key, count: -1 };
        }
        one.ends[6] = EndCount { key: 1, count: 1 };
        (one.uncounted_ends, other.uncounted_ends) = (4, 5);
        let sum = LedgerSum::of([one, other]);
        assert_eq!((sum.ends[&7], sum.ends[&8], sum.ends[&1]), (2, -1, 1));
        assert_eq!((sum.ends.len(), sum.counts.uncounted_ends), (ENDS + 1, 9));
    }
}
