//! `leaks`: real programs that leak, and some that do not, each with the verdict that is right.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::{assert_owner, in_seconds};
use crate::support::LOOPBACK;
use crate::support::clock::pass;
use crate::support::leaking_server::Leaking;
use crate::support::netns::in_netns;
use crate::support::program::churn::number;
use crate::support::program::leaks::{Leaks, Scan, scan};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::python::Python;
use crate::support::sockets::{listen, pair, read_eof, send_fin};
use crate::support::web::{Nginx, request};

on_both_hooks!(
    each_program_has_its_verdict,
    a_healthy_nginx_has_none,
    an_idle_pool_is_a_pool_in_every_scan,
);

/// `scan` shows six sockets that `program` leaks, the oldest of which was there before the watch.
fn assert_leak(scan: &Scan, program: &Leaking) {
    let group = scan.group(program.pid(), "close_wait").expect("a group");
    assert_owner(group, program);
    assert_eq!(group["verdict"], "leak", "{group}");
    assert_eq!(group["oldest_is_lower_bound"], true, "{group}");
    assert_eq!(
        (&group["eof_read"], &group["unread_bytes"]),
        (&6.into(), &0.into()),
        "{group}"
    );
    // Those that it took were closed at once, and are not what was leaked.
    assert_eq!(group["closed_late"], 0, "{group}");
    assert!(number(group, "closed_prompt") > 0, "{group}");
    assert!(in_seconds(group, "growth_per_min") > 0.0, "{group}");
    let finding = scan.findings.iter().find(|finding| finding["owner"] == group["owner"]);
    let finding = finding.unwrap_or_else(|| panic!("no finding of {group} in {scan:?}"));
    assert_eq!(
        (&finding["detector"], &finding["evidence"]["sockets"], &finding["time"]),
        (&"leak".into(), &6.into(), &group["time"]),
        "{finding}"
    );
}

fn each_program_has_its_verdict(hook: Hook) {
    in_netns(|_| {
        let error_path = Leaking::start("error_path.c", 9001, &[]);
        let in_a_thread = Leaking::start("thread.rs", 9002, &[]);
        let script = Leaking::start("error_path.py", 9003, &[]);
        let late = Leaking::start("late.py", 9004, &["3"]);
        let busy = Leaking::start("busy.py", 9005, &[]);
        let never_reads = Leaking::start("never_reads.c", 9006, &[]);
        let leaking = [&error_path, &in_a_thread, &script];
        // What leaks before the start is found, what leaks after it is seen.
        let leak = |times: u64| {
            for program in leaking {
                for _ in 0..times {
                    program.visit("x");
                }
            }
        };
        leak(3);
        let leaks = Leaks::start(hook, "1", "2", &["--fail-if-leak"]);
        leak(2);
        let verdict = |scan: &Scan, program: &Leaking| {
            let group = scan.group(program.pid(), "close_wait");
            group.map_or("none".to_owned(), |group| {
                group["verdict"].as_str().unwrap_or_default().to_owned()
            })
        };
        // None more leaks, while others are taken.
        leaks.until("the leaks to be told", |scans| {
            let scan = scans.last().expect("a scan");
            for program in [&error_path, &in_a_thread, &script, &late, &busy] {
                program.visit("u");
            }
            let verdicts = leaking.map(|program| verdict(scan, program));
            if verdicts.iter().all(|verdict| verdict == "leak") && verdict(scan, &late) == "slow" {
                return Ok(());
            }
            // The rate of the visits.
            pass(Duration::from_millis(200));
            Err(format!("{scan:?}"))
        });
        leak(1);
        for _ in 0..3 {
            never_reads.visit("hello");
        }
        let scan = leaks.until("the youngest to be stuck too", |scans| {
            let scan = scans.last().expect("a scan");
            let sockets = |program: &&Leaking| {
                let group = scan.group(program.pid(), "close_wait");
                group.map_or(0, |group| number(group, "sockets"))
            };
            if leaking.iter().all(|program| sockets(program) == 6) && sockets(&&never_reads) == 3 {
                Ok(scan.clone())
            } else {
                Err(format!("{scan:?}"))
            }
        });
        for program in leaking {
            assert_leak(&scan, program);
        }
        let group = scan.group(never_reads.pid(), "close_wait").expect("a group");
        assert_owner(group, &never_reads);
        assert_eq!(
            (&group["verdict"], &group["unread_bytes"], &group["unread"]),
            (&"unread".into(), &15.into(), &3.into()),
            "{group}"
        );
        let scans = leaks.finish(3);
        let of = |program: &Leaking| -> Vec<Value> {
            let groups = scans.iter().flat_map(|scan| scan.groups.iter());
            let of = groups.filter(|group| group["owner"]["pid"] == program.pid());
            of.cloned().collect()
        };
        assert_eq!(of(&busy), Vec::<Value>::new(), "it is merely busy");
        // The client's side of none is ours to close.
        assert!(
            scans
                .iter()
                .all(|scan| scan.groups.iter().all(|group| group["state"] == "close_wait"))
        );
        let of_late = of(&late);
        assert!(!of_late.is_empty());
        for group in &of_late {
            let verdict = group["verdict"].as_str().expect("a verdict");
            assert!(["undecided", "slow"].contains(&verdict), "{group}");
            if verdict == "slow" {
                // Where data was read late, its time began anew with the next scan, up to a second after.
                assert!(in_seconds(group, "closed_late_min_s") >= 2.0, "{group}");
            }
        }
        for scan in &scans {
            assert_eq!(scan.all["evicted"], 0, "{scan:?}");
        }
    });
}

fn a_healthy_nginx_has_none(hook: Hook) {
    in_netns(|_| {
        let nginx = Nginx::start();
        let mut leaks = Leaks::start(hook, "0.5", "2", &["--fail-if-leak"]);
        request(20_000);
        leaks.fresh();
        let scans = leaks.finish(0);
        for scan in &scans {
            assert!(scan.groups.is_empty(), "{scan:?}");
        }
        drop(nginx);
    });
}

/// A client that keeps its connections for later, and one that opens more and more.
fn an_idle_pool_is_a_pool_in_every_scan(hook: Hook) {
    in_netns(|_| {
        let _server = Python::start(
            "
import socket, time
s = socket.create_server(('127.0.0.1', 9100), backlog=64)
kept = []
while True: kept.append(s.accept())
",
            &[],
        );
        let client = "
import socket, sys, time
kept = []
def connect():
    while True:
        try: return socket.create_connection(('127.0.0.1', 9100))
        except ConnectionRefusedError: time.sleep(0.1)
";
        let pool = format!(
            "{client}\nkept = [connect() for _ in range(5)]\nprint('\"ready\"', flush=True)\ntime.sleep(999)\n"
        );
        let growing = format!(
            "{client}\nprint('\"ready\"', flush=True)\nwhile True:\n    kept.append(connect())\n    time.sleep(1)\n"
        );
        let mut pool = Python::start(&pool, &[]);
        pool.line(0);
        let mut growing = Python::start(&growing, &[]);
        growing.line(0);
        let mut leaks = Leaks::start(
            hook,
            "1",
            "1",
            &["--state", "established", "-R", "9100", "--fail-if-leak"],
        );
        leaks.until("the pool and the leak", |scans| {
            let scan = scans.last().ok_or("no scan")?;
            let verdicts = [pool.pid(), growing.pid()]
                .map(|pid| scan.group(pid, "established").map(|group| group["verdict"].clone()));
            if verdicts == [Some("pool".into()), Some("leak".into())] {
                Ok(())
            } else {
                Err(format!("{verdicts:?}"))
            }
        });
        leaks.fresh();
        let scans = leaks.finish(3);
        for (pid, decided) in [(pool.pid(), "pool"), (growing.pid(), "leak")] {
            let groups = scans.iter().filter_map(|scan| scan.group(pid, "established"));
            let verdicts: Vec<&str> = groups.filter_map(|group| group["verdict"].as_str()).collect();
            let first = verdicts
                .iter()
                .position(|&verdict| verdict == decided)
                .expect("decided");
            assert!(
                verdicts[..first].iter().all(|&verdict| verdict == "undecided"),
                "{verdicts:?}"
            );
            assert!(
                verdicts[first..].iter().all(|&verdict| verdict == decided),
                "{verdicts:?}"
            );
            assert!(verdicts.len() - first > 2, "{verdicts:?}");
        }
        let last = scans
            .last()
            .expect("a scan")
            .group(pool.pid(), "established")
            .expect("the pool");
        assert_eq!((&last["sockets"], &last["more_s"]), (&5.into(), &Value::Null), "{last}");
        // They go by the time since data moved, which is known exactly.
        assert_eq!(last["oldest_is_lower_bound"], false, "{last}");
    });
}

/// A socket that its application closed belongs to the kernel; `tcp_fin_timeout` above 60 s keeps it a full socket.
#[test]
fn young_undecided_and_kernel_need_no_watch() {
    in_netns(|netns| {
        netns.set("ipv4/tcp_fin_timeout", "120");
        let listener = listen(SocketAddr::new(LOOPBACK, 9101), 8);
        let closed = pair(&listener);
        drop(closed.client);
        read_eof(&closed.server);
        pass(Duration::from_millis(300));
        let close_wait = |older: &str| {
            let scan = scan(&["--older", older, "-L", "9101"]);
            let groups = scan.groups.iter().chain(&scan.young);
            groups.cloned().collect::<Vec<_>>()
        };
        let [young] = close_wait("1h").try_into().expect("one group");
        assert_eq!(
            (
                &young["verdict"],
                &young["sockets"],
                &young["in_state"],
                &young["more_s"]
            ),
            (&"young".into(), &0.into(), &1.into(), &Value::Null)
        );
        assert!(in_seconds(&young, "oldest_s") > 0.2, "{young}");
        let [undecided] = close_wait("0.2").try_into().expect("one group");
        assert_eq!(
            (&undecided["verdict"], &undecided["sockets"], &undecided["more_s"]),
            (&"undecided".into(), &1.into(), &30.0.into())
        );
        let scan = scan(&["--older", "0.2", "-R", "9101"]);
        let [orphan] = scan.groups.as_slice() else {
            panic!("{scan:?}");
        };
        assert_eq!(
            (&orphan["verdict"], &orphan["state"], &orphan["owner"]),
            (&"kernel".into(), &"fin_wait2".into(), &Value::Null)
        );
        let csv = finish(&tcpwatch(&["leaks", "--older", "0.2", "-R", "9101", "-o", "csv"]));
        let rows: Vec<Vec<&str>> = csv.stdout.lines().map(|line| line.split(',').collect()).collect();
        let [header, row] = rows.as_slice() else {
            panic!("{csv:?}");
        };
        let column = |name: &str| header.iter().position(|&column| column == name).expect("a column");
        assert_eq!(
            [row[column("verdict")], row[column("state")], row[column("rport")]],
            ["kernel", "fin_wait2", "9101"]
        );
        // The other end is closed too: it waits for no one.
        send_fin(&closed.server);
    });
}
