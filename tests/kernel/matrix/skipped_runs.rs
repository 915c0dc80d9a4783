//! The kernel skips a program that would run inside itself: the second copy handles what it skips in the first, and nothing is missed.

use std::fs;
use std::thread;

use rustix::mount::{MountFlags, mount};

use super::stat::release;
use crate::support::clock::try_eventually;
use crate::support::fdinfo;
use crate::support::heavy;
use crate::support::netns::{TRACEFS, in_netns};
use crate::support::program::Hook;
use crate::support::program::stat::{Stat, sum};
use crate::support::unseen::Witness;
use crate::support::workload::bulk;

/// Connections of each thread, and rounds of them at most, until the kernel has skipped a run.
const CONNECTIONS: i64 = 2000;
const ROUNDS: usize = 20;

/// Lets each packet be received on a CPU chosen by its flow, not on the sender's (`rps_cpus`): interrupts of one CPU by another stop
/// programs anywhere in their runs, as those of a network card do.
fn receive_on_other_cpus() {
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None).expect("the sysfs of this namespace");
    fs::write("/sys/class/net/lo/queues/rx-0/rps_cpus", "3").expect("packet steering");
}

#[test]
fn nothing_is_missed_where_the_kernel_skips_runs() {
    let _turn = heavy::turn();
    in_netns(|_| {
        // By the tracefs that is hidden from now on.
        let unseen = Witness::start(TRACEFS);
        let mut stat = Stat::start(Hook::TpBtf, &[]);
        receive_on_other_cpus();
        let pid = stat.running().pid();
        // Before, programs interrupt themselves.
        let skips_runs = release() >= (6, 1);
        let mut made = 0;
        for _ in 0..ROUNDS {
            made += thread::scope(|scope| {
                let threads = [(); 3].map(|()| scope.spawn(|| bulk::connections(CONNECTIONS).total()));
                threads
                    .map(|thread| thread.join().expect("a thread that connects"))
                    .iter()
                    .sum::<i64>()
            });
            let all_seen = try_eventually(|| {
                let (seen, unseen) = (stat.cells().total(), unseen.count());
                let equal = seen + unseen == made;
                equal.then_some(()).ok_or(format!("{seen} and {unseen} of {made}"))
            });
            assert_eq!(all_seen, Ok(()));
            if !skips_runs || fdinfo::missed(pid) > 0 {
                break;
            }
        }
        assert!(!skips_runs || fdinfo::missed(pid) > 0, "the kernel skipped no run");
        let ended = stat.finish_beside(unseen.count());
        assert_eq!(sum(&ended, "/events/missed"), 0);
    });
}
