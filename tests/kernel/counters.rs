//! The kernel's own counters agree: `/proc/net/snmp`, `netstat`, `sockstat` of the namespace.

use std::net::SocketAddr;

use crate::support::clock::eventually;
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::peers::snmp;
use crate::support::program::stat::{Stat, sum, total};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, listen, pair, read_eof};
use crate::support::{LOOPBACK, LOOPBACK_V6, workload};

on_both_hooks!(opens_and_resets, established_now, time_wait_entered, time_wait_refused);

fn opens_and_resets(hook: Hook) {
    in_netns(|netns| {
        let before = snmp::read();
        let stat = Stat::start(hook, &[]);
        for workload in workload::all() {
            (workload.run)(netns);
        }
        workload::bulk::connections(500);
        let after = snmp::read();
        let ended = stat.finish();
        let risen = |name: &str| after.get(name) - before.get(name);
        let cells = total(ended.lines.iter().map(|line| &line.json));
        assert_eq!(sum(&ended, "/opened/passive"), risen("Tcp:PassiveOpens"));
        // One of the workloads tries once to connect when no port is left.
        assert_eq!(sum(&ended, "/opened/active") - 1, risen("Tcp:ActiveOpens"));
        assert_eq!(cells.get(1, 7) + cells.get(8, 7), risen("Tcp:EstabResets"), "{cells}");
    });
}

fn established_now(hook: Hook) {
    in_netns(|netns| {
        let held = [Held::at(netns, LOOPBACK, FIRST), Held::at(netns, LOOPBACK_V6, SECOND)];
        let mut stat = Stat::start(hook, &[]);
        eventually("CurrEstab to be established and close_wait", || {
            let counts = stat.counts();
            let (ours, theirs) = (
                counts["established"] + counts["close_wait"],
                snmp::read().get("Tcp:CurrEstab"),
            );
            if ours == theirs {
                Ok(())
            } else {
                Err(format!("{ours} against {theirs}"))
            }
        });
        stat.finish();
        drop(held);
    });
}

fn time_wait_entered(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_max_tw_buckets", "5000");
        netns.set("ipv4/tcp_tw_reuse", "0");
        let mut stat = Stat::start(hook, &[]);
        workload::bulk::connections(300);
        let orphans = Held::at(netns, LOOPBACK, FIRST);
        // The namespace is new and none of them is a minute old: all that entered are there.
        let population = snmp::timewait_population();
        assert!(population > 300, "{population}");
        stat.fresh();
        let last = stat.last();
        assert_eq!(last["time_wait"]["population"].as_i64(), Some(population), "{last}");
        assert_eq!(last["time_wait"]["limit"].as_i64(), Some(5000), "{last}");
        let ended = stat.finish();
        assert_eq!(sum(&ended, "/time_wait/entered"), population);
        assert_eq!(sum(&ended, "/time_wait/refused"), 0);
        drop(orphans);
    });
}

fn time_wait_refused(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_max_tw_buckets", "10");
        let stat = Stat::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        for _ in 0..30 {
            let Pair { client, server } = pair(&listener);
            drop(client);
            read_eof(&server);
        }
        let counters = snmp::read();
        assert!(
            counters.get("TcpExt:TCPTimeWaitOverflow") > 0,
            "nothing was refused, so this proves nothing"
        );
        let ended = stat.finish();
        assert_eq!(
            sum(&ended, "/time_wait/refused"),
            counters.get("TcpExt:TCPTimeWaitOverflow")
        );
    });
}
