//! The ledger, mapped into memory. A read needs no system call and disturbs no BPF program.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::Map;
use tcpwatch_common::{Evidence, Ledger};

use super::mapped_words::MappedWords;
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

/// The map of ledgers, [`tcpwatch_common::ledger::BANKS`] for each CPU.
pub(super) struct LedgerMap {
    words: MappedWords,
}

/// Words of a ledger.
const WORDS: usize = size_of::<Ledger>() / size_of::<u64>();

impl LedgerMap {
    /// Maps `map` into memory.
    pub(super) fn open(map: Map) -> Result<Self> {
        Ok(Self {
            words: MappedWords::new(map, WORDS)?,
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

    /// The `N` counters at `offset` bytes of a ledger, each summed over the CPUs. Cheap enough to call often.
    pub(super) fn counters<const N: usize>(&self, offset: usize) -> [u64; N] {
        let mut sums = [0u64; N];
        for start in self.starts() {
            for (word, sum) in (start + offset / size_of::<u64>()..).zip(&mut sums) {
                *sum = sum.wrapping_add(self.words.word(word));
            }
        }
        sums
    }

    /// Where each ledger starts.
    fn starts(&self) -> impl Iterator<Item = usize> {
        (0..self.words.len()).step_by(WORDS)
    }

    fn sum_once(&self) -> LedgerSum {
        LedgerSum::sum(self.starts().map(|start| {
            let mut ledger: Ledger = bytemuck::Zeroable::zeroed();
            let words = bytemuck::cast_slice_mut::<_, u64>(std::slice::from_mut(&mut ledger));
            for (offset, word) in words.iter_mut().enumerate() {
                *word = self.words.word(start + offset);
            }
            ledger
        }))
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
