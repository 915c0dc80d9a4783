//! `leaks`: real programs that leak, and some that do not, each with the verdict that is right.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::thread::sleep;
use std::time::Duration;

use rustix::mount::{MountFlags, mount, mount_bind};
use serde_json::Value;

use crate::support::clock::{now, until, wall};
use crate::support::holder::master;
use crate::support::leaking::Leaking;
use crate::support::netns::{Neighbour, in_netns};
use crate::support::peers::ss;
use crate::support::pidns::{PidNamespace, Proc};
use crate::support::proc_tcp::until_state;
use crate::support::program::churn::{number, seconds};
use crate::support::program::leaks::{Leaks, Look, look, parse};
use crate::support::program::run::{Unprivileged, binary, finish, tcpwatch};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::python::Python;
use crate::support::sockets::{
    Pair, accept, address, bound, connect, deafen, listen, pair, read_eof, send_fin, socket, start_connect,
};
use crate::support::web::{Nginx, request};
use crate::support::{LOOPBACK, LOOPBACK_V6};

on_both_hooks!(
    each_program_has_its_verdict,
    an_age_is_exact_where_the_entry_was_seen,
    what_the_kernel_ends_is_open_still,
    what_ends_between_two_looks_is_open_still,
    who_still_reads_or_sends_is_not_stuck,
    a_healthy_nginx_has_none,
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

/// `look` tells of six sockets that `program` leaks, the oldest of which was there before us.
fn assert_leak(look: &Look, program: &Leaking) {
    let group = look.group(program.pid(), "close_wait").expect("a group");
    assert_owner(group, program);
    assert_eq!(group["verdict"], "leak", "{group}");
    assert_eq!(group["oldest_is_lower_bound"], true, "{group}");
    assert_eq!(
        (&group["eof_read"], &group["unread_bytes"]),
        (&6.into(), &0.into()),
        "{group}"
    );
    // Those that it took were closed at once, and are not what was leaked.
    assert_eq!(group["closed"]["late"], 0, "{group}");
    assert!(number(&group["closed"], "prompt") > 0, "{group}");
    assert!(in_seconds(group, "growth_per_min") > 0.0, "{group}");
    let finding = look.findings.iter().find(|finding| finding["owner"] == group["owner"]);
    let finding = finding.unwrap_or_else(|| panic!("no finding of {group} in {look:?}"));
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
        let verdict = |look: &Look, program: &Leaking| {
            let group = look.group(program.pid(), "close_wait");
            group.map_or("none".to_owned(), |group| {
                group["verdict"].as_str().unwrap_or_default().to_owned()
            })
        };
        // None more leaks, while others are taken.
        leaks.until("the leaks to be told", |looks| {
            let look = looks.last().expect("a look");
            for program in [&error_path, &in_a_thread, &script, &late, &busy] {
                program.visit("u");
            }
            let verdicts = leaking.map(|program| verdict(look, program));
            if verdicts.iter().all(|verdict| verdict == "leak") && verdict(look, &late) == "slow" {
                return Ok(());
            }
            sleep(Duration::from_millis(200));
            Err(format!("{look:?}"))
        });
        leak(1);
        for _ in 0..3 {
            never_reads.visit("hello");
        }
        let look = leaks.until("the youngest to be stuck too", |looks| {
            let look = looks.last().expect("a look");
            let sockets = |program: &&Leaking| {
                let group = look.group(program.pid(), "close_wait");
                group.map_or(0, |group| number(group, "sockets"))
            };
            if leaking.iter().all(|program| sockets(program) == 6) && sockets(&&never_reads) == 3 {
                Ok(look.clone())
            } else {
                Err(format!("{look:?}"))
            }
        });
        for program in leaking {
            assert_leak(&look, program);
        }
        let group = look.group(never_reads.pid(), "close_wait").expect("a group");
        assert_owner(group, &never_reads);
        assert_eq!(
            (&group["verdict"], &group["unread_bytes"], &group["unread"]),
            (&"stuck_reader".into(), &15.into(), &3.into()),
            "{group}"
        );
        let looks = leaks.finish(3);
        let of = |program: &Leaking| -> Vec<Value> {
            let groups = looks.iter().flat_map(|look| look.groups.iter());
            let of = groups.filter(|group| group["owner"]["pid"] == program.pid());
            of.cloned().collect()
        };
        assert_eq!(of(&busy), Vec::<Value>::new(), "it is merely busy");
        // The client's side of none is ours to close.
        assert!(
            looks
                .iter()
                .all(|look| look.groups.iter().all(|group| group["state"] == "close_wait"))
        );
        let of_late = of(&late);
        assert!(!of_late.is_empty());
        for group in &of_late {
            let verdict = group["verdict"].as_str().expect("a verdict");
            assert!(["undecided", "slow"].contains(&verdict), "{group}");
            if verdict == "slow" {
                let closed = &group["closed"];
                assert!(in_seconds(closed, "late_min_s") >= 3.0, "{group}");
            }
        }
        for look in &looks {
            assert_eq!(look.all["evicted"], 0, "{look:?}");
        }
    });
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
        let group = |look: &Look| look.group(me, "close_wait").cloned();
        let both = |looks: &[Look]| {
            let group = looks.last().and_then(group);
            let group = group.filter(|group| group["sockets"] == 2);
            group.ok_or(format!("{looks:?}"))
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
        let look = leaks.fresh();
        let peers = look.group(me, "fin_wait2").unwrap_or_else(|| panic!("{look:?}"));
        assert_eq!(
            (&peers["sockets"], &peers["remote"], &peers["rport"]),
            (&2.into(), &"127.0.0.1".into(), &8080.into())
        );
        drop(one.server);
        let found = leaks.until("one to be closed", |looks| {
            let group = looks.last().and_then(group);
            group.filter(|group| group["sockets"] == 1).ok_or(format!("{looks:?}"))
        });
        let closed = &found["closed"];
        assert_eq!(
            (&closed["late"], &closed["prompt"], &closed["unknown"]),
            (&1.into(), &0.into(), &0.into())
        );
        assert!(in_seconds(closed, "late_min_s") >= 0.5, "{found}");
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
            sleep(Duration::from_millis(600));
        }
        let of = |look: &Look| look.group(program.pid(), "close_wait").cloned();
        leaks.until("all to be stuck", |looks| {
            let group = looks.last().and_then(of).filter(|group| group["sockets"] == 4);
            group.map(|_| ()).ok_or_else(|| format!("{looks:?}"))
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
            (&group["closed"]["ended"], &group["closed"]["late"]),
            (&2.into(), &0.into()),
            "{group}"
        );
        assert_eq!(group["fds"], serde_json::json!(fds), "{group}");
        let group = leaks.until("the leak to be told", |looks| {
            let leak = looks.last().and_then(of).filter(|group| group["verdict"] == "leak");
            leak.ok_or_else(|| format!("{:?}", looks.last()))
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
            (&group["verdict"], &group["process_gone"], &group["closed"]["late"]),
            (&"leak".into(), &true.into(), &0.into()),
            "{group}"
        );
        leaks.finish(3);
    });
}

/// What comes, is stuck and ends between two looks, and is in no dump.
fn what_ends_between_two_looks_is_open_still(hook: Hook) {
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
        sleep(Duration::from_millis(1_200));
        let fds = program.fds_in(CLOSE_WAIT);
        ss::kill(&["state", "close-wait", "src", "127.0.0.1:9001"]);
        drop(client);
        assert_eq!(program.fds_in(CLOSE_WAIT).len(), 0);
        let look = leaks.fresh();
        let of = |pid: u32, state: &str| {
            let group = look.group(pid, state);
            group.unwrap_or_else(|| panic!("no {state} of {pid} in {look:?}"))
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
            (&fin_wait2["ended"], &fin_wait2["closed"]["late"]),
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
            sleep(Duration::from_millis(100));
        }
        let look = leaks.fresh();
        assert_eq!(look.groups, Vec::<Value>::new(), "{look:?}");
        assert_eq!(look.all["in_state"], 3, "{look:?}");
        // Nothing moves any more.
        let states = ["close_wait", "fin_wait2"];
        let groups = leaks.until("all to be stuck", |looks| {
            let look = looks.last().expect("a look");
            let groups = states.map(|state| look.group(process::id(), state).cloned());
            match groups {
                [Some(close_wait), Some(fin_wait2)]
                    if close_wait["sockets"] == 2 && number(&look.all, "sockets") == 3 =>
                {
                    Ok([close_wait, fin_wait2])
                }
                _ => Err(format!("{look:?}")),
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

fn a_healthy_nginx_has_none(hook: Hook) {
    in_netns(|_| {
        let nginx = Nginx::start();
        let mut leaks = Leaks::start(hook, "0.5", "2", &["--fail-if-leak"]);
        request(20_000);
        leaks.fresh();
        let looks = leaks.finish(0);
        for look in &looks {
            assert!(look.groups.is_empty(), "{look:?}");
        }
        drop(nginx);
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
        let groups = leaks.until("all of them to be stuck", |looks| {
            let last = looks.last().ok_or("no look")?;
            let found = wanted.map(|(pid, state, sockets)| {
                let group = last.group(pid, state).filter(|group| group["sockets"] == sockets)?;
                Some(group.clone())
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
        sleep(Duration::from_millis(1500));
        let waited = forgotten.elapsed();
        let found = look(&["--older", "1"]);
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
            (&group["window_s"], &group["growth_per_min"]),
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
        assert_eq!(look(&["--older", "1", "--pid", &pid]).groups.len(), 1);
        assert_eq!(look(&["--older", "1", "--pid", "1"]).groups.len(), 0);
        assert_eq!(look(&["--older", "1", "-L", "9002"]).groups.len(), 0);
        assert_eq!(look(&["--older", "1", "--state", "fin_wait2"]).groups.len(), 0);
        assert_eq!(look(&["--older", "1h"]).all["in_state"], 3);
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
            format!("one look, local port 9001, process {pid}: 0 sockets in FIN_WAIT2, "),
            "nothing that was asked for is in FIN_WAIT2".into(),
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
            sleep(Duration::from_millis(3500));
            let waited = entered.elapsed().as_secs_f64();
            let look = look(&["--older", "0.5"]);
            let most = began.elapsed().as_secs_f64();
            for state in ["syn_sent", "last_ack"] {
                let group = look
                    .group(process::id(), state)
                    .unwrap_or_else(|| panic!("no {state} in {look:?}"));
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
        let groups = leaks.until("all to be stuck", |looks| {
            let look = looks.last().expect("a look");
            let of = |state: &str, key: &str, port: u16| {
                let mut groups = look.groups.iter();
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
                Err(format!("{look:?}"))
            }
        });
        let [unaccepted_group, syn_sent, last_ack_group, sending] = groups;
        for group in [&unaccepted_group, &syn_sent, &last_ack_group, &sending] {
            assert_eq!(group["owner"]["pid"], process::id(), "{group}");
            assert_eq!(
                (&group["verdict"], &group["sockets"]),
                (&"undecided".into(), &1.into()),
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

/// Nobody holds it yet: it is of the listener that made it, by its address and family, whoever else has the port.
#[test]
fn what_nobody_has_accepted_is_of_who_listens_for_it() {
    in_netns(|_| {
        let mut script = Python::start(
            "
import json, socket, sys
def listen(family, address, port):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port)); s.listen(8)
    return s
v4, v6 = socket.AF_INET, socket.AF_INET6
kept = [listen(v4, '127.0.0.1', 9001), listen(v6, '::1', 9001), listen(v4, '127.0.0.1', 9002), listen(v6, '::', 9002)]
print(json.dumps('ready'), flush=True)
sys.stdin.read()
",
            &[],
        );
        script.line(0);
        let second = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let _ours = listen(SocketAddr::new(second, 9002), 8);
        let clients = [
            (LOOPBACK, 9001),
            (LOOPBACK_V6, 9001),
            (LOOPBACK, 9002),
            (LOOPBACK_V6, 9002),
            (second, 9002),
        ]
        .map(|(address, port)| connect(SocketAddr::new(address, port)));
        for client in &clients {
            send_fin(client);
            until_state(client, FIN_WAIT2);
        }
        sleep(Duration::from_millis(300));
        let look = look(&["--older", "0.2", "--state", "close_wait"]);
        let found: Vec<_> = look
            .groups
            .iter()
            .map(|group| {
                let pid = group["owner"]["pid"].as_u64();
                (pid, number(group, "lport"), number(group, "unaccepted"))
            })
            .collect();
        let [they, we] = [script.pid(), process::id()].map(|pid| Some(u64::from(pid)));
        for expected in [(they, 9001, 2), (they, 9002, 2), (we, 9002, 1)] {
            assert!(found.contains(&expected), "{expected:?} of {found:?}");
        }
        assert_eq!(found.len(), 3, "{found:?}");
    });
}

/// Where the peer's accept queue is full, the SYN is dropped; where that is here, it is seen.
#[test]
fn a_full_accept_queue_of_this_host_is_told_to_who_waits_for_it() {
    in_netns(|_| {
        let at = SocketAddr::new(LOOPBACK, 9003);
        let _full = listen(at, 1);
        let _filling = [connect(at), connect(at)];
        let waiting = socket(at);
        start_connect(&waiting, at);
        let mut leaks = Leaks::start(Hook::TpBtf, "0.2", "0.3", &["-R", "9003"]);
        let group = leaks.until("it to be stuck", |looks| {
            let look = looks.last().expect("a look");
            let group = look.group(process::id(), "syn_sent");
            group.cloned().ok_or(format!("{look:?}"))
        });
        let [queued, limit] = ss::accept_queue("127.0.0.1:9003");
        assert!(queued > limit, "{queued} of {limit}");
        assert_eq!(
            group["accept_queue"],
            serde_json::json!({ "queued": queued, "limit": limit, "owner": group["owner"] }),
            "{group}"
        );
        leaks.fresh();
        leaks.finish(0);
    });
}

/// A copy in each of several processes: each must be closed.
#[test]
fn all_who_hold_a_socket_are_told() {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let held = pair(&listener);
        let (parent, children) = master(held.server);
        send_fin(&held.client);
        until_state(&held.client, FIN_WAIT2);
        sleep(Duration::from_millis(300));
        let found = look(&["--older", "0.2"]);
        let group = found
            .group(parent.pid(), "close_wait")
            .unwrap_or_else(|| panic!("{found:?}"));
        let holders = group["holders"].as_array().expect("holders");
        let mut pids: Vec<u64> = holders.iter().filter_map(|holder| holder["pid"].as_u64()).collect();
        pids.sort_unstable();
        let mut expected: Vec<u64> = children.iter().map(|&pid| pid.into()).collect();
        expected.push(parent.pid().into());
        expected.sort_unstable();
        assert_eq!(pids, expected, "{group}");
        assert!(
            holders.iter().all(|holder| holder["fds"] == serde_json::json!([1])),
            "{group}"
        );
    });
}

/// /proc/PID shows no descriptors and no code of a process whose first thread has ended: its other threads do.
#[test]
fn a_process_whose_first_thread_has_ended_holds_what_its_others_do() {
    in_netns(|_| {
        let program = Leaking::start("first_thread_ends.c", 9001, &[]);
        let stat = || fs::read_to_string(format!("/proc/{}/stat", program.pid())).expect("it runs");
        until("its first thread to end", || stat().contains(") Z "));
        let leaks = Leaks::start(Hook::TpBtf, "0.3", "0.5", &["--stacks"]);
        for _ in 0..3 {
            program.visit("x");
        }
        let group = leaks.until("the three to be stuck", |looks| {
            let look = looks.last().expect("a look");
            let group = look.group(program.pid(), "close_wait");
            let group = group.filter(|group| group["sockets"] == 3);
            group.cloned().ok_or(format!("{look:?}"))
        });
        assert_eq!(
            (&group["owner"]["comm"], &group["fds"]),
            (&program.comm().into(), &serde_json::json!(program.fds_in(CLOSE_WAIT))),
            "{group}"
        );
        assert_eq!(program.fds_in(CLOSE_WAIT).len(), 3);
        let stack = &group["stacks"][0];
        assert_eq!(
            (&stack["sockets"], &stack["frames"][0]["function"]),
            (&3.into(), &"handle_upload".into()),
            "{group}"
        );
        leaks.finish(0);
    });
}

/// The same port in several namespaces is several places; one has the name that ip-netns(8) would give it.
#[test]
fn of_several_network_namespaces_each_is_named() {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        mount("none", "/run", "tmpfs", MountFlags::empty(), None).expect("mounting /run");
        fs::create_dir("/run/netns").expect("a directory");
        fs::write("/run/netns/beside", "").expect("a file");
        let there = format!("/proc/{}/ns/net", neighbour.pid());
        mount_bind(there, "/run/netns/beside").expect("naming a namespace");
        let leak = || {
            let program = Leaking::start("error_path.c", 9001, &[]);
            program.visit("x");
            until("it to be forgotten", || program.fds_in(CLOSE_WAIT).len() == 1);
            program
        };
        let here = leak();
        let beside = neighbour.run(|_| leak());
        sleep(Duration::from_millis(300));
        let ask = |args: &[&str]| finish(&tcpwatch(&[&["leaks", "--older", "0.2", "-L", "9001"], args].concat()));
        let all = ask(&["--netns", "all"]);
        assert!(
            all.stdout.contains("local port 9001, all network namespaces ("),
            "{all:?}"
        );
        for (program, name) in [(&here, netns.inum.to_string()), (&beside, "beside".into())] {
            let heading = format!(
                "{}[{}]  :9001  netns {name}  CLOSE_WAIT  1 socket",
                program.comm(),
                program.pid()
            );
            assert!(all.stdout.contains(&heading), "{heading} is not in {all:?}");
        }
        let own = ask(&[]);
        assert!(!own.stdout.contains("netns"), "{own:?}");
    });
}

/// Who holds them is no process there; that they are held is known all the same.
#[test]
fn another_pid_namespace_has_other_processes() {
    in_netns(|_| {
        let program = Leaking::start("error_path.c", 9001, &[]);
        program.visit("x");
        until("it to be forgotten", || program.fds_in(CLOSE_WAIT).len() == 1);
        sleep(Duration::from_millis(300));
        let inside = PidNamespace::new();
        let ask = |args: &[&str]| {
            let mut command = inside.enter(Proc::Own, binary());
            finish(command.args(["leaks", "--older", "0.2"]).args(args))
        };
        let look = parse(&ask(&["-o", "json"]).stdout);
        let [group] = look.groups.as_slice() else {
            panic!("{look:?}");
        };
        assert_eq!(
            (&group["sockets"], &group["owner"], &group["holders"]),
            (&1.into(), &Value::Null, &serde_json::json!([]))
        );
        assert_eq!(look.all["unseen"]["sockets"], 1, "{look:?}");
        let text = ask(&[]);
        assert!(text.stdout.contains("no process that is seen holds them"), "{text:?}");
        // Where it sees the /proc of those outside, it sees them.
        let mut command = inside.enter(Proc::Outer, binary());
        let look = parse(&finish(command.args(["leaks", "--older", "0.2", "-o", "json"])).stdout);
        assert_owner(look.group(program.pid(), "close_wait").expect("a group"), &program);
    });
}

/// What cannot be seen is said; what can be is told.
#[test]
fn owners_of_others_are_unknown_to_a_user() {
    in_netns(|_| {
        let nobody = Unprivileged::new();
        let program = Leaking::start("error_path.c", 9001, &[]);
        program.visit("x");
        until("it to be forgotten", || program.fds_in(CLOSE_WAIT).len() == 1);
        sleep(Duration::from_millis(300));
        let ask = || finish(&nobody.tcpwatch(&["leaks", "--older", "0.2", "-o", "json"]));
        let check = |hidden: bool| {
            let finished = ask();
            let look = parse(&finished.stdout);
            let [group] = look.groups.as_slice() else {
                panic!("{finished:?}");
            };
            assert_eq!(
                (&group["sockets"], &group["owner"], &group["fds"]),
                (&1.into(), &Value::Null, &serde_json::json!([]))
            );
            assert_eq!(look.all["unseen"]["hidden"], hidden, "{look:?}");
            look
        };
        assert!(number(&check(false).all["unseen"], "processes") > 0);
        let text = finish(&nobody.tcpwatch(&["leaks", "--older", "0.2"]));
        assert!(
            text.stdout.contains("could not be read; run tcpwatch with sudo"),
            "{text:?}"
        );
        mount("proc", "/proc", "proc", MountFlags::empty(), Some(c"hidepid=2")).expect("mounting /proc");
        check(true);
    });
}
