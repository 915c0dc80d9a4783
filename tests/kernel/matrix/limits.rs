//! Limits of memory, and of capabilities: what is enough is enough on each kernel, and where it is not one line says so.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid, set_dumpable_behavior, setrlimit};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_keep_capabilities,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use tcpwatch::sys::memlock;

use crate::support::limits::{CgroupLimit, with_locked_memory};
use crate::support::netns::{in_netns, in_thread};
use crate::support::program::right::{churn_is_right, latency_is_right, stat_is_right, trace_is_right};
use crate::support::program::run::{Unprivileged, finish, tcpwatch};
use crate::support::program::{Hook, Running, on_both_hooks};

on_both_hooks!(
    memory_is_enough_or_one_line_says_how_much_is,
    locked_memory_is_enough_or_one_line_says_so,
);

/// A limit of memory, MiB, with which the program starts, and can load nothing.
const MEMORY: u64 = 4;
/// A limit of locked memory, KiB: what kernels before Linux 5.16 begin with.
const LOCKED: u32 = 64;

/// `linux/perf_event.h`.
const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;

/// A command, and what shows that a run of it is right.
type Watching = (&'static [&'static str], fn(Running, Hook));

const COMMANDS: [Watching; 4] = [
    (&["stat", "0.2"], |running, _| stat_is_right(running)),
    (&["trace"], |running, _| trace_is_right(running)),
    (&["churn", "0.2"], churn_is_right),
    (&["latency", "0.2"], |running, _| latency_is_right(running)),
];

/// How much more memory tcpwatch itself may take in one start than in another, MiB: its threads start in any order.
const OWN: u64 = 4;

/// The limit is that of the cgroup; the kernel would end a process that takes more.
fn memory_is_enough_or_one_line_says_how_much_is(hook: Hook) {
    in_netns(|_| {
        for (command, is_right) in COMMANDS {
            let args = [command, &["--hook", hook.name()]].concat();
            let mut mebibytes = MEMORY;
            loop {
                let finished = finish(&limited(mebibytes).tcpwatch(&[&args[..], &["-d", "100ms"]].concat()));
                if finished.code == Some(0) {
                    break;
                }
                if let Err(how) = finished.refused(1, "memory.max") {
                    panic!("{args:?}, with {mebibytes} MiB: {how}");
                }
                mebibytes += lacking(&finished.stderr);
            }
            assert!(mebibytes > MEMORY, "{args:?}: so little cannot be enough");
            // The least that is reported as enough is, but for what tcpwatch itself takes more in one start than in another.
            let limit = limited(mebibytes + OWN);
            is_right(Running::spawn(limit.tcpwatch(&args).args(["-o", "json"])), hook);
        }
    });
}

/// How many MiB are lacking: `line` shows how many are needed and how many are left. At least 1, since both are rounded.
fn lacking(line: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let numbers = words.windows(2).filter(|pair| pair[1] == "MiB");
    let numbers: Vec<u64> = numbers.filter_map(|pair| pair[0].parse().ok()).collect();
    let [needed, left] = numbers[..] else {
        panic!("it does not have two numbers of MiB: {line:?}");
    };
    needed.saturating_sub(left).max(1)
}

/// A cgroup in which nobody was yet: what a process that ended had, the kernel takes back a moment later.
fn limited(mebibytes: u64) -> CgroupLimit {
    let limit = CgroupLimit::of_memory();
    limit.set(mebibytes << 20);
    limit
}

/// Whether that limit bounds BPF maps the kernel shows by one that is larger.
fn locked_memory_is_enough_or_one_line_says_so(hook: Hook) {
    in_netns(|_| {
        // With it any limit can be raised.
        remove_capability_from_bounding_set(CapabilitySet::SYS_RESOURCE).expect("CAP_SETPCAP");
        let is_bounded = a_large_map_is_refused();
        for (command, is_right) in COMMANDS {
            let args = [command, &["--hook", hook.name()]].concat();
            if is_bounded {
                let finished = finish(&with_locked_memory(LOCKED, &tcpwatch(&args)));
                finished.refuses(1, &format!("RLIMIT_MEMLOCK of {LOCKED} KiB is too low"));
                finished.refuses(1, "ulimit -l");
            } else {
                let limited = Running::spawn(with_locked_memory(LOCKED, &tcpwatch(&args)).args(["-o", "json"]));
                is_right(limited, hook);
            }
        }
    });
}

/// Whether the kernel refuses a BPF map that is larger than the limit of locked memory.
fn a_large_map_is_refused() -> bool {
    let most = Some(u64::from(LOCKED) << 10);
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    // The start of `union bpf_attr`: an array (`BPF_MAP_TYPE_ARRAY`) with one value of 1 MiB.
    let attributes: [u32; 4] = [2, 4, 1 << 20, 1];
    let make = move || {
        setrlimit(Resource::Memlock, limit)?;
        // SAFETY: BPF_MAP_CREATE reads the attributes, which live until it returns.
        let map = unsafe { libc::syscall(libc::SYS_bpf, 0, &raw const attributes, size_of_val(&attributes)) };
        if map < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    };
    let mut process = Command::new("true");
    // SAFETY: between fork and exec the closure makes two system calls, and allocates nothing.
    unsafe { process.pre_exec(make) };
    match process.status() {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => true,
        Err(error) => panic!("making a BPF map: {error}"),
    }
}

/// An ordinary user may not read tracefs.
#[test]
fn a_user_with_two_capabilities_has_tp_btf() {
    let copy = Unprivileged::new();
    in_netns(|_| {
        let stat = |hook: Hook| {
            let mut command = Command::new(copy.binary());
            command.args(["stat", "0.2", "--hook", hook.name()]);
            command
        };
        with_two_capabilities(1000, || {
            finish(&stat(Hook::Tracepoint)).refuses(1, "tracefs");
            stat_is_right(Running::spawn(stat(Hook::TpBtf).args(["-o", "json"])));
        });
    });
}

/// The user who owns tracefs needs `perf_event_open(2)`, which `kernel.perf_event_paranoid` may reserve for `CAP_SYS_ADMIN`.
#[test]
fn without_perf_events_the_classic_hook_names_the_sysctl() {
    in_netns(|_| {
        with_two_capabilities(0, || {
            let args = ["stat", "0.2", "--hook", "tracepoint"];
            if perf_events_are_refused() {
                finish(&tcpwatch(&args)).refuses(1, "perf_event_paranoid");
            } else {
                stat_is_right(Running::start(&args));
            }
            stat_is_right(Running::start(&["stat", "0.2", "--hook", "tp_btf"]));
        });
    });
}

/// Runs `test` as the user `id`, with `CAP_BPF` and `CAP_PERFMON` and no other capability.
fn with_two_capabilities(id: u32, test: impl FnOnce() + Send) {
    // Before Linux 5.11 it bounds BPF maps; what remains of it here, remains for all processes that are started.
    let _remaining = memlock::raise();
    in_thread(|| {
        let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
        let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
        // Without this, exec(2) gives all capabilities to user 0.
        set_capabilities_secure_bits(CapabilitiesSecureBits::NO_ROOT).expect("securebits");
        set_keep_capabilities(true).expect("PR_SET_KEEPCAPS");
        set_thread_groups(&[]).expect("setgroups");
        set_thread_res_gid(group, group, group).expect("setresgid");
        set_thread_res_uid(user, user, user).expect("setresuid");
        let sets = CapabilitySets {
            effective: both,
            permitted: both,
            inheritable: both,
        };
        set_capabilities(None, sets).expect("capset");
        for capability in both.iter() {
            configure_capability_in_ambient_set(capability, true).expect("an ambient capability");
        }
        // The kernel lets nobody without privileges look into a process of which a thread did this; other tests are such.
        set_dumpable_behavior(DumpableBehavior::Dumpable).expect("PR_SET_DUMPABLE");
        test();
    });
}

/// Whether the kernel refuses an event of all processes on one CPU to this thread.
fn perf_events_are_refused() -> bool {
    // `struct perf_event_attr`: `PERF_TYPE_SOFTWARE`, its 64 bytes, and `PERF_COUNT_SW_DUMMY`.
    let attributes: [u64; 8] = [64 << 32 | 1, 9, 0, 0, 0, 0, 0, 0];
    // SAFETY: perf_event_open(2) reads the attributes, which live until it returns.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if event < 0 {
        let error = io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
        return true;
    }
    let event = RawFd::try_from(event).expect("a descriptor");
    // SAFETY: the kernel has just made it, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(event) });
    false
}
