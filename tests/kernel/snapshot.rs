//! `snapshot` equals `ss -tan`, state by state, however it reads the kernel and whoever runs it.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;
use tcpwatch::input::release::Release;
use tcpwatch::sys::release;

use crate::support::clock::eventually;
use crate::support::hold::{FIRST, Held, SECOND};
use crate::support::netns::in_netns;
use crate::support::peers::{netstat, ss};
use crate::support::program::run::{Unprivileged, finish, tcpwatch};
use crate::support::program::snapshot::{parse, snapshot, states};
use crate::support::sockets::{address, connect, listen};
use crate::support::states::{add, equal};
use crate::support::workload::{self, bulk};
use crate::support::{LOOPBACK, LOOPBACK_MAPPED, LOOPBACK_V6};

#[test]
fn equals_ss_with_every_state_held() {
    in_netns(|netns| {
        let held = Held::at(netns, LOOPBACK, FIRST);
        let more = Held::at(netns, LOOPBACK_V6, SECOND);
        let mut all = held.counts.clone();
        add(&mut all, &more.counts);
        eventually("ss to see what is held", || equal(&ss::counts(), &all));
        let nobody = Unprivileged::new();
        let mut wrong = Vec::new();
        for source in ["auto", "iter", "sock_diag", "proc"] {
            let args = ["snapshot", "-o", "json", "--source", source];
            let mut runs = vec![("root", tcpwatch(&args))];
            if source != "iter" {
                runs.push(("nobody", nobody.tcpwatch(&args)));
            }
            for (user, command) in runs {
                let ours = parse(&command);
                let how = equal(&states(&ours), &ss::counts());
                wrong.extend(
                    how.err()
                        .map(|how| format!("--source {source} as {user} against ss: {how}")),
                );
                let how = equal(&states(&ours), &netstat::counts());
                wrong.extend(
                    how.err()
                        .map(|how| format!("--source {source} as {user} against netstat: {how}")),
                );
                if ours["netns"].as_u64() != Some(netns.inum) {
                    wrong.push(format!(
                        "--source {source} as {user}: netns {} is not {}",
                        ours["netns"], netns.inum
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// Where there are many sockets, the kernel's counters are used, for any user. They are right whatever sockets did before.
#[test]
fn by_counters_it_equals_ss() {
    // As many as `snapshot` needs to use counters, and some more.
    const MANY: i64 = 1_200;
    in_netns(|netns| {
        let _held = [Held::at(netns, LOOPBACK, FIRST), Held::at(netns, LOOPBACK_V6, SECOND)];
        let nobody = Unprivileged::new();
        // `Held` has sockets in CLOSE_WAIT.
        let source = if release::running() >= Release::CURR_ESTAB_HAS_CLOSE_WAIT {
            "counters"
        } else {
            "sock_diag"
        };
        for workload in workload::all() {
            (workload.run)(netns);
            eventually(workload.name, || {
                if ss::counts()["time_wait"] < MANY {
                    bulk::connections(MANY);
                }
                let ours = parse(&nobody.tcpwatch(&["snapshot", "-o", "json"]));
                equal(&states(&ours), &ss::counts())?;
                (ours["source"] == source)
                    .then_some(())
                    .ok_or(ours["source"].to_string())
            });
        }
    });
}

/// `ss -tanp`, row by row.
#[test]
fn a_list_equals_ss() {
    in_netns(|netns| {
        let _held = [Held::at(netns, LOOPBACK, FIRST), Held::at(netns, LOOPBACK_V6, SECOND)];
        for source in ["auto", "sock_diag", "proc"] {
            eventually(source, || {
                let before = ss::listed();
                let (ours, end) = listed(&["--source", source]);
                let mut theirs = ss::listed();
                if before != theirs {
                    return Err("sockets come and go".into());
                }
                assert_eq!(end["total"].as_u64(), Some(ours.len() as u64));
                for row in theirs
                    .iter_mut()
                    .filter(|row| source == "proc" && row.state == "listen")
                {
                    // /proc/net/tcp does not show how many connections an accept queue takes.
                    row.queues[1] = None;
                }
                theirs.sort_unstable();
                let differing = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
                match differing {
                    None if ours.len() == theirs.len() => Ok(()),
                    _ => Err(format!("{} rows, ss {}: {differing:?}", ours.len(), theirs.len())),
                }
            });
        }
        let filter = [
            "--port",
            "1-65535",
            "--local",
            "127.0.0.0/8",
            "--state",
            "established,time_wait",
        ];
        let (ours, _) = listed(&filter);
        let wanted = |row: &ss::Listed| {
            row.local.0.is_loopback()
                && row.local.0.is_ipv4()
                && ["established", "time_wait"].contains(&row.state.as_str())
        };
        let theirs: Vec<ss::Listed> = ss::listed().into_iter().filter(wanted).collect();
        assert_eq!(ours, theirs);
        let (shown, end) = listed(&["--limit", "3"]);
        assert_eq!(shown.len(), 3);
        assert_eq!(
            end["left_out"].as_u64().map(|left_out| left_out + 3),
            end["total"].as_u64()
        );
        let pid = std::process::id();
        let (ours, _) = listed(&["--pid", &pid.to_string()]);
        assert!(!ours.is_empty() && ours.iter().all(|row| row.holders.iter().any(|holder| holder.0 == pid)));
        for (args, try_this) in [
            (&["--list", "--by", "state"][..], "--by"),
            (&["--list", "--source", "iter"], "without --by, --list"),
            (&["--limit", "3"], "--by process"),
        ] {
            finish(&tcpwatch(&[&["snapshot"], args].concat())).refuses(2, try_this);
        }
    });
}

/// What `snapshot --list ARGS` lists, in the order of [`ss::listed`], and its end.
fn listed(args: &[&str]) -> (Vec<ss::Listed>, Value) {
    let finished = finish(&tcpwatch(&[&["snapshot", "--list", "-o", "json"], args].concat()));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let lines = finished.stdout.lines();
    let mut rows: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let end = rows.pop().expect("an end");
    assert_eq!(end["schema"], "tcpwatch.socket.end/1");
    let order = |row: &Value| {
        let address = |end: &str| row[end].as_str().expect("an address").parse::<IpAddr>().ok();
        let port = |end: &str| row[end].as_u64();
        let state = crate::support::states::number(row["state"].as_str().expect("a state"));
        (state, address("local"), port("lport"), address("remote"), port("rport"))
    };
    assert!(rows.is_sorted_by_key(order), "{rows:?}");
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
    let mut listed: Vec<ss::Listed> = rows
        .iter()
        .map(|row| {
            assert_eq!(row["schema"], "tcpwatch.socket/1");
            let place = |ip: &str, port: &str| {
                let text = row[ip].as_str().expect("an address");
                let ip = text.split('%').next().expect("an address").parse().expect("an address");
                (
                    ip,
                    number(&row[port]).map_or(0, |port| u16::try_from(port).expect("a port")),
                )
            };
            let holders = row["holders"].as_array().expect("holders").iter();
            let mut holders: Vec<(u32, u32)> = holders
                .flat_map(|holder| {
                    let fds = holder["fds"].as_array().expect("descriptors").iter();
                    fds.map(|fd| (number(&holder["pid"]).expect("a PID"), number(fd).expect("a number")))
                })
                .collect();
            holders.sort_unstable();
            ss::Listed {
                state: row["state"].as_str().expect("a state").to_owned(),
                queues: ["receive_queue", "send_queue"].map(|queue| number(&row[queue])),
                uid: number(&row["uid"]).unwrap_or(0),
                inode: number(&row["inode"]).unwrap_or(0),
                local: place("local", "lport"),
                remote: place("remote", "rport"),
                holders,
            }
        })
        .collect();
    listed.sort_unstable();
    (listed, end)
}

#[test]
fn an_iterator_wants_root_and_says_so() {
    in_netns(|_| {
        let nobody = Unprivileged::new();
        finish(&nobody.tcpwatch(&["snapshot", "--source", "iter"])).refuses(1, "CAP_");
    });
}

/// `netstat -ant | grep 80 | wc -l`, but of the port and not of every line with an 80 in it.
#[test]
fn count_is_of_the_port_alone() {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 80), 8);
        let other = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let clients: Vec<_> = (0..3).map(|_| connect(address(&listener))).collect();
        let others: Vec<_> = (0..5).map(|_| connect(address(&other))).collect();
        for source in ["auto", "sock_diag", "proc"] {
            let finished = finish(&tcpwatch(&["snapshot", "--port", "80", "--count", "--source", source]));
            assert_eq!(
                (finished.code, finished.stdout.as_str()),
                (Some(0), "7\n"),
                "--source {source}: {finished:?}"
            );
            let args = [
                "snapshot",
                "--port",
                "80",
                "--count",
                "--state",
                "established",
                "--source",
                source,
            ];
            let finished = finish(&tcpwatch(&args));
            assert_eq!(
                (finished.code, finished.stdout.as_str()),
                (Some(0), "6\n"),
                "--source {source}: {finished:?}"
            );
        }
        let count = |form| finish(&tcpwatch(&["snapshot", "--port", "80", "--count", "-o", form])).stdout;
        let json: Value = serde_json::from_str(&count("json")).expect("one object");
        assert_eq!(
            (&json["schema"], &json["total"]),
            (&"tcpwatch.count/1".into(), &7.into())
        );
        let csv = count("csv");
        assert!(csv.starts_with("time,total\n") && csv.ends_with(",7\n"), "{csv}");
        drop((clients, others));
    });
}

/// `netstat -an`, to see which addresses connect here.
#[test]
fn groups_by_remote_address_and_by_port() {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let elsewhere: SocketAddr = "127.0.0.2:8081".parse().expect("an address");
        let second = listen(elsewhere, 8);
        let clients: Vec<_> = (0..4).map(|_| connect(address(&listener))).collect();
        let others: Vec<_> = (0..2).map(|_| connect(elsewhere)).collect();
        let mapped = connect(SocketAddr::new(LOOPBACK_MAPPED, 8080));
        for source in ["auto", "sock_diag", "proc"] {
            let by_remote = snapshot(&["--by", "remote", "--state", "established", "--source", source]);
            for (remote, wanted) in [("127.0.0.1", 4 + 4 + 2 + 1), ("127.0.0.2", 2), ("::ffff:127.0.0.1", 1)] {
                assert_eq!(
                    group(&by_remote, "remote", &remote.into()),
                    wanted,
                    "{remote}: {by_remote}"
                );
            }
            let by_lport = snapshot(&["--by", "lport", "--source", source]);
            assert_eq!(group(&by_lport, "lport", &8080.into()), 1 + 5, "{by_lport}");
            assert_eq!(group(&by_lport, "lport", &8081.into()), 1 + 2, "{by_lport}");
            let limited = snapshot(&["--by", "lport", "--limit", "1", "--source", source]);
            assert_eq!(
                group(&limited, "lport", &8080.into()),
                6,
                "the largest group: {limited}"
            );
            let groups = limited["groups"].as_array().expect("groups");
            let sum: i64 = groups.iter().filter_map(|group| group["total"].as_i64()).sum();
            let others = limited["other"]["total"]
                .as_i64()
                .expect("what --limit leaves out, as one");
            assert_eq!(limited["total"].as_i64(), Some(sum + others), "{limited}");
        }
        drop((clients, others, mapped, second));
    });
}

/// The total of the group whose `key` is `value`.
fn group(snapshot: &Value, key: &str, value: &Value) -> i64 {
    let groups = snapshot["groups"]
        .as_array()
        .unwrap_or_else(|| panic!("no groups in {snapshot}"));
    let found = groups.iter().find(|group| &group["key"][key] == value);
    found.unwrap_or_else(|| panic!("no group {key} {value} in {snapshot}"))["total"]
        .as_i64()
        .expect("a total")
}

#[test]
fn groups_by_namespace_whatever_the_source() {
    in_netns(|netns| {
        let _listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        for source in ["auto", "sock_diag", "proc"] {
            let by_netns = snapshot(&["--by", "netns", "--source", source]);
            assert_eq!(
                by_netns["groups"][0]["key"]["netns"].as_u64(),
                Some(netns.inum),
                "--source {source}: {by_netns}"
            );
        }
        finish(&tcpwatch(&["snapshot", "--by", "netns", "--source", "iter"])).refuses(2, "without --by");
    });
}
