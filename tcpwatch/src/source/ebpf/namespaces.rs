//! Reads how many transitions each network namespace had.

use anyhow::{Context, Result};
use aya::maps::HashMap;
use hashbrown::{HashMap as Table, HashSet};
use tcpwatch_common::names;

use super::Kernel;
use super::map_sizes::NAMESPACES;

impl Kernel {
    /// Transitions by inode number of their namespace, since the start. A namespace that is not among them had none. `None` if that is
    /// not known: it is not counted, the hook does not know the namespaces, or there are more than the table has room for.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn transitions_by_namespace(&self) -> Result<Option<Table<u32, u64>>> {
        if !self.counts_namespaces || !self.knows_namespaces() {
            return Ok(None);
        }
        let map = self
            .ebpf
            .map(names::MAP_NAMESPACES)
            .context("the BPF object has no table of namespaces")?;
        let map: HashMap<_, u32, u64> = HashMap::try_from(map)?;
        let counts = map.iter().collect::<Result<Table<u32, u64>, _>>()?;
        Ok((counts.len() < NAMESPACES as usize).then_some(counts))
    }

    /// Removes all namespaces from the table that are not in `there`.
    pub fn retain_namespaces(&mut self, there: &HashSet<u32>) {
        if self.counts_namespaces
            && let Some(map) = self.ebpf.map_mut(names::MAP_NAMESPACES)
            && let Ok(mut map) = HashMap::<_, u32, u64>::try_from(map)
        {
            let gone: Vec<u32> = map.keys().flatten().filter(|netns| !there.contains(netns)).collect();
            for netns in gone {
                // A failure leaves an entry that counts nothing.
                let _ = map.remove(&netns);
            }
        }
    }
}
