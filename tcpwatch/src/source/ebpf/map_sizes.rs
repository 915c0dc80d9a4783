//! The sizes of the maps, and the kernel memory that they take.

use tcpwatch_common::histogram::{self, BucketKey};
use tcpwatch_common::ledger::BANKS;
use tcpwatch_common::owner::{Name, PortListeners};
use tcpwatch_common::params::LAST_EVENTS_BITS;
use tcpwatch_common::{Ledger, Owner, names};

use super::needs::KernelNeeds;
use super::prepare::Request;

/// Sockets in the table by address, including closed sockets that an application still holds.
const SOCKETS: u32 = 65_536;
/// Accepted connections that are idle since `accept()`, and connections that wait for it.
const ACCEPTED: u32 = 262_144;
/// The same, where all entries take memory from the start.
const ACCEPTED_PREALLOCATED: u32 = 65_536;
/// Listeners. No host has that many.
const LISTENERS: u32 = 16_384;
/// Processes that listen.
const COMMS: u32 = 4096;
/// Network namespaces. A host of 1,000 pods is a large one.
pub(super) const NAMESPACES: u32 = 4096;
/// Buckets of histograms of groups that the times of one second are in.
const BUCKETS: u32 = 131_072;

/// Size of the state of a socket, and of its state and info, bytes.
const STATE_BYTES: usize = 48;
const STATE_AND_INFO_BYTES: usize = 168;
/// Size of a bucket of a hash table (`struct bucket`, kernel/bpf/hashtab.c). There is one for each possible entry.
const BUCKET_BYTES: u64 = 16;
/// Size of an entry with a key of up to 16 bytes, without its value (`struct htab_elem`).
const ENTRY_BYTES: u64 = 64;
/// How much longer the key of a bucket of a histogram is, bytes.
const LONG_KEY_BYTES: usize = size_of::<BucketKey>() - 16;

/// A hash table whose size the loader sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Maximum number of entries: a power of two.
    pub(super) entries: u32,
    /// Size of a value, bytes; 0 if the kernel allocates entries on demand.
    value_bytes: usize,
}

impl Table {
    /// Kernel memory that it takes from the start, bytes.
    fn bytes(&self) -> u64 {
        let entry = match self.value_bytes {
            0 => 0,
            bytes => bytes as u64 + ENTRY_BYTES,
        };
        u64::from(self.entries) * (entry + BUCKET_BYTES)
    }
}

/// The tables that are used. `by_address`: sockets have no storage, so a table of sockets is needed. `on_demand`: the kernel can allocate
/// entries on demand.
pub(super) fn tables(needs: KernelNeeds, by_address: bool, on_demand: bool) -> Vec<Table> {
    let table = |name, entries, value_bytes| Table {
        name,
        entries,
        value_bytes,
    };
    let accepted = |name, value_bytes| {
        if on_demand {
            table(name, ACCEPTED, 0)
        } else {
            table(name, ACCEPTED_PREALLOCATED, value_bytes)
        }
    };
    let mut tables = Vec::new();
    if by_address {
        tables.push(if needs.owners || needs.connections {
            table(names::MAP_INFOS_BY_ADDRESS, SOCKETS, STATE_AND_INFO_BYTES)
        } else {
            table(names::MAP_STATES_BY_ADDRESS, SOCKETS, STATE_BYTES)
        });
    }
    if needs.owners {
        tables.push(table(names::MAP_LISTENERS, LISTENERS, size_of::<PortListeners>()));
        tables.push(table(names::MAP_COMMS, COMMS, size_of::<Name>()));
        tables.push(accepted(names::MAP_ACCEPTED, size_of::<Owner>()));
    }
    if needs.namespaces {
        tables.push(table(names::MAP_NAMESPACES, NAMESPACES, size_of::<u64>()));
    }
    if let Some(groups) = needs.latency {
        tables.push(accepted(names::MAP_WAITING, size_of::<u64>()));
        if groups.are_several() {
            let value_bytes = if on_demand {
                0
            } else {
                LONG_KEY_BYTES + size_of::<u64>()
            };
            tables.push(table(names::MAP_BUCKETS, BUCKETS, value_bytes));
        }
    }
    tables
}

/// Counters of the times of all connections, on `cpus` CPUs.
pub(super) fn totals(needs: KernelNeeds, cpus: u32) -> u32 {
    if needs.latency.is_some() {
        histogram::totals(cpus)
    } else {
        1
    }
}

/// Approximate kernel memory that the maps take from the start, bytes. Entries allocated on demand are not included.
pub(super) fn map_bytes(request: &Request<'_>, cpus: u32, tables: &[Table]) -> u64 {
    let rings = u64::from(request.records_bytes()) + u64::from(request.stacks_bytes());
    let ledgers = u64::from(cpus * BANKS) * size_of::<Ledger>() as u64;
    // An upper bound: some kernels need none.
    let last_events = (size_of::<u64>() as u64) << LAST_EVENTS_BITS;
    let totals = u64::from(totals(request.needs, cpus)) * size_of::<u64>() as u64;
    let tables: u64 = tables.iter().map(Table::bytes).sum();
    rings + ledgers + last_events + totals + tables
}

#[cfg(test)]
mod tests {
    use super::super::needs::LatencyGroups;
    use super::*;
    use crate::input::latency::LatencyBy;

    #[test]
    fn only_tables_that_are_used_take_memory() {
        let all = |needs, by_address, on_demand| -> u64 {
            tables(needs, by_address, on_demand).iter().map(Table::bytes).sum()
        };
        let bytes = |needs, by_address| all(needs, by_address, true);
        let none = KernelNeeds::default();
        assert_eq!(bytes(none, false), 0);
        assert_eq!(bytes(none, true), 65_536 * (48 + 64 + 16));
        let latency = |by| KernelNeeds {
            latency: Some(LatencyGroups::from(by)),
            ..none
        };
        assert_eq!(bytes(latency(LatencyBy::All), false), 262_144 * 16);
        assert_eq!(bytes(latency(LatencyBy::Remote), false), (131_072 + 262_144) * 16);
        assert_eq!(totals(latency(LatencyBy::All), 16), 8 * 19 * 1024);
        assert_eq!(totals(none, 16), 1);
        let owners = KernelNeeds { owners: true, ..none };
        assert_eq!(bytes(owners, true) - bytes(owners, false), 65_536 * (168 + 64 + 16));
        let listeners = size_of::<PortListeners>() as u64;
        let names = size_of::<Name>() as u64;
        let expected = 16_384 * (listeners + 80) + 4096 * (names + 80) + 262_144 * 16;
        assert_eq!(bytes(owners, false), expected);
        let accepted = 65_536 * (32 + 80) - 262_144 * 16;
        assert_eq!(all(owners, false, false), expected + accepted);
        let by_remote = latency(LatencyBy::Remote);
        assert_eq!(
            all(by_remote, false, false),
            131_072 * (48 + 8 + 80) + 65_536 * (8 + 80)
        );
    }
}
