//! `snapshot`: every source counts what `/proc/net/tcp` and `/proc/net/tcp6` list.

use crate::support::clock::eventually;
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::proc_tcp;
use crate::support::program::snapshot::{snapshot, states};
use crate::support::states::{add, equal};
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
