//! What only loading needs is given up after it.

use std::fs;

use rustix::thread::CapabilitySet;

use crate::support::netns::in_netns;
use crate::support::output::output;
use crate::support::program::Running;
use crate::support::program::run::{binary, setpriv};

/// What every run keeps.
const READS: CapabilitySet = CapabilitySet::DAC_READ_SEARCH
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::BPF);

/// The capabilities in the line `name` of /proc/PID/task/TID/status.
fn capabilities(status: &str, name: &str) -> CapabilitySet {
    let mut lines = status.lines();
    let bits = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    let bits = bits.unwrap_or_else(|| panic!("no {name} in {status}"));
    CapabilitySet::from_bits_retain(u64::from_str_radix(bits, 16).expect("hexadecimal"))
}

/// The first thread of `running` has `kept`, and no thread has more.
fn has_only(running: &Running, kept: CapabilitySet) {
    let pid = running.pid();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("a process") {
        let thread = thread.expect("a thread");
        // It may have ended.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        let sets = ["CapInh", "CapPrm", "CapEff"].map(|name| capabilities(&status, name));
        assert!(sets.iter().all(|set| kept.contains(*set)), "{sets:?}: {status}");
        if thread.file_name() == *pid.to_string() {
            assert_eq!((sets[1], sets[2]), (kept, kept), "{status}");
        }
    }
}

#[test]
fn a_run_keeps_what_reading_needs() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let dir = dir.to_str().expect("UTF-8");
        let of_symboliser = CapabilitySet::KILL | CapabilitySet::SETUID | CapabilitySet::SETGID;
        for (args, kept) in [
            (&["stat", "0.2"][..], READS),
            (&["churn", "0.2"], READS),
            (&["stat", "0.2", "--hook", "tracepoint"], READS),
            (&["stat", "0.2", "--record", dir], READS),
            (&["stat", "0.2", "--netns", "all"], READS | CapabilitySet::SYS_ADMIN),
            (
                &["leaks", "--watch", "0.2", "--stacks"],
                READS | CapabilitySet::CHECKPOINT_RESTORE | of_symboliser,
            ),
        ] {
            let mut running = Running::start(args);
            running.until_lines(2);
            has_only(&running, kept);
            running.finish();
        }
    });
}

/// Where a capability that a run needs is missing, another one may stand for it.
#[test]
fn a_run_with_fewer_keeps_them() {
    let fewer = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::SYS_ADMIN;
    in_netns(|_| {
        let bounding = ["--bounding-set", "-all,+bpf,+perfmon,+sys_admin"];
        let mut running = Running::spawn(&mut setpriv(&bounding, &binary(), &["stat", "0.2", "-o", "json"]));
        running.until_lines(2);
        has_only(&running, fewer);
        running.finish();
    });
}

/// A program that a recording starts has all that tcpwatch has.
#[test]
fn a_program_keeps_all() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let mut command = setpriv(&["--no-new-privs"], &binary(), &["record", "-w"]);
        let status = output(command.arg(&dir).args(["--", "cat", "/proc/self/status"]));
        let ours = fs::read_to_string("/proc/self/status").expect("this process");
        assert_eq!(capabilities(&status, "CapEff"), capabilities(&ours, "CapEff"));
    });
}
