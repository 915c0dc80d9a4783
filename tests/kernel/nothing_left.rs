//! Nothing is left behind: no mount, no pin, no program, however tcpwatch ends.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::clock::{eventually, until};
use crate::support::fdinfo::{self, Program};
use crate::support::netns::in_netns_without_tracefs;
use crate::support::output::{output, succeeds};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::stat::Stat;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(after_an_orderly_end, after_a_kill, after_a_refusal);

/// What could be left behind: the mounts of this test's mount namespace and of the host, and pins.
pub(crate) fn traces() -> [Vec<String>; 3] {
    let mounts = |file: &str| {
        let text = fs::read_to_string(file).expect("the mounts");
        // Others come and go with what other tests and users do; what tcpwatch might mount are these.
        let ours = ["tracefs", "debugfs", "bpf", "sysfs", "proc", "nsfs"];
        let kind = |line: &str| line.split_whitespace().nth(2).is_some_and(|kind| ours.contains(&kind));
        // `ip netns` mounts these, for whoever uses it meanwhile.
        let is_named = |line: &str| line.contains(" /run/netns/");
        let lines = text.lines().filter(|line| kind(line) && !is_named(line));
        lines.map(str::to_owned).collect()
    };
    // The main thread never left the host's namespace.
    let host = format!("/proc/{}/mounts", std::process::id());
    [
        mounts("/proc/thread-self/mounts"),
        mounts(&host),
        pins(Path::new("/sys/fs/bpf")),
    ]
}

/// Every path below the mount point of the BPF file system.
fn pins(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(pins(&entry.path()));
        }
    }
    found.sort();
    found
}

/// The programs that `pid` holds; none would mean that this test looks in the wrong place.
fn programs_of(pid: u32) -> Vec<Program> {
    let programs = fdinfo::programs(pid);
    assert!(!programs.is_empty(), "tcpwatch has no BPF program open");
    programs
}

/// The kernel frees programs a moment after their last holder ended.
fn until_gone(programs: &[Program]) {
    output(Command::new("bpftool").arg("version"));
    for program in programs {
        until(&format!("program {} to be gone", program.id), || {
            !succeeds(Command::new("bpftool").args(["prog", "show", "id", &program.id.to_string()]))
        });
    }
}

fn after_an_orderly_end(hook: Hook) {
    in_netns_without_tracefs(|_| {
        let before = traces();
        let stat = Stat::start(hook, &[]);
        let trace = Trace::start(hook, &[]);
        let programs = [programs_of(stat.running().pid()), programs_of(trace.running().pid())].concat();
        assert_eq!(traces(), before, "while it runs");
        stat.finish();
        trace.finish();
        assert_eq!(traces(), before);
        until_gone(&programs);
    });
}

fn after_a_kill(hook: Hook) {
    in_netns_without_tracefs(|_| {
        let before = traces();
        let stat = Stat::start(hook, &[]);
        let pid = stat.running().pid();
        let programs = programs_of(pid);
        stat.running().signal(Signal::KILL);
        eventually("it to die", || {
            if fdinfo::programs(pid).is_empty() {
                Ok(())
            } else {
                Err("it lives")
            }
        });
        drop(stat);
        assert_eq!(traces(), before);
        until_gone(&programs);
    });
}

fn after_a_refusal(hook: Hook) {
    in_netns_without_tracefs(|_| {
        let before = traces();
        for args in [["trace", "--netns", "4194305"], ["stat", "--port", "70000"]] {
            let finished = finish(&tcpwatch(&[&args[..], &["--hook", hook.name()]].concat()));
            assert_ne!(finished.code, Some(0), "{finished:?}");
        }
        assert_eq!(traces(), before);
    });
}
