//! `churn` names who opens connections and to where, why some fail, and bursts.

use std::net::SocketAddr;
use std::process;

use serde_json::Value;
use socket2::Socket;

use crate::support::clock::eventually;
use crate::support::netns::{in_netns, ip};
use crate::support::peers::snmp;
use crate::support::program::churn::{Churn, Sums, number, of_process, seconds, sum, time_wait_by};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::python::Python;
use crate::support::sockets::{accept, address, bound, listen, pair, read_eof, socket, start_connect};
use crate::support::spoiled::{self, done_again};
use crate::support::steady::{Binds, OpenedAt, Sink, steady};
use crate::support::{LOOPBACK, heavy};

on_both_hooks!(
    who_opened_and_to_where,
    openings_over_loopback_are_counted_once,
    the_last_row_has_what_was_done_before_the_end
);

/// Opens a number of connections, one after the other, and lets the first or the other side close first.
const ONE_BY_ONE: &str = r#"
import socket, sys
host, port, count, closes_first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "client"
for _ in range(count):
    connection = socket.create_connection((host, port))
    if not closes_first:
        connection.recv(1)
    connection.close()
print('"done"', flush=True)
input()
"#;

/// Says how often connecting to an address failed, and how, of a number of times.
const FAILING: &str = r#"
import collections, errno, json, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
said, kept = collections.Counter(), []
for _ in range(count):
    connection = socket.socket()
    try:
        connection.connect((host, port))
        kept.append(connection)
        said["connected"] += 1
    except OSError as error:
        said[errno.errorcode[error.errno]] += 1
        connection.close()
print(json.dumps(said), flush=True)
input()
"#;

/// Waits for a line, then opens and closes a number of connections as fast as it goes, and says when it began and ended, and when it
/// opened each.
const BURST: &str = r#"
import json, socket, sys, time
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print('"ready"', flush=True)
input()
start, opened_at = time.time(), []
for _ in range(count):
    socket.create_connection((host, port)).close()
    opened_at.append(time.time())
print(json.dumps({"start": start, "end": time.time()}), flush=True)
print(json.dumps(opened_at), flush=True)
input()
"#;

fn who_opened_and_to_where(hook: Hook) {
    const COUNT: i64 = 200;
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        let churn = Churn::start(hook, "1");
        for (port, who, time_wait) in [(8080, "client", COUNT), (8081, "server", 0)] {
            let listener = listen(SocketAddr::new(LOOPBACK, port), 128);
            let mut python = Python::start(ONE_BY_ONE, &["127.0.0.1", &port.to_string(), &COUNT.to_string(), who]);
            for _ in 0..COUNT {
                let server = accept(&listener);
                if who == "client" {
                    read_eof(&server);
                } else {
                    // Its FIN, and then the client's, for which its descriptor need not stay.
                    drop(server);
                }
            }
            assert_eq!(python.line(0), "done");
            let pid = python.pid();
            let lifetimes = |rows: &[Value]| -> i64 {
                of_process(rows, pid)
                    .map(|owner| number(&owner["lifetime_ns"], "count"))
                    .sum()
            };
            let rows = churn.until("all connections to be told", |rows| {
                if lifetimes(rows) >= COUNT {
                    Ok(rows.to_vec())
                } else {
                    Err(format!("{rows:?}"))
                }
            });
            assert_eq!(lifetimes(&rows), COUNT);
            let sums = Sums {
                opened: COUNT,
                failed: 0,
                time_wait,
            };
            assert_eq!(Sums::of(of_process(&rows, pid)), sums);
            for owner in of_process(&rows, pid) {
                assert_eq!(owner["owner"]["comm"], python.comm(), "{owner}");
                assert_eq!(owner["lifetime_ns"]["unknown"], 0, "{owner}");
                let destinations = owner["destinations"].as_array().expect("destinations");
                assert_eq!(destinations.len(), 1, "{owner}");
                assert_eq!(
                    (&destinations[0]["remote"], &destinations[0]["rport"]),
                    (&"127.0.0.1".into(), &port.into())
                );
            }
        }
        let rows = churn.finish();
        assert_eq!(sum(&rows, "/failed/total"), 0);
        // The other ends are of the same connections: opened is told of one side, TIME_WAIT of the side it is on.
        let of_peers = |key: &str| -> i64 {
            let peers = rows.iter().flat_map(|row| row["peers"].as_array().expect("peers"));
            peers.map(|peer| number(peer, key)).sum()
        };
        assert_eq!((of_peers("opened"), of_peers("time_wait")), (0, COUNT), "{rows:?}");
        assert_eq!(sum(&rows, "/time_wait/entered"), 2 * COUNT);
        // The servers of port 8081 closed first, and are of this process.
        for (by, key, value) in [
            ("process", "/owner/pid", process::id().into()),
            ("lport", "/lport", 8081.into()),
            ("lport", "/lport", Value::Null),
            ("peer", "/rport", 8080.into()),
            ("peer", "/rport", Value::Null),
        ] {
            assert_eq!(time_wait_by(&rows, by, key, &value), COUNT, "{by} {value}: {rows:?}");
        }
        let peers = rows.iter().flat_map(|row| row["peers"].as_array().expect("peers"));
        for to in peers.flat_map(|peer| peer["destinations"].as_array().expect("destinations")) {
            for owner in to["owners"].as_array().expect("owners") {
                assert_eq!(owner["owner"]["pid"], process::id(), "{to}");
            }
        }
    });
}

/// Both ends are here; the filter selects both, the client's, or the server's.
fn openings_over_loopback_are_counted_once(hook: Hook) {
    const COUNT: i64 = 20;
    in_netns(|_| {
        for (filter, by_client, by_peer) in [("--port", COUNT, 0), ("--rport", COUNT, 0), ("--lport", 0, COUNT)] {
            let args = ["churn", "0.5", filter, "8080", "--hook", hook.name()];
            let churn = Churn::of(Running::start(&args));
            let listener = listen(SocketAddr::new(LOOPBACK, 8080), 128);
            let pairs: Vec<_> = (0..COUNT).map(|_| pair(&listener)).collect();
            drop((listener, pairs));
            let rows = churn.finish();
            let opened = |openers: &str| -> i64 {
                let openers = rows.iter().filter_map(|row| row[openers].as_array()).flatten();
                openers.map(|opener| number(opener, "opened")).sum()
            };
            assert_eq!(
                (opened("owners"), opened("peers")),
                (by_client, by_peer),
                "{filter}: {rows:?}"
            );
        }
    });
}

fn the_last_row_has_what_was_done_before_the_end(hook: Hook) {
    const COUNT: i64 = 1000;
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        let churn = Churn::start(hook, "5");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 128);
        let mut python = Python::start(ONE_BY_ONE, &["127.0.0.1", "8080", &COUNT.to_string(), "client"]);
        for _ in 0..COUNT {
            read_eof(&accept(&listener));
        }
        assert_eq!(python.line(0), "done");
        let pid = python.pid();
        let rows = churn.finish();
        let sums = Sums {
            opened: COUNT,
            failed: 0,
            time_wait: COUNT,
        };
        assert_eq!(Sums::of(of_process(&rows, pid)), sums, "{rows:?}");
        // The kernel's own, of the same intervals.
        assert_eq!(sum(&rows, "/time_wait/entered"), COUNT);
    });
}

#[test]
fn connects_that_fail_by_how() {
    done_again(|| {
        in_netns(|netns| {
            let mut churn = Churn::start(Hook::TpBtf, "0.2");
            let fail = |host: &str, port: u16, times: i64| {
                let mut python = Python::start(FAILING, &[host, &port.to_string(), &times.to_string()]);
                let said = python.line(0);
                (python.pid(), said)
            };
            let nobody = bound(SocketAddr::new(LOOPBACK, 8081));
            let (refused, said) = fail("127.0.0.1", address(&nobody).port(), 30);
            assert_eq!(said, serde_json::json!({ "ECONNREFUSED": 30 }));
            // A neighbour that does not answer; its other end is here too, and has no address.
            for args in [
                "link add v0 type veth peer name v1",
                "addr add 10.98.0.1/24 dev v0",
                "link set v0 up",
                "link set v1 up",
            ] {
                ip(&args.split(' ').collect::<Vec<_>>());
            }
            netns.set("ipv4/neigh/v0/mcast_solicit", "1");
            netns.set("ipv4/neigh/v0/retrans_time_ms", "100");
            let (unreachable, said) = fail("10.98.0.77", 8080, 3);
            assert_eq!(said, serde_json::json!({ "EHOSTUNREACH": 3 }));
            netns.set("ipv4/ip_local_port_range", "50000 50000");
            let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
            let (no_port, said) = fail("127.0.0.1", 8080, 5);
            assert_eq!(said, serde_json::json!({ "connected": 1, "EADDRNOTAVAIL": 4 }));
            churn.fresh();
            let rows = churn.finish();
            let failed = |how: &str| sum(&rows, &format!("/failed/{how}"));
            assert_eq!(failed("refused"), 30);
            assert_eq!(failed("unreachable"), 3);
            assert_eq!(failed("no_port"), 4);
            assert_eq!(failed("total"), 37);
            for (pid, count) in [(refused, 30), (unreachable, 3), (no_port, 4)] {
                assert_eq!(Sums::of(of_process(&rows, pid)).failed, count, "of {pid}: {rows:?}");
            }
            drop(listener);
        });
    });
}

/// A burst is reported once, and a steady rate is none.
///
/// It takes half a minute: what is usual is only known after 10 s, and a steady rate only shows in some seconds.
#[test]
fn a_burst_is_reported_once() {
    done_again(|| in_netns(|_| burst_and_steady()));
}

fn burst_and_steady() {
    const COUNT: i64 = 3000;
    let _sinks = [Sink::at("127.0.0.1:8080"), Sink::at("127.0.0.2:8081")];
    let mut churn = Churn::start(Hook::TpBtf, "1");
    let mut python = Python::start(BURST, &["127.0.0.1", "8080", &COUNT.to_string()]);
    assert_eq!(python.line(0), "ready");
    churn.until_rows(12);
    let said = {
        let _turn = heavy::turn();
        python.go();
        python.line(1)
    };
    spoiled_if_it_stood_still(&OpenedAt::of(&mut python, 2));
    churn.until("a burst", |rows| {
        let any = rows.iter().any(|row| row["bursts"] != Value::Array(Vec::new()));
        if any {
            Ok(())
        } else {
            Err("none is reported".to_owned())
        }
    });
    let rows = churn.rows().len();
    let mut steady = steady(&["127.0.0.2:8081"], "200", &Binds::Never);
    assert_eq!(steady.line(0), "begun");
    churn.until_rows(rows + 16);
    // It goes on until nobody looks any more: where it ended sooner, so short a time would be a burst.
    let (rows, findings) = churn.finish_with_findings();
    steady.go();
    spoiled_if_it_stood_still(&OpenedAt::of(&mut steady, 2));
    let bursts: Vec<&Value> = rows
        .iter()
        .flat_map(|row| row["bursts"].as_array().expect("bursts"))
        .collect();
    let [burst] = bursts.as_slice() else {
        panic!("one burst there was, and reported are {bursts:?}");
    };
    assert_eq!(
        (&burst["owner"]["pid"], &burst["owner"]["comm"]),
        (&python.pid().into(), &python.comm().into())
    );
    let found: Vec<&Value> = findings.iter().filter(|found| found["detector"] == "burst").collect();
    let [found] = found.as_slice() else {
        panic!("one burst there was, and found are {found:?}");
    };
    for key in ["start", "end", "opened", "peak_per_s"] {
        assert_eq!(found["evidence"][key], burst[key], "{found}");
    }
    assert_eq!(
        (&found["owner"]["pid"], &found["severity"]),
        (&python.pid().into(), &"info".into())
    );
    let opened = number(burst, "opened");
    // Whole seconds are counted: in the first and the last of it there may be too few to be of a burst.
    assert!((COUNT - 200..=COUNT).contains(&opened), "{burst} against {said}");
    for end in ["start", "end"] {
        let by = seconds(&burst[end]) - said[end].as_f64().expect("a time");
        assert!(by.abs() <= 1.0, "{end} is {by} s off: {burst} against {said}");
    }
}

/// A client that opens less than a hundred in a second ends a burst, and begins another when it goes on.
fn spoiled_if_it_stood_still(opened_at: &OpenedAt) {
    if opened_at.fewest_in_half_a_second() < 60.0 {
        spoiled::remember("a client stood still for a moment");
    }
}

/// A rate that was there from the beginning is the usual.
#[test]
fn a_steady_rate_is_no_burst() {
    done_again(|| {
        in_netns(|_| {
            let _sink = Sink::at("127.0.0.1:8080");
            let mut steady = steady(&["127.0.0.1:8080"], "200", &Binds::Never);
            assert_eq!(steady.line(0), "begun");
            let mut churn = Churn::start(Hook::TpBtf, "1");
            churn.until_rows(15);
            let rows = churn.finish();
            steady.go();
            // Or hurried after that.
            spoiled_if_it_stood_still(&OpenedAt::of(&mut steady, 2));
            for row in &rows {
                assert_eq!(
                    (&row["bursts"], &row["burst_going"]),
                    (&Value::Array(Vec::new()), &Value::Null),
                    "{row}"
                );
            }
        });
    });
}

#[test]
fn accept_queues_that_overflow() {
    in_netns(|_| {
        let counted = || ["ListenOverflows", "ListenDrops"].map(|name| snmp::read().get(&format!("TcpExt:{name}")));
        let before = counted();
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 1);
        let clients: Vec<Socket> = (0..10)
            .map(|_| {
                let client = socket(address(&listener));
                start_connect(&client, address(&listener));
                client
            })
            .collect();
        eventually("the queue to overflow", || {
            if counted() > before {
                Ok(())
            } else {
                Err("it holds all")
            }
        });
        // Without these nobody sends a SYN again.
        drop(clients);
        churn.fresh();
        let now = counted();
        let rows = churn.finish();
        for (place, key) in ["overflows", "drops"].into_iter().enumerate() {
            assert_eq!(
                sum(&rows, &format!("/accept_queues/{key}")),
                now[place] - before[place],
                "{key}"
            );
        }
        drop(listener);
    });
}
