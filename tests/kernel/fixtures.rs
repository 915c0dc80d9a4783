//! The fixtures do what their doc comments promise, says bpftrace, and hold what they promise, says ss.

use std::collections::BTreeSet;

use crate::support::clock::{eventually, until};
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::peers::bpftrace::Observer;
use crate::support::peers::{netstat, ss};
use crate::support::states::{add, equal, none};
use crate::support::workload::generator::Generator;
use crate::support::{LOOPBACK, LOOPBACK_V6, heavy, workload};

#[test]
fn workloads_cause_what_they_promise() {
    in_netns(|netns| {
        let observer = Observer::start(netns);
        let mut broken = Vec::new();
        let mut before = (observer.final_cells(), observer.missed());
        for workload in workload::all() {
            let kept = workload.until_kept(|| {
                (workload.run)(netns);
                let now = (observer.final_cells(), observer.missed());
                let seen = (now.0.since(&before.0), now.1 - before.1);
                before = now;
                Ok(seen)
            });
            broken.extend(kept.err().map(|how| format!("{}: {how}", workload.name)));
        }
        assert!(broken.is_empty(), "promises not kept:\n{}", broken.join("\n"));
    });
}

#[test]
fn holders_hold_what_they_promise() {
    in_netns(|netns| {
        let held = Held::at(netns, LOOPBACK, FIRST);
        eventually("ss to see what is held", || equal(&ss::counts(), &held.counts));
        let distinct: BTreeSet<i64> = held.counts.values().copied().collect();
        assert_eq!(
            distinct.len(),
            held.counts.len(),
            "two states hold as many, so a mix-up could hide"
        );
        let more = Held::at(netns, LOOPBACK_V6, SECOND);
        let distinct: BTreeSet<i64> = more.counts.values().copied().collect();
        assert_eq!(
            distinct.len(),
            more.counts.len(),
            "two states hold as many, so a mix-up could hide"
        );
        let mut all = held.counts.clone();
        add(&mut all, &more.counts);
        eventually("ss to see what is held", || equal(&ss::counts(), &all));
        eventually("netstat to see it", || equal(&netstat::counts(), &all));
    });
}

#[test]
fn the_generator_leaves_what_it_says() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let generator = Generator::start(10_000);
        until("connections to be made", || generator.made() > 20_000);
        let traffic = generator.stop();
        let mut left = none();
        left.insert("established", 2 * traffic.open());
        left.insert("listen", traffic.listening());
        eventually("ss to see what is left", || {
            let mut counts = ss::counts();
            // A new connection from the same port puts an end to a server's TIME_WAIT.
            let waiting = counts.insert("time_wait", 0);
            assert!(
                waiting > Some(0) && waiting <= Some(traffic.made - traffic.open()),
                "{waiting:?} in TIME_WAIT"
            );
            equal(&counts, &left)
        });
    });
}
