//! The kernel skips a program that would run inside itself: the second copy handles what it skips in the first, and nothing is missed.

use std::fs;
use std::thread;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tcpwatch::input::release::Release;

use crate::support::clock::try_eventually;
use crate::support::fdinfo;
use crate::support::heavy;
use crate::support::lines::Line;
use crate::support::netns::{TRACEFS, in_netns};
use crate::support::program::Hook;
use crate::support::program::stat::Stat;
use crate::support::unseen::Witness;
use crate::support::workload::bulk;

/// How many times [`bulk::connections`] runs at once, and all its threads.
const AT_ONCE: usize = 3;
const THREADS: i64 = 6;
/// Connections of each, and rounds of them at most, until the kernel has skipped a run.
const CONNECTIONS: i64 = 2000;
const ROUNDS: usize = 20;
/// Times that process 1 may have other threads.
const TRIES: usize = 10;

/// Lets each packet be received on a CPU chosen by its flow, not on the sender's (`rps_cpus`): interrupts of one CPU by another stop
/// programs anywhere in their runs, as those of a network card do.
fn receive_on_other_cpus() {
    let place = tempfile::tempdir().expect("a folder");
    mount("sysfs", place.path(), "sysfs", MountFlags::empty(), None).expect("the sysfs of this namespace");
    let file = place.path().join("class/net/lo/queues/rx-0/rps_cpus");
    fs::write(file, "3").expect("packet steering");
    unmount(place.path(), UnmountFlags::empty()).expect("nobody uses it");
}

#[test]
fn nothing_is_missed_where_the_kernel_skips_runs() {
    // Where process 1 had other threads meanwhile, nobody knows how many transitions no program could see.
    let is_decided = (0..TRIES).any(|_| in_netns(|_| skips_runs_and_misses_none()));
    assert!(is_decided, "process 1 always had other threads");
}

/// Whether it could be decided.
fn skips_runs_and_misses_none() -> bool {
    let _turn = heavy::turn();
    let unseen = Witness::start(TRACEFS);
    let mut stat = Stat::start(Hook::TpBtf, &[]);
    receive_on_other_cpus();
    let pid = stat.running().pid();
    // Before, programs interrupt themselves.
    let skips_runs = tcpwatch::sys::release::running() >= Release::NO_NESTING;
    // A thread may be preempted between the copies. Its event may be missed, which is said; so is one that waits there while the
    // number is read.
    let is_preemptible = tcpwatch::sys::release::running() >= Release::PREEMPTIBLE_TRACEPOINTS;
    let waiting = if is_preemptible { THREADS } else { 0 };
    let mut made = 0;
    for _ in 0..ROUNDS {
        made += thread::scope(|scope| {
            let threads = [(); AT_ONCE].map(|()| scope.spawn(|| bulk::connections(CONNECTIONS).total()));
            let made = threads.map(|thread| thread.join().expect("a thread that connects"));
            made.iter().sum::<i64>()
        });
        let all_seen = try_eventually(|| {
            let (unseen, missed) = (unseen.count(), missed(&stat));
            let seen = stat.cells().total() + unseen;
            let is_right = seen <= made && (made..=made + waiting).contains(&(seen + missed));
            is_right.then_some(()).ok_or(format!(
                "{seen}, {unseen} of them unseen, and {missed} missed, of {made}"
            ))
        });
        if !unseen.knows_all_threads() {
            return false;
        }
        assert_eq!(all_seen, Ok(()));
        if !skips_runs || fdinfo::missed(pid) > 0 {
            break;
        }
    }
    let (skipped, missed) = (fdinfo::missed(pid), missed(&stat));
    assert!(!skips_runs || skipped > 0, "the kernel skipped no run");
    let few = if is_preemptible { skipped / 10 } else { 0 };
    assert!(missed <= few, "{missed} missed, of {skipped} that the kernel skipped");
    stat.finish_beside(unseen.count());
    true
}

/// What the rows so far say was missed.
fn missed(stat: &Stat) -> i64 {
    let of_row = |line: &Line| line.json["events"]["missed"].as_i64().unwrap_or(0);
    stat.running().lines().with(|lines| lines.iter().map(of_row).sum())
}
