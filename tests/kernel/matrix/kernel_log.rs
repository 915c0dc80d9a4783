//! The kernel's log has no warning about our BPF programs: where `panic_on_warn` is set, a warning ends the host.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::support::netns::in_netns;
use crate::support::program::latency::Latency;
use crate::support::program::leaks::Leaks;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(has_no_warning);

fn has_no_warning(hook: Hook) {
    in_netns(|_| {
        Trace::start(hook, &[]).finish();
        Latency::start(hook, &["--by", "lport"]).finish();
        Leaks::start(hook, "1", "1", &["--stacks"]).finish(0);
        let warnings: Vec<String> = kernel_log().into_iter().filter(|line| is_about_bpf(line)).collect();
        assert_eq!(warnings, [""; 0]);
    });
}

/// Whether `line` is what `WARN()` prints first, of the kernel's BPF code: `WARNING: CPU: 0 PID: 7 at kernel/bpf/verifier.c:10132`.
fn is_about_bpf(line: &str) -> bool {
    line.contains("WARNING:") && line.contains("bpf")
}

/// All lines that the kernel still has in its log (`/dev/kmsg`, a line a read).
fn kernel_log() -> Vec<String> {
    let mut kmsg = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/kmsg")
        .expect("/dev/kmsg");
    let mut lines = Vec::new();
    let mut line = [0; 8192];
    loop {
        match kmsg.read(&mut line) {
            Ok(length) => lines.push(String::from_utf8_lossy(&line[..length]).into_owned()),
            // The next line was overwritten before it was read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("/dev/kmsg: {error}"),
        }
    }
    assert!(!lines.is_empty(), "the kernel's log can be read");
    lines
}
