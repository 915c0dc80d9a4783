//! Each life of a socket is told whole, under an id of its own.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::fdinfo::{Object, objects};
use crate::support::netns::in_netns;
use crate::support::output::output;
use crate::support::peers::bpftrace::Observer;
use crate::support::peers::ss;
use crate::support::program::event::{Event, lives, path};
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, address, listen, pair, read_eof, socket};
use crate::support::workload::bulk;
use crate::support::workload::lives::two_lives;

on_both_hooks!(
    a_first_sighting_has_no_dwell_time,
    dwell_is_the_time_since_the_transition_before,
    a_reused_kernel_address_is_a_new_id,
    a_second_life_of_one_socket_is_a_new_id,
);

fn a_first_sighting_has_no_dwell_time(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let Pair { client, server } = pair(&listener);
        let trace = Trace::start(hook, &[]);
        drop(client);
        read_eof(&server);
        drop(server);
        trace.until_events(6);
        let lives = lives(&trace.finish().events);
        assert_eq!(
            paths(&lives),
            BTreeSet::from(["1>4 4>5 5>7".into(), "1>8 8>9 9>7".into()])
        );
        for life in &lives {
            assert_eq!(
                life[0].dwell_ns, None,
                "ESTABLISHED began before the trace: {:?}",
                life[0]
            );
            for event in &life[1..] {
                assert!(event.dwell_ns.is_some(), "its start was seen: {event:?}");
            }
        }
    });
}

fn dwell_is_the_time_since_the_transition_before(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        bulk::connections(20);
        trace.until_events(204);
        for life in lives(&trace.finish().events) {
            assert_eq!(life[0].dwell_ns, None, "a birth has none: {:?}", life[0]);
            for pair in life.windows(2) {
                let passed = pair[1].time.duration_since(pair[0].time).as_nanos();
                let dwell = i128::from(pair[1].dwell_ns.expect("its start was seen"));
                // The clock on the wall may be slewed between the two.
                assert!(
                    (dwell - passed).abs() < 1_000_000,
                    "dwell {dwell} ns, {passed} ns passed: {pair:?}"
                );
            }
        }
    });
}

fn a_reused_kernel_address_is_a_new_id(hook: Hook) {
    in_netns(|netns| {
        let observer = Observer::start(netns);
        let trace = Trace::start(hook, &[]);
        bulk::connections(1_000);
        observer.final_cells();
        trace.until_events(10_004);
        let births: Vec<i64> = observer.births_by_address();
        assert!(
            births.iter().any(|&lives| lives > 1),
            "no address was reused, so this proves nothing: {births:?}"
        );
        let lives = lives(&trace.finish().events);
        let whole = BTreeSet::from([
            "7>2 2>1 1>4 4>5 5>7".into(),
            "10>3 3>1 1>8 8>9 9>7".into(),
            "7>10 10>7".into(),
        ]);
        assert_eq!(paths(&lives), whole, "an id names one life, and a life has one id");
        assert_eq!(lives.len(), 2 * 1_000 + 2);
    });
}

fn a_second_life_of_one_socket_is_a_new_id(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let client = socket(address(&listener));
        two_lives(&listener, &client);
        trace.until_events(1 + 3 + 5 + 3 + 5);
        let lives = lives(&trace.finish().events);
        let wanted = [
            "7>10",
            "7>2 2>1 1>7",
            "10>3 3>1 1>7",
            "7>2 2>1 1>4 4>5 5>7",
            "10>3 3>1 1>8 8>9 9>7",
        ];
        assert_eq!(paths(&lives), wanted.map(String::from).into());
        assert_eq!(lives.len(), wanted.len(), "each under one id: {lives:#?}");
    });
}

/// The cookie, which only the typed hook can ask for, is the one `ss -e` shows.
#[test]
fn the_cookie_is_that_of_ss() {
    in_netns(|_| {
        let trace = Trace::start(Hook::TpBtf, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let both = pair(&listener);
        let shown: BTreeSet<Option<String>> = ss::rows().into_iter().map(|row| row.cookie).collect();
        let events = trace.until_events(5);
        let later: Vec<&Event> = events.iter().filter(|event| event.from != 10).collect();
        assert_eq!(later.len(), 4, "7>10, 7>2, 2>1, 3>1: {events:#?}");
        for event in later {
            assert!(shown.contains(&event.cookie), "ss shows {shown:?}, but {event:?}");
        }
        trace.finish();
        drop(both);
    });
}

fn paths(lives: &[Vec<Event>]) -> BTreeSet<String> {
    lives.iter().map(|life| path(life)).collect()
}

/// Sockets that await their reset when they are destroyed: data comes for an orphan in `FIN_WAIT2`.
#[test]
fn the_table_of_sockets_has_room_again_when_they_are_gone() {
    const COUNT: usize = 40;
    in_netns(|netns| {
        // Above a minute, an orphan stays a full socket.
        netns.set("ipv4/tcp_fin_timeout", "120");
        let trace = Trace::start(Hook::Tracepoint, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 128);
        let pairs: Vec<Pair> = (0..COUNT).map(|_| pair(&listener)).collect();
        let (clients, servers): (Vec<_>, Vec<_>) = pairs.into_iter().map(|pair| (pair.client, pair.server)).unzip();
        drop(clients);
        for server in &servers {
            read_eof(server);
            (&*server).write_all(b"late").expect("the send buffer has room");
        }
        drop((servers, listener));
        trace.until_events(2 + 9 * COUNT);
        let kept = entries(trace.running().pid(), "INFOS_BY_ADDR");
        let events = trace.finish().events;
        let resets = events
            .iter()
            .filter(|event| event.ended.as_deref() == Some("reset_after_close"));
        assert_eq!(resets.count(), COUNT, "{events:?}");
        let cpus = std::thread::available_parallelism().expect("the number of CPUs").get();
        assert!(kept <= cpus, "{kept} sockets are kept, and there are {cpus} CPUs");
    });
}

/// How many entries the map `name` of `pid` has, by bpftool.
fn entries(pid: u32, name: &str) -> usize {
    let bpftool = |args: &[&str]| -> Value {
        serde_json::from_str(&output(Command::new("bpftool").arg("-j").args(args))).expect("JSON of bpftool")
    };
    let ids = objects(pid).into_iter().filter_map(|object| match object {
        Object::Map(id) => Some(id.to_string()),
        _ => None,
    });
    let id = ids
        .into_iter()
        .find(|id| bpftool(&["map", "show", "id", id])["name"] == name)
        .expect("the map");
    bpftool(&["map", "dump", "id", &id]).as_array().expect("entries").len()
}
