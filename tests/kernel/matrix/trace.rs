//! `trace`: of each connection every transition is there once, with the right owner and ending.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::{fs, process};

use super::workload::{self, End};
use crate::support::netns::in_netns;
use crate::support::program::event::{Event, Owner, lives, path};
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};

on_both_hooks!(equals_the_workload);

fn equals_the_workload(hook: Hook) {
    in_netns(|netns| {
        let trace = Trace::start(hook, &[]);
        let made = workload::run();
        trace.until_events(usize::try_from(made.cells.total()).expect("few"));
        let traced = trace.finish();
        assert_eq!(
            ["lost", "unmatched"].map(|key| traced.number(key)),
            [0, 0],
            "{}",
            traced.end
        );
        assert_eq!(traced.end["missed"].as_i64().unwrap_or(0), 0, "{}", traced.end);
        assert_eq!(
            i64::try_from(traced.events.len()).expect("few"),
            made.cells.total(),
            "no more came"
        );
        let lives = lives(&traced.events);
        // The last transition has both ports.
        let by_ends: HashMap<_, _> = lives.iter().map(|life| (ends(&life[life.len() - 1]), life)).collect();
        let mut wrong = Vec::new();
        for end in &made.ends {
            match by_ends.get(&(end.local, end.remote)) {
                None => wrong.push(format!("{}: {} with {} is missing", end.kind, end.local, end.remote)),
                Some(life) => wrong.extend(compare(life, end, netns.inum).err()),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(traced.said, "", "it has nothing to complain about");
    });
}

/// The two ends of a transition's connection.
fn ends(event: &Event) -> (SocketAddr, SocketAddr) {
    let end = |address: &str, port: Option<u64>| {
        let port = u16::try_from(port.unwrap_or(0)).expect("a port");
        SocketAddr::new(address.parse().expect("an address"), port)
    };
    (end(&event.local, event.lport), end(&event.remote, event.rport))
}

/// Whether `life` is what was done at `end` in the namespace `netns`; else how not.
fn compare(life: &[Event], end: &End, netns: u64) -> Result<(), String> {
    let differs = |what: &str| Err(format!("{}: {what}: {life:#?}", end.kind));
    if path(life) != end.path {
        return differs(&format!("the transitions are not {}", end.path));
    }
    let opened = if end.is_client { "active" } else { "passive" };
    let family = if end.local.is_ipv4() { "ipv4" } else { "ipv6" };
    for (place, event) in life.iter().enumerate() {
        if event.opened.as_deref() != Some(opened) || event.family != family || event.netns != Some(netns) {
            return differs("what it is");
        }
        if event.owner.as_ref() != Some(&owner(event, end)) {
            return differs("the owner");
        }
        if event.dwell_ns.is_some() != (place > 0) {
            return differs("the time in a state");
        }
    }
    if life.last().and_then(|event| event.ended.as_deref()) != Some(end.ended) {
        return differs(&format!("the ending is not {}", end.ended));
    }
    Ok(())
}

/// This process, and how it came to own the socket that makes this transition.
fn owner(event: &Event, end: &End) -> Owner {
    let how = match event.from {
        _ if end.is_client => "connect",
        // Nobody can have accepted it.
        3 | 10 => "listen",
        _ => "accept",
    };
    Owner {
        pid: Some(process::id().into()),
        comm: comm(),
        how: how.to_owned(),
    }
}

/// The name of this process.
pub(super) fn comm() -> String {
    let comm = fs::read_to_string("/proc/self/comm").expect("this process's name");
    comm.trim_end().to_owned()
}
