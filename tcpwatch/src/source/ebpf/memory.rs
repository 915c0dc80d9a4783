//! What memory the kernel side takes, and whether this process may take it.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use tcpwatch_common::ledger::BANKS;
use tcpwatch_common::owner::{Listener, Name};
use tcpwatch_common::params::LAST_EVENTS_BITS;
use tcpwatch_common::{Ledger, names};

use super::needs::KernelNeeds;
use super::prepare::Request;
use crate::sys::{btf, memory_limit};

/// Sockets that the table by address holds at once, closed ones that an application still holds among them.
const SOCKETS: u32 = 65_536;
/// Connections that can be idle since their accept.
const ACCEPTED: u32 = 262_144;
/// Listeners: more than any host has.
const LISTENERS: u32 = 16_384;
/// Processes that listen.
const COMMS: u32 = 4096;
/// Groups of connections with histograms, times what is measured: all that anybody reads.
const HISTOGRAMS: u32 = 8192;

/// Bytes of the state of a socket, and of its state and info.
const STATE_BYTES: usize = 48;
const STATE_AND_INFO_BYTES: usize = 168;
/// Bytes of kernel memory that the programs take, at most.
const PROGRAMS_BYTES: u64 = 4 << 20;
/// Bytes that the process itself takes, beside the kernel's types.
const PROCESS_BYTES: u64 = 6 << 20;
/// Bytes that it takes to read the binaries that user stacks lead through.
const STACKS_BYTES: u64 = 12 << 20;
/// Bytes of a bucket of a hash table (`struct bucket`, kernel/bpf/hashtab.c): there is one for each entry that there is room for.
const BUCKET_BYTES: u64 = 16;
/// Bytes of an entry with its key, and without its value (`struct htab_elem`).
const ENTRY_BYTES: u64 = 64;

/// A hash table whose size the loader sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// Entries there is room for: a power of two.
    pub(super) entries: u32,
    /// Bytes of a value; 0 where the kernel takes memory for entries as it needs them.
    value_bytes: usize,
}

impl Table {
    /// Bytes of kernel memory that it takes from the start on.
    fn bytes(&self) -> u64 {
        let entry = match self.value_bytes {
            0 => 0,
            bytes => bytes as u64 + ENTRY_BYTES,
        };
        u64::from(self.entries) * (entry + BUCKET_BYTES)
    }
}

/// The tables that are used: that of sockets `by_address`, where they have no storage for us.
pub(super) fn tables(needs: KernelNeeds, by_address: bool) -> Vec<Table> {
    let table = |name, entries, value_bytes| Table {
        name,
        entries,
        value_bytes,
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
        tables.push(table(names::MAP_LISTENERS, LISTENERS, size_of::<Listener>()));
        tables.push(table(names::MAP_COMMS, COMMS, size_of::<Name>()));
        tables.push(table(names::MAP_ACCEPTED, ACCEPTED, 0));
    }
    if needs.latency.is_some() {
        tables.push(table(names::MAP_HISTOGRAMS, HISTOGRAMS, 0));
        tables.push(table(names::MAP_WAITING, ACCEPTED, 0));
    }
    tables
}

/// Bytes of kernel memory that the maps take from the start on, about. What grows later, by use, is not counted.
pub(super) fn map_bytes(request: &Request<'_>, cpus: u32, tables: &[Table]) -> u64 {
    let rings = u64::from(request.records_bytes()) + u64::from(request.stacks_bytes());
    let ledgers = u64::from(cpus * BANKS) * size_of::<Ledger>() as u64;
    // At most: some kernels need none.
    let last_events = (size_of::<u64>() as u64) << LAST_EVENTS_BITS;
    let tables: u64 = tables.iter().map(Table::bytes).sum();
    rings + ledgers + last_events + tables
}

/// How many times the bytes of the kernel's BTF it takes to read it, as measured: we keep one copy with its index, and aya's loader
/// makes a larger one.
const TYPES_FACTOR: u64 = 6;

/// What this process may take of memory, as it is before anything is loaded; `None` where there is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(Option<u64>);

impl Budget {
    /// By the limits of its cgroups.
    pub(super) fn now() -> Self {
        Self(memory_limit::available(Path::new("/")))
    }

    /// Checks that there is room for maps of `maps` bytes, and for all that is not maps: the kernel ends a process that takes more
    /// than its cgroup allows.
    ///
    /// # Errors
    /// One line: what is needed, what is left, and what to type.
    pub(super) fn ensure(self, request: &Request<'_>, maps: u64) -> Result<()> {
        let types = fs::metadata(btf::path(Path::new("/"))).map_or(0, |types| types.len() * TYPES_FACTOR);
        let stacks = if request.needs.stacks { STACKS_BYTES } else { 0 };
        let needed = types + stacks + PROGRAMS_BYTES + PROCESS_BYTES + maps;
        let smaller = if request.needs.records() {
            "a smaller --ring-size or "
        } else {
            ""
        };
        match self.0 {
            Some(available) if available < needed => bail!(
                "this needs {} MiB of memory, and the cgroup of this process has {} MiB left (memory.max); try {smaller}a larger \
                 memory.max",
                needed.div_ceil(1 << 20),
                available >> 20
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::latency::LatencyBy;

    #[test]
    fn only_tables_that_are_used_take_memory() {
        let bytes = |needs, by_address| tables(needs, by_address).iter().map(Table::bytes).sum::<u64>();
        let none = KernelNeeds::default();
        assert_eq!(bytes(none, false), 0);
        assert_eq!(bytes(none, true), 65_536 * (48 + 64 + 16));
        let latency = KernelNeeds {
            latency: Some(LatencyBy::All),
            ..none
        };
        assert_eq!(bytes(latency, false), (8192 + 262_144) * 16);
        let owners = KernelNeeds { owners: true, ..none };
        assert_eq!(bytes(owners, true) - bytes(owners, false), 65_536 * (168 + 64 + 16));
        let listeners = size_of::<Listener>() as u64;
        let names = size_of::<Name>() as u64;
        let expected = 16_384 * (listeners + 80) + 4096 * (names + 80) + 262_144 * 16;
        assert_eq!(bytes(owners, false), expected);
    }
}
