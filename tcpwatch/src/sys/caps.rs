//! Capabilities (capabilities(7)) of this process.

use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

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

/// What a run needs after its programs are loaded: to read maps and other processes; to enter namespaces, if it reads
/// `other_namespaces`; and to open mapped programs and to start and end the symboliser, if it reads `stacks`. A run that lacks some of
/// these needs all that it has instead.
#[must_use]
pub fn of_run(other_namespaces: bool, stacks: bool) -> CapabilitySet {
    let mut needed = CapabilitySet::BPF | CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
    needed.set(CapabilitySet::SYS_ADMIN, other_namespaces);
    let of_stacks = CapabilitySet::CHECKPOINT_RESTORE | CapabilitySet::KILL;
    needed.set(of_stacks | CapabilitySet::SETUID | CapabilitySet::SETGID, stacks);
    let has_all = effective().contains(needed);
    if has_all { needed } else { CapabilitySet::all() }
}

/// Gives up the capabilities of this thread that are not `kept`. The threads that it starts later have no others either.
pub fn keep(kept: CapabilitySet) {
    let reduced = capabilities(None).and_then(|sets| {
        let sets = CapabilitySets {
            effective: sets.effective & kept,
            permitted: sets.permitted & kept,
            inheritable: sets.inheritable & kept,
        };
        set_capabilities(None, sets)
    });
    if let Err(errno) = reduced {
        log::debug!("capabilities stay: {errno}");
    }
}

/// Gives up all capabilities of this thread.
pub fn keep_none() {
    keep(CapabilitySet::empty());
}

/// The effective capabilities; empty if they cannot be read.
fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}
