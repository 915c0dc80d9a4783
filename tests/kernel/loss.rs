//! Losing is honest: a reader that is stopped loses records and says how many; the ledger loses nothing.

use std::net::SocketAddr;

use rustix::process::Signal;

use crate::support::cells::Cells;
use crate::support::hold::{FIRST, Held};
use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::program::stat::Stat;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, listen, pair, read_eof};
use crate::support::workload::bulk;
use crate::support::{LOOPBACK, LOOPBACK_V6, heavy};

/// 200,000 transitions.
const TURNS: i64 = 100_000;

on_both_hooks!(a_stopped_trace_counts_what_it_lost, a_stopped_stat_misses_nothing);

fn a_stopped_trace_counts_what_it_lost(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        let trace = Trace::start(hook, &["--ring-size", "64K"]);
        let before = printed_so_far(&trace);
        trace.running().signal(Signal::STOP);
        bulk::listen_and_stop(TURNS);
        trace.running().signal(Signal::CONT);
        // The reader must be back at work: what happens now is not lost.
        trace.until_events(usize::try_from(MARKER).expect("few") + 1);
        let traced = trace.finish();
        assert_eq!(traced.number("seen"), before + 2 * TURNS, "{}", traced.end);
        assert!(
            traced.number("lost") > 0,
            "200,000 records fit into 64 KiB? {}",
            traced.end
        );
        assert!(
            traced.number("printed") > before,
            "what was in the ring is printed: {}",
            traced.end
        );
    });
}

/// Transitions of a connection that both sides close, and of its listener.
const MARKER: i64 = 12;

/// Lines of everything that has happened. A connection of its own comes last, so that all before it are printed with it.
fn printed_so_far(trace: &Trace) -> i64 {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 1);
    let Pair { client, server } = pair(&listener);
    drop(server);
    read_eof(&client);
    drop((client, listener));
    let events = trace.until_events(usize::try_from(MARKER).expect("few"));
    assert_eq!(i64::try_from(events.len()), Ok(MARKER), "{events:?}");
    i64::try_from(trace.running().lines().len()).expect("few")
}

fn a_stopped_stat_misses_nothing(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|netns| {
        let old = Held::at(netns, LOOPBACK, FIRST);
        let mut stat = Stat::start(hook, &["--ring-size", "64K"]);
        stat.agrees("stat to equal ss at its start", ss::counts);
        let before = stat.cells();
        stat.running().signal(Signal::STOP);
        let promised: Cells = bulk::listen_and_stop(TURNS);
        stat.running().signal(Signal::CONT);
        // A run that the kernel skipped is one transition.
        let reached = stat
            .reaches(&before, &promised)
            .or_else(|_| stat.cells().since(&before).equals_but(&promised, stat.missed()));
        assert_eq!(reached, Ok(()), "the kernel skipped {} runs", stat.missed());
        stat.running().signal(Signal::STOP);
        drop(old);
        let new = Held::at(netns, LOOPBACK_V6, FIRST);
        stat.running().signal(Signal::CONT);
        stat.agrees("stat to equal ss after its stop", ss::counts);
        stat.finish();
        drop(new);
    });
}
