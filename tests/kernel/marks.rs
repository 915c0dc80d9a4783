//! Live counts where marking is hardest: sockets that close before a walk comes to them, and sockets that take no mark.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::support::clock::pass;
use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::program::Hook;
use crate::support::program::stat::Stat;
use crate::support::sockets::{Pair, address, listen, pair, reset, start_connect};
use crate::support::spoiled::done_again;
use crate::support::{LOOPBACK, heavy, sockets};

/// A socket's last transition may be the first that is seen of it, while the walk is on its way: it was in no count yet.
#[test]
fn sockets_that_close_while_they_are_counted() {
    done_again(closing_while_counted);
}

fn closing_while_counted() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 4096);
        let mut pairs: Vec<Pair> = (0..3_000).map(|_| pair(&listener)).collect();
        let doomed = pairs.split_off(1_000);
        let resets = thread::spawn(move || {
            for (index, pair) in doomed.into_iter().enumerate() {
                reset(pair.client);
                if index % 8 == 0 {
                    pass(Duration::from_millis(1));
                }
            }
        });
        let mut stats: Vec<Stat> = (0..4).map(|_| Stat::start(Hook::TpBtf, &[])).collect();
        resets.join().expect("the resets");
        for stat in &mut stats {
            stat.agrees("a stat started among resets to equal ss", ss::counts);
        }
        for stat in stats {
            stat.finish();
        }
        drop(pairs);
    });
}

/// With no option memory sockets take no mark: a walk counts them apart, again and again, and never twice.
#[test]
fn sockets_that_take_no_mark_are_counted_once() {
    in_netns(|netns| {
        netns.set("core/optmem_max", "64");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 64);
        let pairs: Vec<Pair> = (0..10).map(|_| pair(&listener)).collect();
        let port = address(&listener).port();
        let mut stat = Stat::start(Hook::TpBtf, &["-L", &port.to_string()]);
        let here = || ss::counts_of(|row| row.local.1 == port);
        for _ in 0..3 {
            // An opening whose port is not chosen yet: what makes the sockets be walked again.
            let nobody = SocketAddr::new(LOOPBACK, 1);
            start_connect(&sockets::socket(nobody), nobody);
            stat.agrees("sockets without a mark to be those of ss", here);
        }
        let unmarked = stat.last()["events"]["unmarked"].as_u64();
        assert_eq!(unmarked, Some(11), "ten connections and their listener took no mark");
        stat.finish();
        drop(pairs);
    });
}
