//! Limits of threads and of descriptors: what can go on goes on and is right, and the rest says in one line which limit it is.

use std::net::SocketAddr;

use serde_json::Value;
use tcpwatch_common::TcpState;

use crate::support::LOOPBACK;
use crate::support::clock::eventually;
use crate::support::limits::{CgroupLimit, with_descriptors};
use crate::support::netns::{Neighbour, in_netns};
use crate::support::program::run::{Finished, finish, tcpwatch};
use crate::support::program::stat::Stat;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, listen, pair};

on_both_hooks!(stat_goes_on_where_no_thread_can_be_had);

/// A listener with `n` accepted connections.
fn open(n: usize) -> (socket2::Socket, Vec<Pair>) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let pairs = (0..n).map(|_| pair(&listener)).collect();
    (listener, pairs)
}

/// How many sockets `finished` counted in ESTABLISHED; it must have ended without a word.
fn established(finished: &Finished) -> Option<u64> {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let json: Value = serde_json::from_str(&finished.stdout).expect("one object");
    json["states"][TcpState::Established.name().to_lowercase()].as_u64()
}

/// The limit of a pids cgroup is reached in the middle of a run. Other namespaces are entered on a thread, if there can be one.
fn stat_goes_on_where_no_thread_can_be_had(hook: Hook) {
    in_netns(|_| {
        let neighbour = Neighbour::new();
        let there = neighbour.run(|_| open(3));
        let limit = CgroupLimit::of_processes();
        let stat = Stat::start(hook, &["--netns", &neighbour.pid().to_string()]);
        limit.take(stat.running().pid());
        limit.set(1);
        // Every ten seconds the counts are compared with the sockets there are.
        let row = eventually("the counts to be compared", || {
            stat.running().lines().with(|lines| {
                let compared = lines.iter().find(|line| !line.json["drift"].is_null());
                compared.map(|line| line.json.clone()).ok_or("they were not")
            })
        });
        assert_eq!(row["drift"], 0, "{row}");
        assert_eq!(row["connections"]["established"], 6, "{row}");
        let ended = stat.finish();
        assert_eq!(ended.stderr, "");
        drop(there);
    });
}

#[test]
fn another_namespace_is_read_where_no_thread_can_be_had() {
    in_netns(|_| {
        let neighbour = Neighbour::new();
        let there = neighbour.run(|_| open(3));
        let limit = CgroupLimit::of_processes();
        limit.set(1);
        let pid = neighbour.pid().to_string();
        for source in ["sock_diag", "proc"] {
            let args = ["snapshot", "--netns", &pid, "--source", source, "-o", "json"];
            assert_eq!(established(&finish(&limit.tcpwatch(&args))), Some(6), "{source}");
        }
        let finished = finish(&limit.tcpwatch(&["leaks", "--netns", &pid]));
        assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
        drop(there);
    });
}

/// Before anything is loaded, a limit of processes is an error that names it. One is the process itself; a second hears the signals.
#[test]
fn no_thread_at_the_start_is_one_line_that_names_the_limit() {
    in_netns(|_| {
        let limit = CgroupLimit::of_processes();
        for threads in [1, 2] {
            limit.set(threads);
            for command in ["stat", "trace", "churn", "latency"] {
                finish(&limit.tcpwatch(&[command, "--hook", "tp_btf"])).refuses(1, "pids.max");
            }
            finish(&limit.tcpwatch(&["leaks", "--watch", "1"])).refuses(1, "pids.max");
        }
    });
}

#[test]
fn few_descriptors_are_enough_or_named() {
    in_netns(|_| {
        let here = open(3);
        for descriptors in [8, 24, 64] {
            let finish = |args: &[&str]| finish(&with_descriptors(descriptors, &tcpwatch(args)));
            for hook in Hook::BOTH {
                for command in ["stat", "trace", "churn", "latency"] {
                    finish(&[command, "--hook", hook.name()]).refuses(1, "ulimit -n");
                }
                finish(&["leaks", "--watch", "1", "--stacks", "--hook", hook.name()]).refuses(1, "ulimit -n");
            }
            for source in ["sock_diag", "proc"] {
                let counted = finish(&["snapshot", "--source", source, "-o", "json"]);
                assert_eq!(established(&counted), Some(6), "{descriptors} {source}");
            }
            for command in ["leaks", "doctor"] {
                let finished = finish(&[command]);
                assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
            }
        }
        drop(here);
    });
}

/// No descriptor of a namespace is held, so more namespaces need no more of them; and one that cannot be opened for want of a descriptor
/// is not left out of the sum.
#[test]
fn fewer_descriptors_than_namespaces_are_enough_or_an_error() {
    in_netns(|_| {
        let neighbours: Vec<_> = (0..24).map(|_| Neighbour::new()).collect();
        for args in [&["snapshot", "--netns", "all"][..], &["leaks", "--netns", "all"]] {
            let with = |descriptors| finish(&with_descriptors(descriptors, &tcpwatch(args)));
            let enough = with(20);
            assert_eq!(enough.code, Some(0), "{}", enough.stderr);
            for run in (4..20).map(with).filter(|run| run.code != Some(0)) {
                run.refuses(1, "ulimit -n");
            }
        }
        drop(neighbours);
    });
}
