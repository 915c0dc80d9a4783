//! `snapshot`: every source counts what `/proc/net/tcp` and `/proc/net/tcp6` list.

use std::net::SocketAddr;

use tcpwatch::input::release::Release;
use tcpwatch::sys::release;

use crate::support::clock::eventually;
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::proc_tcp;
use crate::support::program::snapshot::{snapshot, states};
use crate::support::sockets::{listen, pair};
use crate::support::states::{add, equal};
use crate::support::workload::bulk;
use crate::support::{LOOPBACK, LOOPBACK_V6};

#[test]
fn equals_the_tables_of_proc() {
    in_netns(|netns| {
        let held = Held::at(netns, LOOPBACK, FIRST);
        let more = Held::at(netns, LOOPBACK_V6, SECOND);
        let mut all = held.counts.clone();
        add(&mut all, &more.counts);
        eventually("the tables to list what is held", || equal(&proc_tcp::counts(), &all));
        let mut wrong = Vec::new();
        for source in ["auto", "iter", "sock_diag", "proc"] {
            let ours = snapshot(&["--source", source]);
            let how = equal(&states(&ours), &proc_tcp::counts());
            wrong.extend(how.err().map(|how| format!("--source {source}: {how}")));
            if ours["netns"].as_u64() != Some(netns.inum) {
                wrong.push(format!(
                    "--source {source}: netns {} is not {}",
                    ours["netns"], netns.inum
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Many sockets are counted by the kernel's own numbers, where these can be trusted.
#[test]
fn many_equal_the_tables_of_proc() {
    // As many as `snapshot` needs for that, and some more.
    const MANY: i64 = 1_200;
    in_netns(|netns| {
        bulk::connections(MANY);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let _pairs = [(); 3].map(|()| pair(&listener));
        let source_is = |wanted: &str| {
            eventually(wanted, || {
                let ours = snapshot(&[]);
                equal(&states(&ours), &proc_tcp::counts())?;
                (ours["source"] == wanted)
                    .then_some(())
                    .ok_or(ours["source"].to_string())
            });
        };
        source_is("counters");
        // Some of these are in CLOSE_WAIT.
        let _held = Held::at(netns, LOOPBACK, FIRST);
        if release::running() >= Release::CURR_ESTAB_HAS_CLOSE_WAIT {
            source_is("counters");
        } else {
            source_is("sock_diag");
        }
    });
}
