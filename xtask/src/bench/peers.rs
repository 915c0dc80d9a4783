//! The programs that people use now.

use std::path::{Path, PathBuf};

use crate::system;

/// Where each is, if it is installed.
pub(super) struct Peers {
    /// libbpf-tools: a line a transition.
    pub(super) tcpstates: Option<PathBuf>,
    /// One-liners on the same tracepoint.
    pub(super) bpftrace: Option<PathBuf>,
    /// `ss -tan`.
    pub(super) ss: Option<PathBuf>,
    /// `netstat -ant`.
    pub(super) netstat: Option<PathBuf>,
}

impl Peers {
    /// Looks for them.
    pub(super) fn find() -> Self {
        // bcc has a program of this name too, in Python: not the one compared with.
        let compiled = |path: &PathBuf| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"\x7fELF"));
        Self {
            tcpstates: system::find("tcpstates").filter(compiled),
            bpftrace: system::find("bpftrace"),
            ss: system::find("ss"),
            netstat: system::find("netstat"),
        }
    }

    /// A line for each: which it is, or that it is missing.
    pub(super) fn describe(&self) -> Vec<String> {
        let version = |path: &Path, flag: &str| system::first_line(path, &[flag]).unwrap_or_default();
        [
            ("tcpstates", "libbpf-tools", &self.tcpstates, None),
            ("bpftrace", "bpftrace", &self.bpftrace, Some("--version")),
            ("ss", "iproute2", &self.ss, Some("-V")),
            ("netstat", "net-tools", &self.netstat, None),
        ]
        .map(|(name, package, path, flag)| match (path, flag) {
            (None, _) => format!("NOT INSTALLED, so not compared with: {name} ({package})"),
            (Some(path), None) => format!("compared with {}", path.display()),
            (Some(path), Some(flag)) => format!("compared with {} ({})", path.display(), version(path, flag)),
        })
        .into()
    }
}
