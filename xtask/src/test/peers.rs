//! The programs that the kernel suite compares tcpwatch with, and whose connections it watches.

use std::process::Command;

use crate::system;

/// Each Debian package with its programs.
const PEERS: [(&str, &[&str]); 11] = [
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
    ("wrk", &["wrk"]),
];

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
            "wrk",
        ];
        assert_eq!(lacking(|_| false), all);
    }
}
