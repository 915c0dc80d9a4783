//! Capabilities (capabilities(7)) of this process.

use rustix::thread::{CapabilitySet, capabilities};

/// The names of the missing capabilities for watching the kernel; empty if none is missing.
///
/// `CAP_SYS_ADMIN` includes the other two (before Linux 5.8 it was the only one).
#[must_use]
pub fn missing_for_bpf() -> Vec<&'static str> {
    let effective = effective();
    if effective.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    needed
        .into_iter()
        .filter(|(capability, _)| !effective.contains(*capability))
        .map(|(_, name)| name)
        .collect()
}

/// Whether this process may read the descriptors of all processes and their targets (`proc_fd_access_allowed`, fs/proc/base.c).
#[must_use]
pub fn see_all_descriptors() -> bool {
    effective().contains(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH)
}

/// The effective capabilities; empty if they cannot be read.
fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}
