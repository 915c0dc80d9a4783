//! In a time namespace the clock that never jumps is not the kernel's: what is told of times is right all the same.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};

use crate::support::agent::Agent;
use crate::support::clock::{now, wall};
use crate::support::netns::in_netns;
use crate::support::program::churn::{Churn, seconds};
use crate::support::program::lives::Lives;
use crate::support::program::run::binary;
use crate::support::program::trace::{Probe, Trace, connect_and_close};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::steady::{Binds, OpenedAt, Sink, steady};

on_both_hooks!(transitions, finished_connections);

/// What the namespace's clocks are ahead, s: 11 days.
const AHEAD: &str = "1000000";

/// tcpwatch in such a namespace.
fn ahead(args: &[&str]) -> Running {
    let mut command = Command::new("unshare");
    command.args([
        "--time",
        "--fork",
        "--kill-child",
        "--monotonic",
        AHEAD,
        "--boottime",
        AHEAD,
    ]);
    let running = Running::below(command.arg(binary()).args(args).args(["-o", "json"]));
    let offsets = fs::read_to_string(format!("/proc/{}/timens_offsets", running.pid())).expect("its clocks");
    assert_eq!(offsets.matches(AHEAD).count(), 2, "{offsets}");
    running
}

/// Whether `time` is between two readings of the clock on the wall, which may be slewed meanwhile.
fn is_between(time: Timestamp, before: SystemTime, after: SystemTime) -> bool {
    let slack = SignedDuration::from_millis(2);
    let of = |time| Timestamp::try_from(time).expect("a time");
    of(before) - slack <= time && time <= of(after) + slack
}

/// When each was, how long the state before had lasted, and of a process found in /proc, that it was there by then: its cgroup.
fn transitions(hook: Hook) {
    in_netns(|_| {
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run("l = socket.create_server(('127.0.0.1', 8080))");
        client.run("c = socket.create_connection(('127.0.0.1', 8080))");
        server.run("s = l.accept()[0]");
        let trace = Trace::probing(ahead(&["trace", "--hook", hook.name()]), || {
            connect_and_close(Probe::ANY);
        });
        let (closing, closing_wall) = (now(), wall());
        client.run("c.close()");
        let closed = now();
        trace.until_events(3);
        let least = closed.elapsed().as_nanos();
        server.run("s.recv(1); s.close()");
        trace.until_events(6);
        let most = closing.elapsed().as_nanos();
        let events = trace.finish().events;
        let closed_wall = wall();
        assert_eq!(events.len(), 6, "{events:#?}");
        for event in &events {
            assert!(
                is_between(event.time, closing_wall, closed_wall),
                "{closing_wall:?} {closed_wall:?}: {event:?}"
            );
            assert!(
                event.dwell_ns.is_none_or(|dwell| u128::from(dwell) <= most),
                "all took {most} ns: {event:?}"
            );
        }
        let told = |from, to| {
            let mut events = events.iter().filter(|event| event.lport == Some(8080));
            let found = events.find(|event| (event.from, event.to) == (from, to));
            found.unwrap_or_else(|| panic!("{from}>{to} is not told"))
        };
        let (eof, end) = (told(1, 8), told(8, 9));
        let dwell = u128::from(end.dwell_ns.expect("its start was seen"));
        assert!(dwell >= least, "CLOSE_WAIT lasted for {least} ns at least: {end:?}");
        let owner = eof.owner.as_ref().expect("/proc shows it");
        assert_eq!((owner.pid, owner.how.as_str()), (Some(server.pid()), "scan"));
        assert_eq!(eof.cgroup, end.cgroup, "/proc's and the kernel's word");
        assert!(eof.cgroup.is_some(), "{eof:?}");
    });
}

fn finished_connections(hook: Hook) {
    in_netns(|_| {
        let lives = ahead(&["life", "--hook", hook.name()]);
        let lives = Lives::probing(lives, || connect_and_close(Probe::ANY));
        let mut agent = Agent::named("both");
        let (start, start_wall) = (now(), wall());
        agent.run("l = socket.create_server(('127.0.0.1', 8080)); c = socket.create_connection(('127.0.0.1', 8080)); s = l.accept()[0]");
        let opened = now();
        agent.run("import time; time.sleep(0.3)");
        let least = opened.elapsed().as_nanos();
        agent.run("c.close(); s.recv(1); s.close()");
        let (most, end_wall) = (start.elapsed().as_nanos(), wall());
        lives.until(2);
        let lives = lives.finish().lives;
        assert_eq!(lives.len(), 2, "{lives:#?}");
        for life in lives {
            for key in ["opened_at", "time"] {
                assert!(
                    is_between(life.time(key), start_wall, end_wall),
                    "{start_wall:?} {end_wall:?}: {}",
                    life.0
                );
            }
            let lifetime = u128::from(life.number("lifetime_ns"));
            assert!(
                least <= lifetime && lifetime <= most,
                "{least} to {most} ns: {}",
                life.0
            );
        }
    });
}

/// What opens at a steady rate is told to do so, at the time that it is.
#[test]
fn rates() {
    in_netns(|_| {
        const PER_S: f64 = 50.0;
        let (to, start) = ("127.0.0.1:8080", wall());
        let _sink = Sink::at(to);
        let mut churn = Churn::of(ahead(&["churn", "0.5", "--hook", Hook::TpBtf.name()]));
        let mut client = steady(&[to], &PER_S.to_string(), &Binds::Never);
        churn.until_rows(12);
        let rows = churn.finish();
        client.go();
        let opened_at = OpenedAt::of(&mut client, 2);
        let last = rows.last().expect("rows");
        let per_s = opened_at.lately_per_s(seconds(&last["time"]));
        let rate = last["ports"][0]["opened_per_s"].as_f64();
        let off = rate.map(|rate| (rate - per_s).abs());
        assert!(
            off.is_some_and(|off| off <= per_s / 10.0),
            "it is {per_s} a second: {last}"
        );
        for row in &rows {
            let time = row["time"].as_str().and_then(|time| time.parse().ok());
            assert!(is_between(time.expect("a time"), start, wall()), "{row}");
        }
    });
}
