//! `doctor` on live namespaces: what it says of settings, counters and queues is what sysctl, nstat and ss say.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::clock::{eventually, pass, until};
use crate::support::netns::{Hop, Neighbour, in_netns_without_tracefs};
use crate::support::peers::{nstat, run, snmp, ss};
use crate::support::program::doctor::{counters, doctor, findings, settings};
use crate::support::program::run::{Unprivileged, finish, tcpwatch};
use crate::support::python::Python;
use crate::support::sockets::{
    address, connect, deaf_clients, listen, pair, read_eof, send_fin, socket, start_connect,
};

/// The finding on a setting, or of a kind.
fn of<'a>(findings: &'a [Value], topic: &str) -> &'a Value {
    let mut found = findings.iter().filter(|finding| finding["topic"] == topic);
    let one = found
        .next()
        .unwrap_or_else(|| panic!("nothing on {topic}: {findings:?}"));
    assert_eq!(found.next(), None, "{topic} is told once");
    one
}

/// Nothing is found of this kind.
fn none(findings: &[Value], topic: &str) {
    assert!(findings.iter().all(|finding| finding["topic"] != topic), "{findings:?}");
}

/// What to type, of all that is advised.
fn commands(finding: &Value) -> Vec<&str> {
    let advice = finding["advice"].as_array().expect("advice");
    let advice = advice.iter().map(|step| step.as_str().expect("a step"));
    advice.filter(|step| step.contains("sysctl -w")).collect()
}

/// A counter as nstat shows it: `TcpExtListenOverflows`.
fn nstat(name: &str) -> u64 {
    u64::try_from(nstat::read(name)).expect("a count")
}

/// Every counter in `findings`, which `doctor ARGS` printed, is nstat's; how many there were. The kernel counts on between the two
/// readings, so that a difference is wrong only if it is there again and again.
fn counters_are_those_of_nstat(findings: &[Value], args: &[&str]) -> usize {
    let told = counters(findings);
    let is_nstats = |counters: &[(String, u64)]| {
        let differing = counters.iter().find_map(|(name, value)| {
            let theirs = nstat(name);
            (*value != theirs).then(|| format!("{name}: {value} against {theirs}"))
        });
        differing.map_or(Ok(()), Err)
    };
    if is_nstats(&told).is_err() {
        eventually("the counters of doctor to be nstat's", || {
            let now = counters(&doctor(args));
            if now.len() < told.len() {
                return Err(format!("only {now:?}"));
            }
            is_nstats(&now)
        });
    }
    told.len()
}

/// Every setting has the value that sysctl shows in this namespace.
fn settings_are_those_of_sysctl(findings: &[Value]) {
    let settings = settings(findings);
    for (name, value) in &settings {
        let theirs = run("sysctl", &["-n", name]);
        assert_eq!(
            *value,
            theirs.split_whitespace().collect::<Vec<_>>().join(" "),
            "{name}"
        );
    }
    assert!(settings.len() >= 20, "{} settings were compared", settings.len());
}

/// Nothing is wrong in a fresh namespace, and nothing is to be done there.
#[test]
fn nothing_is_wrong_where_nothing_happened() {
    in_netns_without_tracefs(|_| {
        let findings = doctor(&[]);
        assert_eq!(findings.len(), 23);
        // The host's own settings are those of the machine, whatever it has been through.
        let of_host = ["tcp_max_orphans", "file-max", "nr_open", "nf_conntrack_max"];
        let own = findings
            .iter()
            .filter(|finding| !of_host.contains(&finding["topic"].as_str().expect("a topic")));
        for finding in own {
            assert_eq!(
                (&finding["severity"], &finding["advice"]),
                (&"info".into(), &Value::Array(vec![])),
                "{finding}"
            );
        }
        settings_are_those_of_sysctl(&findings);
        assert!(counters_are_those_of_nstat(&findings, &[]) >= 10);
    });
}

/// The host itself, whatever goes on there, and for a user who may do nothing.
#[test]
fn the_host_itself() {
    let nobody = Unprivileged::new();
    let told = || findings(&finish(&nobody.tcpwatch(&["doctor", "-o", "json"])));
    let before: Vec<(String, u64)> = counters(&told())
        .into_iter()
        .map(|(name, _)| (name.clone(), nstat(&name)))
        .collect();
    let findings = told();
    settings_are_those_of_sysctl(&findings);
    let now = counters(&findings);
    assert_eq!(now.len(), before.len());
    for ((name, value), (same, before)) in now.iter().zip(&before) {
        assert_eq!(name, same);
        assert!(
            (*before..=nstat(name)).contains(value),
            "{name}: {before}, then {value}"
        );
    }
    assert!(now.len() >= 10);
}

/// A queue that holds one more than its limit, by ss too, and the next SYN that finds no room.
#[test]
fn a_queue_that_is_full() {
    for (somaxconn, capped) in [("8", true), ("4096", false)] {
        in_netns_without_tracefs(|netns| {
            netns.set("core/somaxconn", somaxconn);
            let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
            let clients: Vec<_> = (0..9).map(|_| connect(address(&listener))).collect();
            let turned_away = socket(address(&listener));
            start_connect(&turned_away, address(&listener));
            until("an accept queue overflows", || {
                snmp::read().get("TcpExt:ListenOverflows") > 0
            });
            let ss = run("ss", &["-Hltn"]);
            let queue: Vec<&str> = ss.split_whitespace().skip(1).take(2).collect();
            assert_eq!(queue, ["9", "8"], "{ss}");
            // The client tries again, now and then: what is compared was not before, and not after.
            let (findings, overflows) = eventually("a moment without a retry", || {
                let before = nstat("TcpExtListenOverflows");
                let findings = doctor(&[]);
                if nstat("TcpExtListenOverflows") == before {
                    Ok((findings, before))
                } else {
                    Err("it tried again")
                }
            });
            let trouble = of(&findings, "accept_queue_overflow");
            assert_eq!(trouble["severity"], "warning");
            assert_eq!(trouble["evidence"]["ListenOverflows"].as_u64(), Some(overflows));
            assert_eq!(trouble["evidence"]["full"], 1);
            assert_eq!(
                trouble["owner"]["pid"].as_u64(),
                Some(std::process::id().into()),
                "{trouble}"
            );
            let title = trouble["title"].as_str().expect("a title");
            assert!(
                title.contains("127.0.0.1:8080 ") && title.contains(" holds 9 of 8 now"),
                "{title}"
            );
            assert!(
                title.contains("since this namespace began"),
                "it is younger than the host: {title}"
            );
            let somaxconn = of(&findings, "somaxconn");
            if capped {
                assert_eq!(somaxconn["severity"], "warning", "{somaxconn}");
                assert_eq!(commands(somaxconn), ["sysctl -w net.core.somaxconn=4096"]);
            } else {
                assert_eq!(somaxconn["severity"], "info", "raising it would not help: {somaxconn}");
                assert_eq!(commands(somaxconn), [""; 0]);
            }
            let strict = finish(&tcpwatch(&["doctor", "--strict"]));
            assert_eq!(strict.code, Some(3), "{strict:?}");
            drop((clients, turned_away));
        });
    }
}

/// The kernel counts what each listener dropped, so that it is known whose queue was full when it is so no more.
#[test]
fn a_queue_that_was_full() {
    in_netns_without_tracefs(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 1);
        let healthy = listen(SocketAddr::new(LOOPBACK, 8081), 100);
        let clients: Vec<_> = (0..5)
            .map(|_| {
                let client = socket(address(&listener));
                start_connect(&client, address(&listener));
                client
            })
            .collect();
        until("an accept queue overflows", || {
            snmp::read().get("TcpExt:ListenOverflows") > 0
        });
        drop(clients);
        for _ in 0..2 {
            drop(listener.accept().expect("one that waits"));
        }
        drop(pair(&healthy));
        let dropped = ss::dropped_by("127.0.0.1:8080");
        assert_eq!(u64::try_from(dropped).ok(), Some(nstat("TcpExtListenOverflows")));
        let findings = doctor(&[]);
        let trouble = of(&findings, "accept_queue_overflow");
        assert_eq!(trouble["evidence"]["full"], 0, "{trouble}");
        assert_eq!(trouble["evidence"]["listener"], "127.0.0.1:8080", "{trouble}");
        assert_eq!(trouble["evidence"]["listener_drops"], dropped, "{trouble}");
        assert_eq!(trouble["owner"]["pid"], std::process::id(), "{trouble}");
        let said = format!("dropped {dropped} with a backlog of 1");
        let somaxconn = of(&findings, "somaxconn")["title"].as_str().expect("a title");
        assert!(
            somaxconn.contains(&said) && somaxconn.contains("asked for no more"),
            "{somaxconn}"
        );
    });
}

/// Closes `count` connections to `listener`, the client first: a port each is held by TIME_WAIT.
fn close_first(listener: &socket2::Socket, count: usize) {
    for _ in 0..count {
        let pair = pair(listener);
        send_fin(&pair.client);
        read_eof(&pair.server);
        send_fin(&pair.server);
        read_eof(&pair.client);
    }
}

/// Nine tenths of the ports to one destination: both settings help, and are told.
#[test]
fn ports_that_run_out() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        netns.set("ipv4/ip_local_port_range", "40000 40099");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        close_first(&listener, 79);
        let findings = doctor(&[]);
        none(&findings, "port_exhaustion");
        assert_eq!(commands(of(&findings, "tcp_tw_reuse")), [""; 0]);
        close_first(&listener, 11);
        let findings = doctor(&[]);
        let trouble = of(&findings, "port_exhaustion");
        let held: Vec<&Value> = ["used", "time_wait", "range", "source", "destination"]
            .map(|name| &trouble["evidence"][name])
            .to_vec();
        assert_eq!(
            held,
            [
                &90.into(),
                &90.into(),
                &100.into(),
                &Value::from("127.0.0.1"),
                &"127.0.0.1:8080".into()
            ],
            "{trouble}"
        );
        assert_eq!(
            commands(of(&findings, "tcp_tw_reuse")),
            ["sysctl -w net.ipv4.tcp_tw_reuse=2"],
            "over loopback the default is enough"
        );
        assert_eq!(
            commands(of(&findings, "ip_local_port_range")),
            [r#"sysctl -w net.ipv4.ip_local_port_range="40000 65535""#],
            "its end is enough"
        );
        settings_are_those_of_sysctl(&findings);
        counters_are_those_of_nstat(&findings, &[]);
        // They can be had again, once the next connection may take them, and has taken one.
        netns.set("ipv4/tcp_tw_reuse", "2");
        let findings = doctor(&[]);
        let title = of(&findings, "port_exhaustion")["title"].as_str().expect("a title");
        assert!(title.contains("never did: TWRecycled 0"), "{title}");
        assert_eq!(commands(of(&findings, "tcp_tw_reuse")), [""; 0]);
        pass(Duration::from_millis(2100));
        until("a port in TIME_WAIT is taken again", || {
            close_first(&listener, 1);
            nstat("TcpExtTWRecycled") > 0
        });
        none(&doctor(&[]), "port_exhaustion");
    });
}

/// The other side uses no timestamps, so that no port in `TIME_WAIT` is taken again, whatever is set here: connects fail.
#[test]
fn ports_that_the_other_side_keeps() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "1");
        netns.set("ipv4/ip_local_port_range", "40000 40099");
        let hop = Hop::new();
        let listener = hop.neighbour.run(|netns| {
            netns.set("ipv4/tcp_timestamps", "0");
            listen(SocketAddr::new(Hop::THERE, 8080), 8)
        });
        close_first(&listener, 100);
        pass(Duration::from_millis(2100));
        let refused = socket(address(&listener)).connect(&address(&listener).into());
        assert_eq!(
            refused.expect_err("no port is left").raw_os_error(),
            Some(rustix::io::Errno::ADDRNOTAVAIL.raw_os_error())
        );
        let findings = doctor(&[]);
        let trouble = of(&findings, "port_exhaustion");
        assert_eq!(
            (&trouble["severity"], &trouble["evidence"]["used"]),
            (&"critical".into(), &100.into()),
            "{trouble}"
        );
        let reuse = of(&findings, "tcp_tw_reuse");
        assert_eq!(
            (&reuse["severity"], commands(reuse).len()),
            (&"warning".into(), 0),
            "{reuse}"
        );
        assert_eq!(nstat("TcpExtTWRecycled"), 0);
        settings_are_those_of_sysctl(&findings);
    });
}

/// Open connections hold the ports, and none is in `TIME_WAIT`.
#[test]
fn ports_that_open_connections_hold() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/ip_local_port_range", "40000 40099");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        let pairs: Vec<_> = (0..79).map(|_| pair(&listener)).collect();
        none(&doctor(&[]), "port_exhaustion");
        let more: Vec<_> = (0..20).map(|_| pair(&listener)).collect();
        let findings = doctor(&[]);
        let trouble = of(&findings, "port_exhaustion");
        let held = ["used", "time_wait"].map(|name| &trouble["evidence"][name]);
        assert_eq!(
            (&trouble["severity"], held),
            (&"critical".into(), [&99.into(), &0.into()]),
            "{trouble}"
        );
        assert_eq!(of(&findings, "tcp_tw_reuse")["severity"], "info");
        drop((pairs, more));
    });
}

/// Ports that `bind()` took are their source address's alone, whatever the destination.
#[test]
fn ports_that_bind_took() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/ip_local_port_range", "40000 40099");
        let listeners: Vec<_> = (8000..8010)
            .map(|port| listen(SocketAddr::new(LOOPBACK, port), 16))
            .collect();
        let clients: Vec<_> = (0..100)
            .map(|client| {
                let bound = socket(SocketAddr::new(LOOPBACK, 0));
                bound.bind(&SocketAddr::new(LOOPBACK, 0).into()).expect("a port");
                bound
                    .connect(&address(&listeners[client % 10]).into())
                    .expect("a connection");
                bound
            })
            .collect();
        let refused = socket(SocketAddr::new(LOOPBACK, 0)).bind(&SocketAddr::new(LOOPBACK, 0).into());
        assert_eq!(
            refused.expect_err("no port is left").raw_os_error(),
            Some(rustix::io::Errno::ADDRINUSE.raw_os_error())
        );
        let findings = doctor(&[]);
        none(&findings, "port_exhaustion");
        let title = of(&findings, "ip_local_port_range")["title"].as_str().expect("a title");
        assert!(
            title.contains("127.0.0.1 holds 100 of 100 ports") && title.contains("IP_BIND_ADDRESS_NO_PORT"),
            "{title}"
        );
        drop(clients);
    });
}

/// Without cookies SYNs are dropped before any queue is full, and counted as drops alone.
#[test]
fn syns_that_are_dropped_for_want_of_cookies() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/tcp_syncookies", "0");
        netns.set("ipv4/tcp_max_syn_backlog", "8");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 128);
        let clients = deaf_clients(&listener, 40);
        until("SYNs are dropped", || nstat("TcpExtListenDrops") >= 30);
        drop(clients);
        assert_eq!(
            (nstat("TcpExtListenOverflows"), nstat("TcpExtTCPReqQFullDrop")),
            (0, 0),
            "the kernel tells no reason"
        );
        let findings = doctor(&[]);
        let trouble = of(&findings, "syn_flood");
        assert_eq!(trouble["severity"], "warning", "{trouble}");
        assert_eq!(
            trouble["evidence"]["ListenDrops"].as_u64(),
            Some(nstat("TcpExtListenDrops"))
        );
        let cookies = of(&findings, "tcp_syncookies");
        assert_eq!(commands(cookies), ["sysctl -w net.ipv4.tcp_syncookies=1"], "{cookies}");
        let backlog = of(&findings, "tcp_max_syn_backlog")["title"].as_str().expect("a title");
        assert!(
            backlog.contains("6, three quarters of it") && backlog.contains("127.0.0.1:8080"),
            "{backlog}"
        );
        counters_are_those_of_nstat(&findings, &[]);
    });
}

/// Who turned cookies on as told is told what was, and that nothing is left to do.
#[test]
fn syns_that_were_dropped_before_cookies_were_on() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/tcp_syncookies", "0");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 16);
        let clients = deaf_clients(&listener, 60);
        until("SYNs are dropped", || nstat("TcpExtTCPReqQFullDrop") >= 30);
        let findings = doctor(&[]);
        assert_eq!(of(&findings, "syn_flood")["severity"], "warning");
        assert_eq!(
            commands(of(&findings, "tcp_syncookies")),
            ["sysctl -w net.ipv4.tcp_syncookies=1"]
        );
        drop((clients, listener));
        netns.set("ipv4/tcp_syncookies", "1");
        let dropped = nstat("TcpExtTCPReqQFullDrop");
        let findings = doctor(&["--strict"]);
        let trouble = of(&findings, "syn_flood");
        assert_eq!(
            (
                &trouble["severity"],
                trouble["evidence"]["TCPReqQFullDrop"].as_u64(),
                nstat("TcpExtSyncookiesSent")
            ),
            (&"info".into(), Some(dropped), 0),
            "{trouble}"
        );
        let cookies = of(&findings, "tcp_syncookies")["title"].as_str().expect("a title");
        assert!(
            cookies.contains("while it was 0, SYNs were dropped: TCPReqQFullDrop"),
            "{cookies}"
        );
        counters_are_those_of_nstat(&findings, &[]);
    });
}

/// Timewait sockets that found no room.
#[test]
fn time_wait_that_is_refused() {
    in_netns_without_tracefs(|netns| {
        let default = run("sysctl", &["-n", "net.ipv4.tcp_max_tw_buckets"]);
        netns.set("ipv4/tcp_max_tw_buckets", "3");
        let listener = listen(SocketAddr::new(LOOPBACK, 8080), 8);
        close_first(&listener, 10);
        let findings = doctor(&[]);
        let refused = nstat("TcpExtTCPTimeWaitOverflow");
        assert!(refused > 0, "the kernel refused some");
        let trouble = of(&findings, "time_wait_overflow");
        assert_eq!(trouble["evidence"]["TCPTimeWaitOverflow"].as_u64(), Some(refused));
        let population = u64::try_from(snmp::timewait_population()).ok();
        assert_eq!(
            (
                trouble["evidence"]["time_wait"].as_u64(),
                trouble["evidence"]["limit"].as_u64()
            ),
            (population, Some(3))
        );
        let buckets = of(&findings, "tcp_max_tw_buckets");
        let own = default.trim();
        assert_eq!(buckets["evidence"]["default"].to_string(), own, "{buckets}");
        let command = format!("sysctl -w net.ipv4.tcp_max_tw_buckets={own}");
        assert_eq!(commands(buckets), [command.as_str()], "what the kernel chose");
        counters_are_those_of_nstat(&findings, &[]);
        // Who does so is told nothing more to do, though the counter stays what it is.
        netns.set("ipv4/tcp_max_tw_buckets", own);
        let findings = doctor(&["--strict"]);
        assert_eq!(of(&findings, "time_wait_overflow")["severity"], "info");
        let buckets = of(&findings, "tcp_max_tw_buckets");
        assert_eq!(buckets["evidence"]["TCPTimeWaitOverflow"].as_u64(), Some(refused));
        assert!(commands(buckets).is_empty(), "{buckets}");
    });
}

/// Another namespace is told by its own settings, and changed there.
#[test]
fn another_namespace() {
    in_netns_without_tracefs(|netns| {
        netns.set("ipv4/tcp_fin_timeout", "50");
        let there = Neighbour::new();
        let path = format!("/proc/{}/ns/net", there.pid());
        let default = there.run(|_| run("sysctl", &["-n", "net.ipv4.tcp_max_tw_buckets"]));
        there.run(|netns| {
            netns.set("ipv4/tcp_fin_timeout", "20");
            netns.set("ipv4/tcp_max_tw_buckets", "3");
            close_first(&listen(SocketAddr::new(LOOPBACK, 8080), 8), 10);
        });
        let here = doctor(&[]);
        assert_eq!(of(&here, "tcp_fin_timeout")["evidence"]["value"], 50);
        let findings = doctor(&["--netns", &path]);
        let fin_timeout = &of(&findings, "tcp_fin_timeout")["evidence"];
        assert_eq!(
            (&fin_timeout["value"], fin_timeout["netns"].as_u64()),
            (&20.into(), Some(there.inum))
        );
        let command = format!(
            "nsenter --net={path} sysctl -w net.ipv4.tcp_max_tw_buckets={}",
            default.trim()
        );
        assert_eq!(commands(of(&findings, "tcp_max_tw_buckets")), [command.as_str()]);
        there.run(|_| {
            settings_are_those_of_sysctl(&findings);
            assert!(counters_are_those_of_nstat(&findings, &["--netns", &path]) >= 10);
        });
    });
}

/// The connections that are tracked in the calling thread's namespace.
fn tracked() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").ok()?;
    text.trim().parse().ok()
}

/// All namespaces: each is told, and the whole host's settings once.
#[test]
fn all_namespaces() {
    in_netns_without_tracefs(|netns| {
        let there = Neighbour::new();
        let findings = doctor(&["--netns", "all"]);
        let with = |topic: &str| {
            let found = findings.iter().filter(|finding| finding["topic"] == topic);
            found
                .filter_map(|finding| finding["evidence"]["netns"].as_u64())
                .collect::<Vec<_>>()
        };
        for inum in [netns.inum, there.inum] {
            assert_eq!(with("somaxconn").iter().filter(|&&found| found == inum).count(), 1);
        }
        for setting in ["nr_open", "tcp_max_orphans"] {
            assert_eq!(with(setting).len(), 1, "{setting}");
        }
        // Each has its own count of tracked connections, where the host tracks any.
        for (inum, count) in [(netns.inum, tracked()), (there.inum, there.run(|_| tracked()))] {
            let told = findings.iter().find(|finding| {
                finding["topic"] == "nf_conntrack_max" && finding["evidence"]["netns"].as_u64() == Some(inum)
            });
            let told = told.map(|finding| finding["evidence"]["count"].as_u64());
            assert_eq!(told, count.map(Some), "{inum}");
        }
    });
}

/// A process that has nearly all the descriptors it may have, whatever they are.
#[test]
fn descriptors_that_run_out() {
    const SCRIPT: &str = "
import json, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
files = [os.open('/dev/null', os.O_RDONLY) for _ in range(170)]
print(json.dumps({'step': 'open'}), flush=True)
input()
";
    in_netns_without_tracefs(|_| {
        let mut python = Python::start(SCRIPT, &[]);
        assert_eq!(python.line(0)["step"], "open");
        let pid = python.pid();
        let there = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("its descriptors")
            .count();
        let findings = doctor(&[]);
        let mut own = findings.iter().filter(|finding| finding["owner"]["pid"] == pid);
        let found = own.next().expect("it is told");
        assert_eq!(own.next(), None, "once");
        assert_eq!(
            (&found["topic"], &found["evidence"]["open"], &found["evidence"]["limit"]),
            (&"nr_open".into(), &there.into(), &200.into()),
            "{found}"
        );
        assert_eq!(
            (&found["detector"], &found["severity"]),
            (&"host".into(), &"warning".into())
        );
    });
}
