//! More network namespaces than a process may have descriptors: the counts of all are right, none is held, and one that goes is gone.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::clock::eventually;
use crate::support::limits::with_descriptors;
use crate::support::netns::{Hop, Neighbour, Netns, in_netns};
use crate::support::peers::ss;
use crate::support::program::churn::Churn;
use crate::support::program::run::tcpwatch;
use crate::support::program::stat::Stat;
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::sockets::{listen, pair};
use crate::support::states::add;

on_both_hooks!(stat_of_many, churn_of_many);

/// Namespaces beside the test's own.
const NEIGHBOURS: usize = 150;
/// Descriptors that tcpwatch may have: enough for its programs and maps.
const DESCRIPTORS: u32 = 130;

/// A port that no other test uses: `--netns all` sees the namespaces of all that runs beside this test.
fn port_of_its_own(netns: &Netns) -> u16 {
    u16::try_from(30_000 + netns.inum % 20_000).expect("a port")
}

/// `tcpwatch ARGS` with few descriptors.
fn limited(args: &[&str]) -> Running {
    Running::spawn(&mut with_descriptors(DESCRIPTORS, &tcpwatch(args)))
}

/// The names of its open descriptors that are a network namespace.
fn held(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    let names = open.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let names = names.map(|name| name.display().to_string());
    names.filter(|name| name.starts_with("net:")).collect()
}

fn stat_of_many(hook: Hook) {
    in_netns(|netns| {
        let mut neighbours: Vec<_> = (0..NEIGHBOURS).map(|_| Neighbour::new()).collect();
        let port = port_of_its_own(netns);
        let text = port.to_string();
        let open = |n: usize| {
            let listener = listen(SocketAddr::new(LOOPBACK, port), 8);
            let pairs: Vec<_> = (0..n).map(|_| pair(&listener)).collect();
            (listener, pairs)
        };
        let before = neighbours[3].run(|_| open(2));
        let args = [
            "stat",
            "0.2",
            "--hook",
            hook.name(),
            "--netns",
            "all",
            "--port",
            &text,
            "-o",
            "json",
        ];
        let mut stat = Stat::of(limited(&args));
        let sum = |neighbours: &[Neighbour]| {
            let mut sum = ss::counts();
            for neighbour in neighbours {
                add(&mut sum, &neighbour.run(|_| ss::counts()));
            }
            sum
        };
        stat.agrees("what was there before to be counted", || sum(&neighbours[..4]));
        let after: Vec<_> = [4, 50, NEIGHBOURS - 1].map(|at| neighbours[at].run(|_| open(3))).into();
        let of_some = |neighbours: &[Neighbour]| {
            let mut sum = sum(&neighbours[3..5]);
            add(&mut sum, &neighbours[50].run(|_| ss::counts()));
            add(&mut sum, &neighbours[NEIGHBOURS - 1].run(|_| ss::counts()));
            sum
        };
        stat.agrees("what came later too", || of_some(&neighbours));
        drop((before, after));
        // The last one goes, and others come.
        neighbours.truncate(NEIGHBOURS - 1);
        let late = Neighbour::new();
        let there = late.run(|_| open(4));
        neighbours.push(late);
        stat.agrees("those of a namespace that is new", || {
            let mut sum = of_some(&neighbours);
            add(&mut sum, &ss::counts());
            sum
        });
        eventually("no namespace to be held", || match held(stat.running().pid()) {
            // It may be looking into one.
            held if held.len() <= 1 => Ok(()),
            held => Err(format!("{held:?}")),
        });
        drop(there);
        // The end of a wire goes with the last namespace of the other end.
        let hop = Hop::new();
        stat.fresh();
        drop(hop);
        eventually("a namespace to end", || {
            let shown = Command::new("ip").args(["link", "show", "near"]).output();
            match shown.map(|shown| shown.status.success()) {
                Ok(false) => Ok(()),
                other => Err(format!("its wire is there: {other:?}")),
            }
        });
        stat.finish();
    });
}

fn churn_of_many(hook: Hook) {
    in_netns(|netns| {
        let neighbours: Vec<_> = (0..NEIGHBOURS).map(|_| Neighbour::new()).collect();
        let port = port_of_its_own(netns);
        let text = port.to_string();
        let args = [
            "churn",
            "0.5",
            "--netns",
            "all",
            "--port",
            &text,
            "--hook",
            hook.name(),
            "-o",
            "json",
        ];
        let churn = Churn::of(limited(&args));
        for neighbour in [&neighbours[0], &neighbours[NEIGHBOURS - 1]] {
            neighbour.run(|_| {
                let listener = listen(SocketAddr::new(LOOPBACK, port), 8);
                (0..3).for_each(|_| drop(pair(&listener)));
            });
        }
        churn.until("the connections of both", |rows| {
            let list = |of: &Value, name: &str| of[name].as_array().cloned().unwrap_or_default();
            let owners = rows.iter().flat_map(|row| list(row, "owners"));
            let destinations = owners.flat_map(|owner| list(&owner, "destinations"));
            let opened: i64 = destinations.filter_map(|to| to["opened"].as_i64()).sum();
            if opened == 6 {
                Ok(())
            } else {
                Err(format!("{opened} opened"))
            }
        });
        churn.finish();
    });
}
