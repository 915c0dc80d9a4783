//! Output through a pipe follows at once, so that `| jq` and `| grep` do.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::support::LOOPBACK;
use crate::support::clock::pass;
use crate::support::heavy;
use crate::support::netns::in_netns;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, listen, pair, read_eof};

/// The promise.
const LATE: Duration = Duration::from_millis(100);

on_both_hooks!(half_of_the_lines_are_at_most_100_ms_late);

fn half_of_the_lines_are_at_most_100_ms_late(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        for _ in 0..60 {
            let Pair { client, server } = pair(&listener);
            drop(client);
            read_eof(&server);
            drop(server);
            // A trickle, which fills no buffer: what is printed is printed for its age.
            pass(Duration::from_millis(17));
        }
        let events = trace.until_events(601);
        let mut late: Vec<Duration> = events
            .iter()
            .map(|event| {
                event
                    .arrived
                    .duration_since(SystemTime::from(event.time))
                    .unwrap_or_default()
            })
            .collect();
        late.sort_unstable();
        // The median: the scheduler of a busy machine may hold up any single line.
        let median = late[late.len() / 2];
        assert!(
            median <= LATE,
            "half of the lines came later than {median:?}, the last {:?}",
            late.last()
        );
        trace.finish();
    });
}
