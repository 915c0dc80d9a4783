//! Whether the limits of this process allow the memory that the maps and programs take.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::prepare::Request;
use crate::sys::{btf, memory_limit};

/// Maximum kernel memory of the programs, bytes.
const PROGRAMS_BYTES: u64 = 4 << 20;
/// Memory of the process itself, without the kernel's types, bytes.
const PROCESS_BYTES: u64 = 6 << 20;
/// Memory to read the binaries of user stacks, bytes.
const STACKS_BYTES: u64 = 12 << 20;
/// Memory to read the kernel's BTF, as a multiple of its size (measured). tcpwatch keeps one copy with its index, and aya's
/// loader makes a larger one.
const TYPES_FACTOR: u64 = 6;

/// The memory that this process may still take before anything is loaded, bytes; `None` if there is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget(Option<u64>);

impl Budget {
    /// Reads the budget from the limits of the process's cgroups.
    pub(super) fn now() -> Self {
        Self(memory_limit::available(Path::new("/")))
    }

    /// Checks that there is memory for maps of `maps` bytes and for everything else. The kernel kills a process that takes more
    /// than its cgroup allows.
    ///
    /// # Errors
    /// One line: the needed memory, the available memory, and what to try.
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
                "cannot watch the kernel: it needs {} MiB of memory, but the cgroup of this process has {} MiB \
                left (memory.max); try {smaller}a larger memory.max",
                needed.div_ceil(1 << 20),
                available >> 20
            ),
            _ => Ok(()),
        }
    }
}
