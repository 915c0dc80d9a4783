//! What takes a minute by nature: first by name, and so begun first, it waits while the tests beside it have the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::clock::{eventually, try_for};
use crate::support::netns::in_netns;
use crate::support::peers::snmp;
use crate::support::program::Hook;
use crate::support::program::stat::{Stat, sum};
use crate::support::sockets::listen;
use crate::support::spoiled::done_again;
use crate::time_wait::{client_first, entered, so_far, timewait_endings, until_left};

/// All timewait sockets that were made are gone a minute later, and counted.
///
/// `TIME_WAIT` lasts 60 s whatever is set, and up to 2 s more, for its timer is a coarse one. Both hooks look at the same sockets,
/// side by side, so that there is one wait for the two.
#[test]
fn all_that_entered_time_wait_left_it() {
    done_again(|| {
        in_netns(|netns| {
            const CLOSES: i64 = 5000;
            netns.set("ipv4/tcp_tw_reuse", "0");
            let before = entered();
            let mut stats = Hook::BOTH.map(|hook| Stat::start(hook, &[]));
            // To many addresses, so that no port is wanted twice.
            let listeners: Vec<_> = (1..=16)
                .map(|host| listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, host)), 0), 128))
                .collect();
            for listener in listeners.iter().cycle().take(usize::try_from(CLOSES).expect("few")) {
                client_first(listener);
            }
            // The kernel counts a timewait socket before it adds it to those that there are.
            eventually("the kernel to make as many as connections were closed", || {
                match (entered() - before, snmp::timewait_population()) {
                    (CLOSES, CLOSES) => Ok(()),
                    made => Err(format!("{made:?}")),
                }
            });
            for stat in &mut stats {
                stat.fresh();
                assert_eq!(
                    (so_far(stat, "entered"), so_far(stat, "left")),
                    (CLOSES, 0),
                    "of those all are there"
                );
                assert_eq!(stat.last()["time_wait"]["population"], CLOSES);
            }
            // A minute, and what patience there is for everything else.
            let gone = try_for(Duration::from_secs(80), || match snmp::timewait_population() {
                0 => Ok(()),
                some => Err(some),
            });
            assert_eq!(gone, Ok(()), "timewait sockets are there still");
            for mut stat in stats {
                until_left(&mut stat, CLOSES);
                let ended = stat.finish();
                assert_eq!(sum(&ended, "/time_wait/entered"), CLOSES);
                assert_eq!(sum(&ended, "/time_wait/left"), CLOSES);
                assert_eq!(sum(&ended, "/time_wait/recycled"), 0);
                assert_eq!(sum(&ended, "/time_wait/refused"), 0);
                assert_eq!(timewait_endings(&ended), CLOSES);
            }
        });
    });
}
