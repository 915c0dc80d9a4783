//! The programs that the kernel suite compares tcpwatch with, and whose connections it watches.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::system;

/// Each Debian package with its programs.
const PEERS: [(&str, &[&str]); 12] = [
    ("binutils", &["addr2line", "strip"]),
    ("bpftool", &["bpftool"]),
    ("bpftrace", &["bpftrace"]),
    ("gcc", &["gcc"]),
    ("iproute2", &["ss", "nstat", "ip", "tc"]),
    ("libbpf-tools", &["tcplife"]),
    ("net-tools", &["netstat"]),
    ("nginx-light", &["nginx"]),
    ("procps", &["sysctl"]),
    ("python3", &["python3"]),
    ("python3-pip", &["pip3"]),
    ("wrk", &["wrk"]),
];

/// The Python packages that open recordings and exports.
const READERS: [&str; 3] = ["pyarrow==26.0.1", "duckdb==2.0.1", "polars==2.1.0"];

/// Where the Python packages are, for tests of `harness`: below the folder that cargo builds in.
pub(super) fn python(harness: &Path) -> Option<PathBuf> {
    harness.ancestors().nth(3).map(|target| target.join("python"))
}

/// Installs [`READERS`] in the folder `place`, where they are not there yet; a line if that fails.
pub(super) fn install_readers(place: &Path) -> Option<String> {
    let version = Command::new("python3").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let wanted = [version.unwrap_or_default(), READERS.join("\n")].concat();
    let list = place.join("installed");
    if fs::read_to_string(&list).is_ok_and(|installed| installed == wanted) {
        return None;
    }
    eprintln!(
        "installing {} with pip: the kernel suite needs them",
        READERS.join(", ")
    );
    // For the Python that the tests run.
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--upgrade",
        "--only-binary=:all:",
        "--root-user-action=ignore",
    ]);
    let status = pip.arg("--target").arg(place).args(READERS).status();
    let installed = status.is_ok_and(|status| status.success());
    let is_there = installed && fs::write(&list, wanted).is_ok();
    (!is_there).then(|| format!("tests with {}: pip could not install them", READERS.join(", ")))
}

/// Installs what is missing where it may, and returns a line for each program that is missing still.
pub(crate) fn install() -> Vec<String> {
    let packages = lacking(|program| system::find(program).is_some());
    if packages.is_empty() {
        return Vec::new();
    }
    let why = if !system::is_root() {
        "not root, so not installed"
    } else if system::find("apt-get").is_none() {
        "there is no apt-get to install it with"
    } else {
        eprintln!(
            "installing {} with apt-get: the kernel suite needs it",
            packages.join(", ")
        );
        // A machine fresh from its image has no package lists, others are spared the wait.
        if !apt_install(&packages) && apt_get(&["update"]) {
            apt_install(&packages);
        }
        "apt-get could not install it"
    };
    lacking(|program| system::find(program).is_some())
        .iter()
        .map(|package| format!("tests with {package}: {why}"))
        .collect()
}

/// The packages of which a program is missing.
fn lacking(has: impl Fn(&str) -> bool) -> Vec<&'static str> {
    PEERS
        .iter()
        .filter(|(_, programs)| !programs.iter().all(|program| has(program)))
        .map(|(package, _)| *package)
        .collect()
}

fn apt_install(packages: &[&str]) -> bool {
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

fn apt_get(arguments: &[&str]) -> bool {
    Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::lacking;

    #[test]
    fn a_package_is_wanted_when_one_of_its_programs_is_missing() {
        assert_eq!(lacking(|_| true), [""; 0]);
        assert_eq!(lacking(|program| program != "nstat"), ["iproute2"]);
        let all = [
            "binutils",
            "bpftool",
            "bpftrace",
            "gcc",
            "iproute2",
            "libbpf-tools",
            "net-tools",
            "nginx-light",
            "procps",
            "python3",
            "python3-pip",
            "wrk",
        ];
        assert_eq!(lacking(|_| false), all);
    }
}
