//! The `connections` of `stat` equal `ss -tan`, whenever it was started.

use crate::support::clock::until;
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::program::stat::Stat;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::spoiled::done_again;
use crate::support::workload::generator::Generator;
use crate::support::{LOOPBACK, LOOPBACK_V6, heavy};

on_both_hooks!(
    started_before_and_after_every_state_was_held,
    follows_sockets_to_their_end
);

fn started_before_and_after_every_state_was_held(hook: Hook) {
    in_netns(|netns| {
        let mut before = Stat::start(hook, &[]);
        let held = [Held::at(netns, LOOPBACK, FIRST), Held::at(netns, LOOPBACK_V6, SECOND)];
        before.agrees("the stat started before to equal ss", ss::counts);
        let mut after = Stat::start(hook, &[]);
        after.agrees("the stat started after to equal ss", ss::counts);
        before.agrees("the stat started before to equal ss still", ss::counts);
        before.finish();
        after.finish();
        drop(held);
    });
}

/// Sockets that were there before the start are counted out of their states as they leave them.
fn follows_sockets_to_their_end(hook: Hook) {
    in_netns(|netns| {
        let old = Held::at(netns, LOOPBACK, FIRST);
        let mut stat = Stat::start(hook, &[]);
        stat.agrees("stat to equal ss at its start", ss::counts);
        let new = Held::at(netns, LOOPBACK_V6, SECOND);
        stat.agrees("stat to equal ss after more were opened", ss::counts);
        drop(old);
        stat.agrees("stat to equal ss after the old were closed", ss::counts);
        drop(new);
        stat.agrees("stat to equal ss after all were closed", ss::counts);
        stat.finish();
    });
}

/// A dump and a ledger of anonymous counts would be off by what moved during the dump; marks are not.
#[test]
fn started_in_the_middle_of_10_000_connections_a_second() {
    done_again(in_the_middle);
}

fn in_the_middle() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let generator = Generator::start(10_000);
        until("connections to be made", || generator.made() > 5_000);
        let mut stats = [Stat::start(Hook::TpBtf, &[]), Stat::start(Hook::TpBtf, &[])];
        let made = generator.made();
        until("more connections to be made", || generator.made() > made + 10_000);
        let traffic = generator.stop();
        for stat in &mut stats {
            stat.agrees(
                "a stat started in the middle to equal ss when traffic stopped",
                ss::counts,
            );
        }
        drop(traffic);
        for mut stat in stats {
            stat.agrees("it to equal ss when all were closed", ss::counts);
            stat.finish();
        }
    });
}
