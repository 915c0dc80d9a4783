//! A kernel of Debian's, unpacked, and the file system in memory that a guest starts with.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use anyhow::{Context as _, Result, bail};

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

/// Why there is no kernel to boot.
#[derive(Debug)]
pub(super) enum NoKernel {
    /// Debian serves no kernel of these versions, and the cache has none. The column stays untested, which is no failure.
    NotServed(String),
    /// Debian serves one that could not be fetched or unpacked: the network, apt, a hash or the disk. The run fails.
    FetchFailed(anyhow::Error),
}

impl Kernel {
    /// Unpacks the newest kernel of the first of `versions` that Debian serves, or that is in the cache. `served` are the names of
    /// Debian's packages, and `download` puts packages into a folder. What was fetched once is kept below `cache`.
    pub(super) fn fetch(
        versions: &[&str],
        served: &[String],
        cache: &Path,
        download: impl Fn(&[String], &Path) -> Result<()>,
    ) -> Result<Self, NoKernel> {
        let cached = names(cache).map_err(NoKernel::FetchFailed)?;
        let Some((version, packages)) = catalogue::choose(versions, served, &cached) else {
            return Err(NoKernel::NotServed(versions.join(" or ")));
        };
        let kernel = Self {
            version: version.to_owned(),
            folder: cache.join(&packages[0]),
        };
        if !kernel.folder.is_dir() {
            eprintln!("{version}: downloading {}", packages.join(", "));
            unpack(&packages, &kernel.folder, download)
                .with_context(|| format!("cannot fetch {}", packages.join(", ")))
                .map_err(NoKernel::FetchFailed)?;
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

/// The names of what is in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.into_iter().map(|entry| entry.file_name().into_string());
    Ok(names.filter_map(Result::ok).collect())
}

/// Downloads and unpacks into `folder`, which is there only when all of it is.
fn unpack(packages: &[String], folder: &Path, download: impl Fn(&[String], &Path) -> Result<()>) -> Result<()> {
    let (packed, unpacked) = (folder.with_extension("packed"), folder.with_extension("new"));
    for fresh in [&packed, &unpacked] {
        if fresh.exists() {
            fs::remove_dir_all(fresh)?;
        }
        fs::create_dir_all(fresh)?;
    }
    download(packages, &packed)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use anyhow::bail;

    use super::{Kernel, NoKernel};

    #[test]
    fn only_a_kernel_that_debian_does_not_serve_is_no_failure() {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let served = ["linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-56-cloud-arm64"].map(str::to_owned);
        let fetch = |version| {
            Kernel::fetch(&[version], &served, cache.path(), |_, _| {
                bail!("no route to host");
            })
        };
        let not_served = fetch("6.9").expect_err("no such package");
        assert!(
            matches!(&not_served, NoKernel::NotServed(versions) if versions == "6.9"),
            "{not_served:?}"
        );
        let failed = fetch("6.1").expect_err("no network");
        assert!(
            matches!(&failed, NoKernel::FetchFailed(why) if why.root_cause().to_string() == "no route to host"),
            "{failed:?}"
        );
    }

    #[test]
    fn a_kernel_in_the_cache_needs_no_download() {
        let cache = tempfile::tempdir().expect("a temporary directory");
        for architecture in ["amd64", "arm64"] {
            let folder = cache
                .path()
                .join(format!("linux-image-6.17.13+deb13-cloud-{architecture}"));
            fs::create_dir(folder).expect("a folder");
        }
        let kernel = Kernel::fetch(&["6.17"], &[], cache.path(), |packages, _| {
            bail!("{packages:?} need not be fetched")
        });
        assert_eq!(kernel.expect("a kernel").version, "6.17");
    }
}
