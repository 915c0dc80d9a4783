//! `leaks`: ages, what waits in the sockets, what the kernel ended, and where they were opened, on real sockets.

mod owners;
mod verdicts;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::time::Duration;

use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::clock::{now, pass, until, wall};
use crate::support::leaking_server::Leaking;
use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::proc_tcp::until_state;
use crate::support::program::churn::{number, seconds};
use crate::support::program::leaks::{Leaks, Scan, scan};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{
    Pair, accept, address, bound, connect, deafen, listen, pair, read_eof, send_fin, socket, start_connect,
};

on_both_hooks!(
    an_age_is_exact_where_the_entry_was_seen,
    what_the_kernel_ends_is_open_still,
    what_ends_between_two_scans_is_open_still,
    who_still_reads_or_sends_is_not_stuck,
    where_they_were_opened_is_told,
);

const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const FIN_WAIT2: u8 = 5;

/// The seconds a number of `group` is.
fn in_seconds(group: &Value, key: &str) -> f64 {
    group[key].as_f64().unwrap_or_else(|| panic!("no {key} in {group}"))
}

/// Whose `group` is, by which descriptors, is as the kernel says.
fn assert_owner(group: &Value, program: &Leaking) {
    let owner = serde_json::json!({ "pid": program.pid(), "comm": program.comm(), "how": "scan" });
    assert_eq!(group["owner"], owner, "{group}");
    assert_eq!(group["fds"], serde_json::json!(program.fds_in(CLOSE_WAIT)), "{group}");
    assert_eq!(group["lport"], program.port(), "{group}");
    assert_eq!(group["local"], "127.0.0.1", "{group}");
}

fn an_age_is_exact_where_the_entry_was_seen(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let (one, other) = (pair(&listener), pair(&listener));
        let mut leaks = Leaks::start(hook, "0.2", "0.5", &[]);
        let before = wall();
        send_fin(&one.client);
        read_eof(&one.server);
        let after = wall();
        send_fin(&other.client);
        read_eof(&other.server);
        until_state(&other.server, CLOSE_WAIT);
        let me = process::id();
        let group = |scan: &Scan| scan.group(me, "close_wait").cloned();
        let both = |scans: &[Scan]| {
            let group = scans.last().and_then(group);
            let group = group.filter(|group| group["sockets"] == 2);
            group.ok_or(format!("{scans:?}"))
        };
        let found = leaks.until("both to be stuck", both);
        assert_eq!(found["oldest_is_lower_bound"], false, "{found}");
        let entered = seconds(&found["time"]) - in_seconds(&found, "oldest_s");
        let unix = |time: std::time::SystemTime| {
            time.duration_since(std::time::UNIX_EPOCH)
                .expect("after 1970")
                .as_secs_f64()
        };
        // The two clocks, and how often they are compared, leave a millisecond.
        assert!(
            unix(before) - 1e-3 <= entered && entered <= unix(after) + 1e-3,
            "{entered} is not from {before:?} to {after:?}: {found}"
        );
        assert_eq!(found["verdict"], "undecided", "they are young");
        // The peers' side is ours too, and waits for them.
        let scan = leaks.fresh();
        let peers = scan.group(me, "fin_wait2").unwrap_or_else(|| panic!("{scan:?}"));
        assert_eq!(
            (&peers["sockets"], &peers["remote"], &peers["rport"]),
            (&2.into(), &"127.0.0.1".into(), &8080.into())
        );
        drop(one.server);
        let found = leaks.until("one to be closed", |scans| {
            let group = scans.last().and_then(group);
            group.filter(|group| group["sockets"] == 1).ok_or(format!("{scans:?}"))
        });
        assert_eq!(
            (&found["closed_late"], &found["closed_prompt"], &found["closed_unknown"]),
            (&1.into(), &0.into(), &0.into())
        );
        assert!(in_seconds(&found, "closed_late_min_s") >= 0.5, "{found}");
        assert_eq!(found["verdict"], "slow", "{found}");
        leaks.finish(0);
    });
}

/// A connection that is reset, or killed, is no longer in `CLOSE_WAIT`; its descriptor is as leaked as before.
fn what_the_kernel_ends_is_open_still(hook: Hook) {
    in_netns(|_| {
        let program = Leaking::start("error_path.py", 9001, &[]);
        program.visit("x");
        let mut leaks = Leaks::start(hook, "0.5", "1", &["--fail-if-leak"]);
        let visit = |client: u16| {
            let client = bound(SocketAddr::new(LOOPBACK, client));
            client
                .connect(&SocketAddr::new(LOOPBACK, 9001).into())
                .expect("it is accepted");
            (&client).write_all(b"x").expect("it takes what is sent");
        };
        let began = now();
        for client in 9101..=9103 {
            visit(client);
            pass(Duration::from_millis(600));
        }
        let of = |scan: &Scan| scan.group(program.pid(), "close_wait").cloned();
        leaks.until("all to be stuck", |scans| {
            let group = scans.last().and_then(of).filter(|group| group["sockets"] == 4);
            group.map(|_| ()).ok_or_else(|| format!("{scans:?}"))
        });
        let fds = program.fds_in(CLOSE_WAIT);
        assert_eq!(fds.len(), 4);
        for client in ["9101", "9102"] {
            ss::kill(&["src", "127.0.0.1:9001", "dport", "=", client]);
        }
        assert_eq!(program.fds_in(CLOSE_WAIT).len(), 2, "is ss -K built into this kernel?");
        let group = of(&leaks.fresh()).expect("a group");
        assert_eq!(
            (&group["sockets"], &group["ended"], &group["in_state"]),
            (&4.into(), &2.into(), &2.into()),
            "{group}"
        );
        assert_eq!(
            (&group["closed_by_kernel"], &group["closed_late"]),
            (&2.into(), &0.into()),
            "{group}"
        );
        assert_eq!(group["fds"], serde_json::json!(fds), "{group}");
        let group = leaks.until("the leak to be told", |scans| {
            let leak = scans.last().and_then(of).filter(|group| group["verdict"] == "leak");
            leak.ok_or_else(|| format!("{:?}", scans.last()))
        });
        assert_eq!((&group["sockets"], &group["ended"]), (&4.into(), &2.into()), "{group}");
        assert!(
            in_seconds(&group, "oldest_s") >= began.elapsed().as_secs_f64(),
            "{group}"
        );
        // What its end frees it has not closed.
        let pid = program.pid();
        drop(program);
        let group = leaks.fresh().group(pid, "close_wait").cloned().expect("a group");
        assert_eq!(
            (&group["verdict"], &group["process_exited"], &group["closed_late"]),
            (&"leak".into(), &true.into(), &0.into()),
            "{group}"
        );
        leaks.finish(3);
    });
}

/// What comes, is stuck and ends between two scans, and is in no dump.
fn what_ends_between_two_scans_is_open_still(hook: Hook) {
    in_netns(|_| {
        let program = Leaking::start("error_path.py", 9001, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 9002), 8);
        let mut leaks = Leaks::start(hook, "4", "1", &[]);
        leaks.fresh();
        for _ in 0..3 {
            program.visit("x");
        }
        // Shut down here, and closed by the peer when that has been stuck.
        let Pair { client, server } = pair(&listener);
        send_fin(&server);
        pass(Duration::from_millis(1_200));
        let fds = program.fds_in(CLOSE_WAIT);
        ss::kill(&["state", "close-wait", "src", "127.0.0.1:9001"]);
        drop(client);
        assert_eq!(program.fds_in(CLOSE_WAIT).len(), 0);
        let scan = leaks.fresh();
        let of = |pid: u32, state: &str| {
            let group = scan.group(pid, state);
            group.unwrap_or_else(|| panic!("no {state} of {pid} in {scan:?}"))
        };
        let close_wait = of(program.pid(), "close_wait");
        assert_eq!(
            (&close_wait["sockets"], &close_wait["ended"], &close_wait["in_state"]),
            (&3.into(), &3.into(), &0.into()),
            "{close_wait}"
        );
        assert_eq!(close_wait["fds"], serde_json::json!(fds), "{close_wait}");
        let fin_wait2 = of(process::id(), "fin_wait2");
        assert_eq!(
            (&fin_wait2["ended"], &fin_wait2["closed_late"]),
            (&1.into(), &0.into()),
            "{fin_wait2}"
        );
        drop(server);
        leaks.finish(0);
    });
}

/// A half of a connection that is closed says nothing of the other.
fn who_still_reads_or_sends_is_not_stuck(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 9002), 8);
        // The server answers for long after the client has said all; the client reads it.
        let stream = pair(&listener);
        send_fin(&stream.client);
        // What the peer sent before it closed is read bit by bit.
        let Pair { client, server: slow } = pair(&listener);
        (&client).write_all(&vec![0; 60_000]).expect("room for it");
        drop(client);
        until_state(&slow, CLOSE_WAIT);
        let mut leaks = Leaks::start(hook, "0.3", "1", &[]);
        let began = now();
        while began.elapsed() < Duration::from_secs(4) {
            (&stream.server).write_all(&[0; 100]).expect("it is read");
            (&stream.client).read_exact(&mut [0; 100]).expect("it is sent");
            (&slow).read_exact(&mut [0; 500]).expect("there is more");
            pass(Duration::from_millis(100));
        }
        let scan = leaks.fresh();
        assert_eq!(scan.groups, Vec::<Value>::new(), "{scan:?}");
        assert_eq!(scan.all["in_state"], 3, "{scan:?}");
        // Nothing moves any more.
        let states = ["close_wait", "fin_wait2"];
        let groups = leaks.until("all to be stuck", |scans| {
            let scan = scans.last().expect("a scan");
            let groups = states.map(|state| scan.group(process::id(), state).cloned());
            match groups {
                [Some(close_wait), Some(fin_wait2)]
                    if close_wait["sockets"] == 2 && number(&scan.all, "sockets") == 3 =>
                {
                    Ok([close_wait, fin_wait2])
                }
                _ => Err(format!("{scan:?}")),
            }
        });
        for group in &groups {
            assert!(
                in_seconds(group, "oldest_s") < began.elapsed().as_secs_f64(),
                "its time begins when data moved last: {group}"
            );
        }
        leaks.finish(0);
    });
}

/// Found by a dump and by the descriptors, without having seen anything of them before.
/// The programs have no debug information; what they opened before the watch is not known.
fn where_they_were_opened_is_told(hook: Hook) {
    in_netns(|_| {
        let error_path = Leaking::start("error_path.c", 9001, &[]);
        let in_a_thread = Leaking::start("thread.rs", 9002, &[]);
        let late = Leaking::start("late.py", 9003, &["60"]);
        error_path.visit("x");
        error_path.visit("x");
        until("two to be forgotten", || error_path.fds_in(CLOSE_WAIT).len() == 2);
        let leaks = Leaks::start(hook, "1", "1", &["--stacks"]);
        for _ in 0..3 {
            error_path.visit("x");
            error_path.visit("u");
            in_a_thread.visit("x");
            late.visit("x");
        }
        // Nobody answers.
        let nowhere = SocketAddr::new(LOOPBACK, 9004);
        let _listener = listen(nowhere, 8);
        let client = socket(nowhere);
        deafen(&client);
        start_connect(&client, nowhere);
        let wanted = [
            (error_path.pid(), "close_wait", 5),
            (in_a_thread.pid(), "close_wait", 3),
            (late.pid(), "close_wait", 3),
            (process::id(), "syn_sent", 1),
        ];
        let groups = leaks.until("all of them to be stuck", |scans| {
            let last = scans.last().ok_or("no scan")?;
            let found = wanted.map(|(pid, state, sockets)| {
                let group = last.group(pid, state).filter(|group| group["sockets"] == sockets)?;
                // A stack that is not unwound yet comes with a later scan.
                let stacks = group["stacks"].as_array()?.iter();
                let unwound: i64 = stacks.map(|stack| number(stack, "sockets")).sum();
                // Of the first two nobody saw the opening.
                (unwound == sockets.min(3)).then(|| group.clone())
            });
            if found.iter().all(Option::is_some) {
                Ok(found.map(Option::unwrap_or_default))
            } else {
                Err(format!("{:?}", last.groups))
            }
        });
        let [error_path, in_a_thread, script, ours] = groups;
        let stacks = |group: &Value| group["stacks"].as_array().cloned().expect("stacks");
        let functions = |stack: &Value| -> Vec<String> {
            let frames = stack["frames"].as_array().expect("frames");
            let names = frames
                .iter()
                .map(|frame| frame["function"].as_str().unwrap_or("?").to_owned());
            names.collect()
        };
        for (group, sockets, caller, module) in [
            (&error_path, 3, "handle_upload", "server"),
            (&in_a_thread, 3, "accept_upload", "server"),
        ] {
            let [stack] = stacks(group).try_into().expect("one stack");
            assert_eq!(
                (&stack["sockets"], &stack["unfinished"]),
                (&sockets.into(), &Value::Null),
                "{group}"
            );
            let names = functions(&stack);
            let at = names.iter().position(|name| name.ends_with(caller));
            let at = at.unwrap_or_else(|| panic!("no {caller}: {names:?}"));
            assert!(
                names[..at]
                    .iter()
                    .all(|name| name.starts_with("std::") || name.starts_with("<std::")),
                "between it and accept(): {names:?}"
            );
            assert_eq!(stack["frames"][at]["module"], module, "{stack}");
            assert!(names.iter().any(|name| name.ends_with("main")), "{names:?}");
        }
        let all: i64 = stacks(&script).iter().map(|stack| number(stack, "sockets")).sum();
        assert_eq!(all, 3, "what the interpreter does is told: {script}");
        // This test may have been built without names, but it is known to be the one that connects.
        let exe = std::env::current_exe().expect("its path");
        let module = exe.file_name().and_then(|name| name.to_str()).expect("a name");
        let [stack] = stacks(&ours).try_into().expect("one stack");
        assert_eq!(stack["frames"][0]["module"], module, "{stack}");
        assert_eq!(
            (&stack["sockets"], &stack["unfinished"]),
            (&1.into(), &Value::Null),
            "{stack}"
        );
        leaks.finish(0);
    });
}

#[test]
fn what_leaked_before_is_listed_at_once() {
    in_netns(|_| {
        let began = now();
        let program = Leaking::start("error_path.c", 9001, &[]);
        for _ in 0..3 {
            program.visit("x");
        }
        program.visit("u");
        until("the three to be forgotten", || program.fds_in(CLOSE_WAIT).len() == 3);
        let forgotten = now();
        // Longer than makes them stuck; nothing happens to them meanwhile.
        pass(Duration::from_millis(1500));
        let waited = forgotten.elapsed();
        let found = scan(&["--older", "1"]);
        let group = found
            .group(program.pid(), "close_wait")
            .unwrap_or_else(|| panic!("{found:?}"));
        assert_owner(group, &program);
        assert_eq!(
            (&group["sockets"], &group["eof_read"]),
            (&3.into(), &3.into()),
            "{group}"
        );
        assert_eq!(
            (&group["verdict"], &group["oldest_is_lower_bound"]),
            (&"undecided".into(), &true.into())
        );
        assert_eq!(
            (&group["watched_s"], &group["growth_per_min"]),
            (&Value::Null, &Value::Null),
            "nobody watched"
        );
        // The least it can be, by the last ACK that came, is no less than we waited but for two ticks of the kernel's clock, and no
        // more than there was.
        let oldest = in_seconds(group, "oldest_s");
        assert!(oldest >= waited.as_secs_f64() - 0.02, "{oldest} of {waited:?}");
        assert!(oldest <= began.elapsed().as_secs_f64(), "{oldest}");
        let text = finish(&tcpwatch(&["leaks", "--older", "1"]));
        assert!(
            text.stdout.contains(&format!(
                "{}[{}]  :9001  CLOSE_WAIT  3 sockets, oldest at least",
                program.comm(),
                program.pid()
            )),
            "{text:?}"
        );
        assert!(
            text.stdout.contains("has read EOF and not closed the descriptor"),
            "{text:?}"
        );
        // Filters.
        let pid = program.pid().to_string();
        assert_eq!(scan(&["--older", "1", "--pid", &pid]).groups.len(), 1);
        assert_eq!(scan(&["--older", "1", "--pid", "1"]).groups.len(), 0);
        assert_eq!(scan(&["--older", "1", "-L", "9002"]).groups.len(), 0);
        assert_eq!(scan(&["--older", "1", "--state", "fin_wait2"]).groups.len(), 0);
        assert_eq!(scan(&["--older", "1h"]).all["in_state"], 3);
        let none = finish(&tcpwatch(&[
            "leaks",
            "--state",
            "fin_wait2",
            "-L",
            "9001",
            "--pid",
            &pid,
        ]));
        for said in [
            format!("one scan, local port 9001, process {pid}: 0 sockets in FIN_WAIT2, "),
            "no selected socket is in FIN_WAIT2".into(),
        ] {
            assert!(none.stdout.contains(&said), "{said} is not in {none:?}");
        }
    });
}

/// A SYN or a FIN without an answer is sent again and again: how often tells how long, at least, whatever the kernel doubles.
#[test]
fn what_nobody_answered_before_is_listed_at_once() {
    for linear in ["4", "0"] {
        in_netns(|netns| {
            // Since Linux 6.5.
            if std::path::Path::new("/proc/sys/net/ipv4/tcp_syn_linear_timeouts").exists() {
                netns.set("ipv4/tcp_syn_linear_timeouts", linear);
            }
            let began = now();
            let nowhere = SocketAddr::new(LOOPBACK, 8081);
            let _far = listen(nowhere, 8);
            let deaf = socket(nowhere);
            deafen(&deaf);
            start_connect(&deaf, nowhere);
            let listener = listen(SocketAddr::new(LOOPBACK, 8082), 8);
            let last_ack = pair(&listener);
            send_fin(&last_ack.client);
            read_eof(&last_ack.server);
            deafen(&last_ack.client);
            send_fin(&last_ack.server);
            until_state(&last_ack.server, LAST_ACK);
            let entered = now();
            // Past the first two times of each: 1 s and 1 or 2 s, 0.2 s and 0.4 s.
            pass(Duration::from_millis(3500));
            let waited = entered.elapsed().as_secs_f64();
            let scan = scan(&["--older", "0.5"]);
            let most = began.elapsed().as_secs_f64();
            for state in ["syn_sent", "last_ack"] {
                let group = scan
                    .group(process::id(), state)
                    .unwrap_or_else(|| panic!("no {state} in {scan:?}"));
                let oldest = in_seconds(group, "oldest_s");
                assert_eq!(group["oldest_is_lower_bound"], true, "{group}");
                assert!(oldest <= most, "{state}: {oldest} of {most}");
                // The half of it at least, also where the kernel does not tell when the first was.
                assert!(oldest >= waited / 2.0 - 0.5, "{state}: {oldest} of {waited}");
            }
        });
    }
}

/// In each state, by what waits.
#[test]
fn what_waits_in_them_is_told() {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let at = address(&listener);
        // Never accepted, and closed by the peer.
        let unaccepted = connect(at);
        send_fin(&unaccepted);
        let accepted_later = now();
        // Nobody answers: an address of ours that is none of anybody's.
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), 8081);
        let deaf = socket(nowhere);
        deafen(&deaf);
        let far = listen(nowhere, 8);
        start_connect(&deaf, nowhere);
        // Both closed, and our FIN is not acknowledged.
        let second = listen(SocketAddr::new(LOOPBACK, 8082), 8);
        let last_ack = pair(&second);
        send_fin(&last_ack.client);
        read_eof(&last_ack.server);
        deafen(&last_ack.client);
        send_fin(&last_ack.server);
        until_state(&last_ack.server, LAST_ACK);
        // Data that nobody takes.
        let third = listen(SocketAddr::new(LOOPBACK, 8083), 8);
        let full = pair(&third);
        until("it takes no more", || {
            full.server.set_nonblocking(true).expect("nonblocking");
            full.server.send(&[0; 8192]).is_err()
        });
        send_fin(&full.client);
        until_state(&full.server, CLOSE_WAIT);
        until_state(&unaccepted, FIN_WAIT2);
        let leaks = Leaks::start(Hook::TpBtf, "0.2", "0.3", &[]);
        let groups = leaks.until("all to be stuck", |scans| {
            let scan = scans.last().expect("a scan");
            let of = |state: &str, key: &str, port: u16| {
                let mut groups = scan.groups.iter();
                groups
                    .find(|group| group["state"] == state && group[key] == port)
                    .cloned()
            };
            let groups = [
                of("close_wait", "lport", 8080),
                of("syn_sent", "rport", 8081),
                of("last_ack", "lport", 8082),
                of("close_wait", "lport", 8083),
            ];
            if groups.iter().all(Option::is_some) {
                Ok(groups.map(|group| group.expect("there")))
            } else {
                Err(format!("{scan:?}"))
            }
        });
        let [unaccepted_group, syn_sent, last_ack_group, sending] = groups;
        for (group, verdict) in [
            (&unaccepted_group, "undecided"),
            (&syn_sent, "kernel"),
            (&last_ack_group, "kernel"),
            (&sending, "undecided"),
        ] {
            assert_eq!(group["owner"]["pid"], process::id(), "{group}");
            assert_eq!(
                (&group["verdict"], &group["sockets"]),
                (&verdict.into(), &1.into()),
                "{group}"
            );
        }
        assert_eq!(
            (&unaccepted_group["unaccepted"], &unaccepted_group["fds"]),
            (&1.into(), &serde_json::json!([]))
        );
        assert!(in_seconds(&unaccepted_group, "oldest_s") <= accepted_later.elapsed().as_secs_f64());
        // A SYN and a FIN are no data.
        assert_eq!(
            (&syn_sent["unsent_bytes"], &last_ack_group["unsent_bytes"]),
            (&0.into(), &0.into())
        );
        assert!(number(&sending, "unsent_bytes") > 65536, "{sending}");
        drop((accept(&listener), far));
        leaks.finish(0);
    });
}
