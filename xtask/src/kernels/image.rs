//! A kernel of Debian's, unpacked, and the file system in memory that a guest starts with.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::{Programs, REPORT, catalogue, programs};
use crate::system;

/// Modules that a host loads by itself when a program asks for sockets.
const MODULES: [&str; 3] = ["inet_diag", "tcp_diag", "mptcp_diag"];

/// What process 1 of a guest does.
const INIT: &str = include_str!("init.sh");

/// A kernel that can be booted.
#[derive(Debug)]
pub(super) struct Kernel {
    /// As in `6.12`.
    pub(super) version: String,
    /// The unpacked packages.
    folder: PathBuf,
}

impl Kernel {
    /// Unpacks the newest kernel of the first of `versions` that Debian serves. What was fetched once is kept below `cache`.
    pub(super) fn fetch(apt: &Apt, cache: &Path, versions: &[&str]) -> Result<Self> {
        let found = versions
            .iter()
            .find_map(|version| Some((*version, catalogue::packages(version, apt.names())?)));
        let Some((version, packages)) = found else {
            bail!("Debian serves no kernel {}", versions.join(" or "));
        };
        let kernel = Self {
            version: version.to_owned(),
            folder: cache.join(&packages[0]),
        };
        if !kernel.folder.is_dir() {
            eprintln!("{version}: downloading {}", packages.join(", "));
            unpack(apt, &packages, &kernel.folder).with_context(|| format!("cannot unpack {}", packages.join(", ")))?;
        }
        Ok(kernel)
    }

    /// The compressed kernel.
    pub(super) fn vmlinuz(&self) -> Result<PathBuf> {
        find(&self.folder, &|name| name.starts_with("vmlinuz"))
            .with_context(|| format!("there is no vmlinuz in {}", self.folder.display()))
    }

    /// Packs the file system: busybox, the programs, the kernel's modules, and what process 1 does. It is made in `folder`.
    pub(super) fn pack(&self, folder: &Path, programs: &Programs) -> Result<PathBuf> {
        let tree = folder.join("root");
        for directory in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
            fs::create_dir_all(tree.join(directory))?;
        }
        fs::copy(programs::busybox()?, tree.join("bin/busybox"))?;
        fs::copy(&programs.tcpwatch, tree.join("bin/tcpwatch"))?;
        fs::copy(&programs.suite, tree.join("bin/suite"))?;
        symlink("busybox", tree.join("bin/sh"))?;
        fs::write(tree.join("init"), INIT)?;
        fs::write(tree.join("report.sh"), REPORT)?;
        fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
        for module in MODULES {
            // Built into some kernels, and mptcp_diag is younger than others.
            if let Some(file) = find(&self.folder, &|name| name.split('.').next() == Some(module)) {
                fs::write(tree.join("modules").join(module).with_extension("ko"), unpacked(&file)?)?;
            }
        }
        let image = folder.join("initramfs");
        let pack = "find . -print0 | cpio --quiet --null --create --format=newc --owner=0:0 | gzip -1 >../initramfs";
        if !system::succeeds(Command::new("sh").args(["-c", pack]).current_dir(&tree))? {
            bail!("cannot pack {} with cpio: see above", tree.display());
        }
        Ok(image)
    }
}

/// Downloads and unpacks into `folder`, which is there only when all of it is.
fn unpack(apt: &Apt, packages: &[String], folder: &Path) -> Result<()> {
    let (packed, unpacked) = (folder.with_extension("packed"), folder.with_extension("new"));
    for fresh in [&packed, &unpacked] {
        if fresh.exists() {
            fs::remove_dir_all(fresh)?;
        }
        fs::create_dir_all(fresh)?;
    }
    apt.download(packages, &packed)?;
    for package in fs::read_dir(&packed)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package?.path()).arg(&unpacked);
        if !system::succeeds(&mut unpack)? {
            bail!("dpkg-deb failed: see above");
        }
    }
    fs::remove_dir_all(packed)?;
    fs::rename(unpacked, folder)?;
    Ok(())
}

/// The first file below `folder` whose name is `wanted`.
fn find(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<fs::DirEntry> = fs::read_dir(folder).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.iter().find_map(|entry| {
        let kind = entry.file_type().ok()?;
        if kind.is_dir() {
            find(&entry.path(), wanted)
        } else {
            (kind.is_file() && wanted(entry.file_name().to_str()?)).then(|| entry.path())
        }
    })
}

/// A module as busybox can load it.
fn unpacked(module: &Path) -> Result<Vec<u8>> {
    if module.extension().is_none_or(|extension| extension != "xz") {
        return Ok(fs::read(module)?);
    }
    let mut xz = Command::new("xz");
    xz.args(["--decompress", "--stdout"])
        .arg(module)
        .stderr(Stdio::inherit());
    let output = xz.output().context("cannot start xz")?;
    if !output.status.success() {
        bail!("xz cannot unpack {}: see above", module.display());
    }
    Ok(output.stdout)
}
