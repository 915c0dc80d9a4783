//! Kernel lockdown (`kernel_lockdown(7)`): in `confidentiality` no BPF program may read kernel memory.

use std::fs;
use std::path::Path;

/// Whether the kernel below `root` is in a lockdown mode that forbids BPF programs to read its memory.
#[must_use]
pub fn forbids_bpf_reads(root: &Path) -> bool {
    fs::read_to_string(root.join("sys/kernel/security/lockdown")).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_is_the_one_in_force() {
        let root = tempfile::tempdir().unwrap();
        assert!(!forbids_bpf_reads(root.path()));
        let folder = root.path().join("sys/kernel/security");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("lockdown"), "none [integrity] confidentiality\n").unwrap();
        assert!(!forbids_bpf_reads(root.path()));
        fs::write(folder.join("lockdown"), "none integrity [confidentiality]\n").unwrap();
        assert!(forbids_bpf_reads(root.path()));
    }
}
