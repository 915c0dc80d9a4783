//! `life`: each connection is there once, with what it carried, its owner and ending.

use std::process;

use super::trace::comm;
use super::workload::{self, End};
use crate::support::netns::in_netns;
use crate::support::program::lives::{Life, Lives};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::states::STATES;

on_both_hooks!(equals_the_workload);

fn equals_the_workload(hook: Hook) {
    in_netns(|_| {
        let trace = Lives::start(hook, &[]);
        let made = workload::run();
        trace.until(made.ends.len());
        let told = trace.finish();
        assert_eq!(
            ["lost", "unmatched"].map(|key| told.number(key)),
            [0, 0],
            "{}",
            told.end
        );
        assert_eq!(told.lives.len(), made.ends.len(), "no more came");
        for end in &made.ends {
            compare(told.at(end.local, end.remote), end);
        }
    });
}

fn compare(life: &Life, end: &End) {
    let context = format!("{}: {}", end.kind, life.0);
    assert_eq!(
        [life.text("opened"), life.text("ended")],
        [if end.is_client { "active" } else { "passive" }, end.ended],
        "{context}"
    );
    assert_eq!(
        [life.number("bytes_sent"), life.number("bytes_received")],
        [end.sent, end.received],
        "{context}"
    );
    let owner = &life.0["owner"];
    assert_eq!(
        (&owner["pid"], &owner["comm"]),
        (&process::id().into(), &comm().into()),
        "{context}"
    );
    // A state is left for the next, and the last is not stayed in.
    let left = end
        .path
        .split(' ')
        .filter_map(|step| step.split_once('>')?.0.parse().ok());
    let mut states: Vec<&str> = left
        .filter(|state: &u8| ![7, 10].contains(state))
        .map(|number| STATES.iter().find(|state| state.number == number).expect("a state").key)
        .collect();
    states.sort_unstable();
    let spent = life.spent();
    assert!(spent.keys().eq(&states), "not {states:?}: {context}");
    assert_eq!(spent.values().sum::<u64>(), life.number("lifetime_ns"), "{context}");
}
