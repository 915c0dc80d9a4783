//! Capabilities (capabilities(7)) of this process.

use rustix::thread::{CapabilitySet, capabilities};

/// What watching the kernel takes, as far as it is missing: names of capabilities, none when all are there.
///
/// `CAP_SYS_ADMIN` stands for the two others (before Linux 5.8 there was nothing finer).
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

/// Whether we may see which files every process holds: the names of its descriptors, and where they lead
/// (`proc_fd_access_allowed`, fs/proc/base.c).
#[must_use]
pub fn see_all_descriptors() -> bool {
    effective().contains(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH)
}

/// The effective set; empty where it cannot be read.
fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}
