//! Two tcpwatch at once do not disturb each other.

use crate::support::cells::Cells;
use crate::support::netns::in_netns;
use crate::support::program::event::lives;
use crate::support::program::stat::Stat;
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::workload::{self, bulk};

on_both_hooks!(count_the_same, trace_the_same);

fn count_the_same(hook: Hook) {
    in_netns(|netns| {
        let mut stats = [Stat::start(hook, &[]), Stat::start(hook, &[])];
        let promised = bulk::connections(500);
        let none = Cells::default();
        for stat in &mut stats {
            assert_eq!(stat.reaches(&none, &promised), Ok(()));
        }
        let [one, mut other] = stats;
        one.finish();
        let promised = promised.and(&bulk::connections(500));
        assert_eq!(other.reaches(&none, &promised), Ok(()), "one goes, the other counts on");
        for workload in workload::all() {
            (workload.run)(netns);
        }
        other.finish();
    });
}

fn trace_the_same(hook: Hook) {
    in_netns(|_| {
        let traces = [Trace::start(hook, &[]), Trace::start(hook, &[])];
        bulk::connections(100);
        let stories = traces.map(|trace| {
            trace.until_events(1_004);
            let mut story: Vec<Vec<_>> = lives(&trace.finish().events)
                .into_iter()
                .map(|mut life| {
                    life.sort_by_key(|event| event.time);
                    life.iter()
                        .map(|event| (event.from, event.to, event.lport, event.rport, event.cookie.clone()))
                        .collect()
                })
                .collect();
            // The two stamp each transition at a moment of their own, so lives may begin in another order.
            story.sort();
            story
        });
        assert_eq!(stories[0].len(), 202);
        assert_eq!(stories[0], stories[1]);
    });
}
