//! Timewait sockets: how many are made, how many are gone and why, by the kernel's own counters and population. That all are gone
//! after a minute is in `a_minute.rs`.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::clock::eventually;
use crate::support::netns::in_netns;
use crate::support::peers::{snmp, ss};
use crate::support::proc_tcp::until_in;
use crate::support::program::stat::{Stat, sum};
use crate::support::program::{Ended, Hook, on_both_hooks};
use crate::support::sockets::{Pair, accept, address, bound, listen, pair, read_eof, reset, socket};
use crate::support::workload;

on_both_hooks!(
    taken_over_by_connect,
    ended_early,
    refused,
    orphans_in_fin_wait2,
    endings_add_up,
);

/// The endings of connections that leave a timewait socket, where there is room for one.
const TIMEWAIT_ENDINGS: [&str; 3] = [
    "/closed/graceful_active",
    "/closed/simultaneous",
    "/closed/closed_first",
];

/// Connections that ended so.
pub(crate) fn timewait_endings(ended: &Ended) -> i64 {
    TIMEWAIT_ENDINGS.iter().map(|ending| sum(ended, ending)).sum()
}

/// What the kernel's counters say was made so far.
pub(crate) fn entered() -> i64 {
    let counters = snmp::read();
    counters.get("TcpExt:TW") + counters.get("TcpExt:TWKilled")
}

/// The sum of one number of `time_wait` over the rows so far.
pub(crate) fn so_far(stat: &Stat, key: &str) -> i64 {
    stat.running().lines().with(|lines| {
        let number = |row: &Value| row["time_wait"][key].as_i64();
        lines
            .iter()
            .map(|line| number(&line.json).unwrap_or_else(|| panic!("no {key} in {}", line.json)))
            .sum()
    })
}

/// Waits until as many are gone as `left`, and the kernel's population is what is not.
pub(crate) fn until_left(stat: &mut Stat, left: i64) {
    eventually(&format!("{left} timewait sockets to be gone"), || {
        stat.fresh();
        let (ours, population) = (so_far(stat, "left"), stat.last()["time_wait"]["population"].clone());
        if ours == left && population == snmp::timewait_population() {
            Ok(())
        } else {
            Err(format!(
                "{ours} are gone, {population} are there, and {} by sockstat",
                snmp::timewait_population()
            ))
        }
    });
}

/// A connection closed by the client, then by the server.
pub(crate) fn client_first(listener: &socket2::Socket) {
    let Pair { client, server } = pair(listener);
    drop(client);
    read_eof(&server);
}

fn taken_over_by_connect(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "1");
        netns.set("ipv4/ip_local_port_range", "50000 50007");
        let stat = Stat::start(hook, &[]);
        let before = snmp::read();
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        for _ in 0..24 {
            // There are 8 ports, and one may be had again after a second.
            let client = eventually("a port to be had again", || {
                let client = socket(address(&listener));
                client.connect(&address(&listener).into()).map(|()| client)
            });
            let server = accept(&listener);
            drop(client);
            read_eof(&server);
        }
        let recycled = snmp::read().get("TcpExt:TWRecycled") - before.get("TcpExt:TWRecycled");
        assert!(recycled >= 16, "of 8 ports 24 connections took over {recycled}");
        let ended = stat.finish();
        assert_eq!(sum(&ended, "/time_wait/recycled"), recycled);
        assert_eq!(sum(&ended, "/time_wait/entered"), 24);
        assert_eq!(
            (sum(&ended, "/time_wait/left"), snmp::timewait_population()),
            (recycled, 24 - recycled),
            "what was taken over is gone, and nothing else"
        );
    });
}

/// Gone before its time, though none of the kernel's counters says so.
fn ended_early(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        let mut stat = Stat::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let before = snmp::read();
        // By a SYN: the client comes again from the same port, the server is in TIME_WAIT.
        let from = SocketAddr::new(LOOPBACK, 45_001);
        let mut open = Vec::new();
        for left in 0..3 {
            let client = bound(from);
            client.connect(&address(&listener).into()).expect("connect");
            let server = accept(&listener);
            until_left(&mut stat, left);
            drop(server);
            read_eof(&client);
            drop(client);
            until_in(6, 8080, from.port());
        }
        let client = bound(from);
        client.connect(&address(&listener).into()).expect("connect");
        open.push(Pair {
            client,
            server: accept(&listener),
        });
        until_left(&mut stat, 3);
        // By a reset: the client has closed, what is left of it is a timewait socket in FIN_WAIT2; the server resets.
        let Pair { client, server } = pair(&listener);
        let port = address(&client).port();
        drop(client);
        read_eof(&server);
        until_in(5, port, 8080);
        until_left(&mut stat, 3);
        reset(server);
        until_left(&mut stat, 4);
        // By the administrator's hand.
        let Pair { client, server } = pair(&listener);
        let port = address(&client).port();
        drop(client);
        read_eof(&server);
        drop(server);
        until_in(6, port, 8080);
        until_left(&mut stat, 4);
        ss::kill(&["state", "time-wait", "sport", "=", &port.to_string()]);
        until_left(&mut stat, 5);
        let after = snmp::read();
        let ended = stat.finish();
        assert_eq!(after.get("TcpExt:TWRecycled"), before.get("TcpExt:TWRecycled"));
        assert_eq!(sum(&ended, "/time_wait/recycled"), 0);
        assert_eq!(sum(&ended, "/time_wait/entered"), 5);
        assert_eq!(sum(&ended, "/time_wait/left"), 5);
        drop(open);
    });
}

fn refused(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        netns.set("ipv4/tcp_max_tw_buckets", "100");
        let before = snmp::read();
        let mut stat = Stat::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        for _ in 0..60 {
            client_first(&listener);
        }
        // Rows before the first refusal are whole.
        stat.fresh();
        for _ in 0..90 {
            client_first(&listener);
        }
        stat.fresh();
        let refused = snmp::read().get("TcpExt:TCPTimeWaitOverflow") - before.get("TcpExt:TCPTimeWaitOverflow");
        assert!(refused > 0, "nothing was refused, so this proves nothing");
        let ended = stat.finish();
        assert_eq!(sum(&ended, "/time_wait/refused"), refused);
        assert_eq!(
            sum(&ended, "/time_wait/entered") + refused,
            timewait_endings(&ended),
            "each of those connections has a timewait socket or was refused one"
        );
        for line in &ended.lines {
            let time_wait = &line.json["time_wait"];
            assert_eq!(
                time_wait["entered_fin_wait2"].is_null(),
                time_wait["refused"].as_i64() > Some(0),
                "which of them were refused is not known: {}",
                line.json
            );
        }
    });
}

fn orphans_in_fin_wait2(hook: Hook) {
    in_netns(|_| {
        let mut stat = Stat::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let mut servers = Vec::new();
        for _ in 0..7 {
            let Pair { client, server } = pair(&listener);
            let port = address(&client).port();
            drop(client);
            read_eof(&server);
            until_in(5, port, address(&listener).port());
            servers.push(server);
        }
        stat.fresh();
        assert_eq!(so_far(&stat, "entered_fin_wait2"), 7);
        // Those that close now go on to TIME_WAIT, which is no entry.
        drop(servers);
        stat.fresh();
        let ended = stat.finish();
        assert_eq!(sum(&ended, "/time_wait/entered"), 7);
        assert_eq!(sum(&ended, "/time_wait/entered_fin_wait2"), 7);
        assert_eq!(sum(&ended, "/closed/closed_first"), 7);
        assert_eq!(sum(&ended, "/time_wait/left"), 0);
    });
}

/// However connections end, each has one ending.
fn endings_add_up(hook: Hook) {
    in_netns(|netns| {
        let mut stat = Stat::start(hook, &[]);
        for workload in workload::all() {
            (workload.run)(netns);
        }
        stat.fresh();
        let ended = stat.finish();
        let closed = ended.lines[0].json["closed"].as_object().expect("closed").clone();
        let endings = closed.keys().filter(|key| *key != "total");
        let endings: i64 = endings.map(|key| sum(&ended, &format!("/closed/{key}"))).sum();
        assert!(endings > 0, "workloads close connections");
        assert_eq!(endings, sum(&ended, "/closed/total"));
    });
}
