//! The programs of others that the matrix needs on this machine.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{dist, system};

/// QEMU for this machine's architecture.
pub(super) const QEMU: &str = if cfg!(target_arch = "aarch64") {
    "qemu-system-aarch64"
} else {
    "qemu-system-x86_64"
};

/// Each Debian package with its program.
const NEEDED: [(&str, &str); 8] = [
    ("apt", "apt-get"),
    ("busybox-static", "busybox"),
    ("cpio", "cpio"),
    ("debian-archive-keyring", super::apt::KEYRING),
    ("dpkg", "dpkg-deb"),
    ("gzip", "gzip"),
    (
        if cfg!(target_arch = "aarch64") {
            "qemu-system-arm"
        } else {
            "qemu-system-x86"
        },
        QEMU,
    ),
    ("xz-utils", "xz"),
];

/// Fails where one is missing, with the line to type.
pub(super) fn check() -> Result<()> {
    let missing = missing(|program| system::find(program).is_some());
    if !missing.is_empty() {
        bail!(
            "cannot boot kernels: programs are missing; try `apt-get install --no-install-recommends {}`",
            missing.join(" ")
        );
    }
    busybox().map(drop)
}

/// The packages of which the program is missing.
fn missing(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let missing = NEEDED.iter().filter(|(_, program)| !has(program));
    missing.map(|(package, _)| *package).collect()
}

/// busybox, which is a guest's shell and has to run there without libraries.
pub(super) fn busybox() -> Result<PathBuf> {
    let busybox = system::find("busybox").context("cannot find busybox; try `apt-get install busybox-static`")?;
    if !dist::is_static_file(&busybox)? {
        bail!(
            "cannot use {} in a guest: it needs shared libraries; try `apt-get install busybox-static`",
            busybox.display()
        );
    }
    Ok(busybox)
}

#[cfg(test)]
mod tests {
    use super::{NEEDED, missing};

    #[test]
    fn a_package_is_named_when_its_program_is_missing() {
        assert_eq!(missing(|_| true), [""; 0]);
        assert_eq!(missing(|program| program != "xz"), ["xz-utils"]);
        assert_eq!(missing(|_| false).len(), NEEDED.len());
    }
}
