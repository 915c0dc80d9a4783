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
    /// Unpacks the newest kernel of the first of `versions` that Debian serves or that is in the cache.
    ///
    /// `listed` are the names of Debian's packages. `download` puts packages into a folder, and returns whether Debian has them. What
    /// was fetched once is kept below `cache`.
    pub(super) fn fetch(
        versions: &[&str],
        listed: &[String],
        cache: &Path,
        download: impl Fn(&[String], &Path) -> Result<bool>,
    ) -> Result<Self, NoKernel> {
        let cached = names(cache).map_err(NoKernel::FetchFailed)?;
        let names = [listed, &cached].concat();
        for version in versions {
            for packages in catalogue::candidates(version, &names) {
                let folder = cache.join(&packages[0]);
                let is_there = folder.is_dir() || {
                    eprintln!("{version}: downloading {}", packages.join(", "));
                    unpack(&packages, &folder, &download)
                        .with_context(|| format!("cannot fetch {}", packages.join(", ")))
                        .map_err(NoKernel::FetchFailed)?
                };
                if is_there {
                    let version = (*version).to_owned();
                    return Ok(Self { version, folder });
                }
            }
        }
        Err(NoKernel::NotServed(versions.join(" or ")))
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

/// The names of the files and folders in `folder`.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let names = entries.into_iter().map(|entry| entry.file_name().into_string());
    Ok(names.filter_map(Result::ok).collect())
}

/// Downloads and unpacks into `folder`, which is there only when all of it is. Returns whether Debian has the packages.
fn unpack(packages: &[String], folder: &Path, download: impl Fn(&[String], &Path) -> Result<bool>) -> Result<bool> {
    let (packed, unpacked) = (folder.with_extension("packed"), folder.with_extension("new"));
    for fresh in [&packed, &unpacked] {
        if fresh.exists() {
            fs::remove_dir_all(fresh)?;
        }
        fs::create_dir_all(fresh)?;
    }
    if !download(packages, &packed)? {
        return Ok(false);
    }
    for package in fs::read_dir(&packed)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(package?.path()).arg(&unpacked);
        if !system::succeeds(&mut unpack)? {
            bail!("dpkg-deb failed: see above");
        }
    }
    fs::remove_dir_all(packed)?;
    fs::rename(unpacked, folder)?;
    Ok(true)
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
    use std::path::Path;

    use anyhow::{Result, bail};

    use super::{Kernel, NoKernel};

    /// Names of packages for both architectures that the matrix is for.
    fn names(releases: &[&str]) -> Vec<String> {
        let names =
            |release| ["amd64", "arm64"].map(|architecture| format!("linux-image-{release}-cloud-{architecture}"));
        releases.iter().flat_map(names).collect()
    }

    /// Fetches with a cache that has `cached`.
    fn fetch(
        version: &str,
        listed: &[&str],
        cached: &[&str],
        download: fn(&[String], &Path) -> Result<bool>,
    ) -> Result<Kernel, NoKernel> {
        let cache = tempfile::tempdir().expect("a temporary directory");
        for name in names(cached) {
            fs::create_dir(cache.path().join(name)).expect("a folder");
        }
        Kernel::fetch(&[version], &names(listed), cache.path(), download)
    }

    #[test]
    fn only_a_kernel_that_debian_does_not_serve_is_no_failure() {
        let not_listed = fetch("6.9", &["6.1.0-56"], &[], |_, _| bail!("no route to host"));
        let gone = fetch("6.1", &["6.1.0-56"], &[], |_, _| Ok(false));
        let failed = fetch("6.1", &["6.1.0-56"], &[], |_, _| bail!("no route to host"));
        assert!(matches!(not_listed, Err(NoKernel::NotServed(versions)) if versions == "6.9"));
        assert!(matches!(gone, Err(NoKernel::NotServed(versions)) if versions == "6.1"));
        let Err(NoKernel::FetchFailed(why)) = failed else {
            panic!("{failed:?}");
        };
        assert_eq!(why.root_cause().to_string(), "no route to host");
    }

    #[test]
    fn the_cache_has_what_debian_does_not_serve() {
        let folder = |kernel: Result<Kernel, NoKernel>| {
            let kernel = kernel.expect("a kernel");
            kernel.folder.file_name().expect("a name").display().to_string()
        };
        let not_listed = fetch("6.17", &[], &["6.17.13+deb13"], |_, _| bail!("nothing to download"));
        assert!(folder(not_listed).starts_with("linux-image-6.17.13+deb13-"));
        let gone = fetch("5.10", &["5.10.0-46"], &["5.10.0-32"], |_, _| Ok(false));
        assert!(folder(gone).starts_with("linux-image-5.10.0-32-"));
        let newer = fetch("6.1", &["6.1.0-56"], &["6.1.0-55"], |_, _| Ok(true));
        assert!(folder(newer).starts_with("linux-image-6.1.0-56-"));
    }
}
