//! What `churn` finds wrong where something is, with the numbers that nstat and ss have of it; and nothing where all is well.

use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;
use socket2::Socket;

use crate::support::clock::eventually;
use crate::support::netns::{Hop, Neighbour, in_netns};
use crate::support::peers::{nstat, snmp, ss};
use crate::support::program::churn::{Churn, number, sum};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::python::Python;
use crate::support::sockets::{
    Pair, address, bound, deaf_clients, deafen, listen, pair, read_eof, socket, start_connect, undeafen,
};
use crate::support::spoiled::done_again;
use crate::support::steady::{Binds, Sink, steady};
use crate::support::web::{Nginx, request, request_and_keep};
use crate::support::workload::bulk;
use crate::support::{LOOPBACK, heavy};

on_both_hooks!(connects_refused, ports_that_ran_out);

/// Connects so often to an address where nobody listens, and waits.
const REFUSED: &str = r"
import errno, json, socket, sys
host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
said = [socket.socket().connect_ex((host, port)) for _ in range(count)]
print(said.count(errno.ECONNREFUSED), flush=True)
input()
";

/// Sends so many SYNs, each from another address of 172.30.0.0/16, by a raw socket (raw(7), RFC 9293, section 3.1).
const FORGED: &str = r#"
import socket, struct, sys
to, port, count = socket.inet_aton(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
for number in range(count):
    source = bytes([172, 30, number >> 8, number & 255])
    syn = lambda check: struct.pack("!HHIIBBHHH", 1024 + number, port, number, 0, 0x50, 0x02, 65535, check, 0)
    pseudo = source + to + struct.pack("!BBH", 0, socket.IPPROTO_TCP, 20)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, socket.IPPROTO_TCP, 0) + source + to
    raw.sendto(ip + syn(checksum(pseudo + syn(0))), (sys.argv[1], 0))
print("true", flush=True)
input()
"#;

/// Those of `findings` that a detector found.
fn of<'a>(findings: &'a [Value], detector: &str) -> Vec<&'a Value> {
    findings
        .iter()
        .filter(|finding| finding["detector"] == detector)
        .collect()
}

/// The sum of one piece of evidence.
fn evidence(findings: &[&Value], name: &str) -> i64 {
    let known = findings.iter().filter(|finding| !finding["evidence"][name].is_null());
    known.map(|finding| number(&finding["evidence"], name)).sum()
}

/// So many connections to `listener` that their clients close first.
fn closed_by_clients(listener: &Socket, count: usize) {
    for _ in 0..count {
        let Pair { client, server } = pair(listener);
        drop(client);
        read_eof(&server);
    }
}

/// Waits until `churn` has found something by `detector`.
fn until_found(churn: &Churn, detector: &str) {
    eventually(&format!("{detector} to be found"), || {
        let findings = churn.findings();
        if of(&findings, detector).is_empty() {
            Err(format!("{findings:?}"))
        } else {
            Ok(())
        }
    });
}

#[test]
fn an_accept_queue_that_overflows() {
    in_netns(|_| {
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 1);
        let clients: Vec<Socket> = (0..40)
            .map(|_| {
                let client = socket(address(&listener));
                start_connect(&client, address(&listener));
                client
            })
            .collect();
        until_found(&churn, "accept_queue_overflow");
        // Without these nobody sends a SYN again.
        drop(clients);
        churn.fresh();
        let place = address(&listener).to_string();
        let dropped = ss::dropped_by(&place);
        let overflows = nstat::read("TcpExtListenOverflows");
        let drops = nstat::read("TcpExtListenDrops");
        let (rows, findings) = churn.finish_with_findings();
        let found = of(&findings, "accept_queue_overflow");
        assert_eq!(
            (evidence(&found, "overflows"), evidence(&found, "drops")),
            (overflows, drops)
        );
        assert_eq!(sum(&rows, "/accept_queues/overflows"), overflows);
        assert_eq!(
            (dropped, evidence(&found, "listener_drops")),
            (overflows, overflows),
            "{found:?}"
        );
        // One that came between the reading of the counters and that of the listener is told with the next.
        let named: Vec<_> = found.iter().filter(|finding| !finding["owner"].is_null()).collect();
        assert!(!named.is_empty(), "{found:?}");
        for finding in named {
            assert_eq!(finding["evidence"]["listener"], place, "{finding}");
            assert_eq!(finding["evidence"]["listener_backlog"], 1, "{finding}");
            assert_eq!(finding["owner"]["pid"], std::process::id(), "{finding}");
        }
        let is_critical = |finding: &&Value| finding["severity"] == "critical";
        assert!(found.iter().any(is_critical), "many clients wait: {found:?}");
        assert_eq!(
            of(&findings, "syn_flood"),
            [&Value::Null; 0],
            "every drop is one of these"
        );
    });
}

/// More half-open connections than the backlog of their listener, with SYN cookies and without.
fn more_half_open_than_the_backlog(syncookies: &str) -> (Vec<Value>, [i64; 2]) {
    in_netns(|netns| {
        netns.set("ipv4/tcp_syncookies", syncookies);
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let clients = deaf_clients(&listener, 100);
        until_found(&churn, "syn_flood");
        drop(clients);
        churn.fresh();
        let counted = ["TcpExtSyncookiesSent", "TcpExtTCPReqQFullDrop"].map(nstat::read);
        (churn.finish_with_findings().1, counted)
    })
}

#[test]
fn syns_that_are_answered_with_cookies() {
    let (findings, [sent, dropped]) = more_half_open_than_the_backlog("1");
    assert!(sent >= 30 && dropped == 0, "{sent} cookies, {dropped} dropped");
    let found = of(&findings, "syn_flood");
    assert_eq!(evidence(&found, "cookies_sent"), sent);
    assert_eq!(evidence(&found, "cookies_received"), 0);
    // Those of the last moment may be few.
    let is_warning = |finding: &&Value| finding["severity"] == "warning";
    assert!(found.iter().any(is_warning), "{found:?}");
}

#[test]
fn syns_that_are_dropped() {
    let (findings, [sent, dropped]) = more_half_open_than_the_backlog("0");
    assert!(sent == 0 && dropped >= 30, "{sent} cookies, {dropped} dropped");
    let found = of(&findings, "syn_flood");
    assert_eq!(evidence(&found, "syn_drops"), dropped);
    let is_critical = |finding: &&Value| finding["severity"] == "critical";
    assert!(found.iter().any(is_critical), "many clients wait: {found:?}");
    assert_eq!(
        found[0]["advice"][1], "sysctl -w net.ipv4.tcp_syncookies=1",
        "{}",
        found[0]
    );
    assert_eq!(
        of(&findings, "retransmit_storm"),
        [&Value::Null; 0],
        "one cause is one finding"
    );
}

#[test]
fn syns_that_are_dropped_for_tcp_max_syn_backlog() {
    in_netns(|netns| {
        netns.set("ipv4/tcp_syncookies", "0");
        netns.set("ipv4/tcp_max_syn_backlog", "8");
        let mut churn = Churn::start(Hook::TpBtf, "1");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 128);
        let clients = deaf_clients(&listener, 40);
        until_found(&churn, "syn_flood");
        drop(clients);
        churn.fresh();
        let [drops, overflows, queue_full] =
            ["TcpExtListenDrops", "TcpExtListenOverflows", "TcpExtTCPReqQFullDrop"].map(nstat::read);
        assert!(
            drops >= 30 && overflows == 0 && queue_full == 0,
            "the kernel tells no reason"
        );
        let (_, findings) = churn.finish_with_findings();
        let found = of(&findings, "syn_flood");
        let title = found[0]["title"].as_str().expect("a title");
        assert!(
            title.contains("three quarters of net.ipv4.tcp_max_syn_backlog (8)"),
            "{title}"
        );
        assert_eq!(found[0]["evidence"]["tcp_syncookies"], 0, "{}", found[0]);
        assert!(evidence(&found, "drops") <= drops, "{findings:?}");
    });
}

/// To clients there is no route back to nobody can answer, whatever is free.
#[test]
fn syns_of_clients_without_a_route() {
    const SYNS: i64 = 200;
    in_netns(|_| {
        let mut churn = Churn::start(Hook::TpBtf, "1");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 128);
        let clients = deaf_clients(&listener, 2);
        let to = address(&listener);
        let (host, port) = (to.ip().to_string(), to.port().to_string());
        let mut forged = Python::start(FORGED, &[&host, &port, &SYNS.to_string()]);
        forged.line(0);
        until_found(&churn, "syn_flood");
        churn.fresh();
        let counters = [
            "TcpExtListenDrops",
            "TcpExtListenOverflows",
            "TcpExtTCPReqQFullDrop",
            "TcpExtTCPAbortOnMemory",
        ];
        assert_eq!(counters.map(nstat::read), [SYNS, 0, 0, 0], "the kernel tells no reason");
        let (_, findings) = churn.finish_with_findings();
        let found = of(&findings, "syn_flood");
        for finding in &found {
            let title = finding["title"].as_str().expect("a title");
            assert!(title.contains("though no queue was full"), "{title}");
            let first = finding["advice"][0].as_str().expect("a step");
            assert!(first.contains("ip route get"), "{first}");
        }
        drop((clients, forged));
    });
}

/// Where every SYN is answered with a cookie no queue has to be full for it.
#[test]
fn cookies_for_all() {
    in_netns(|netns| {
        netns.set("ipv4/tcp_syncookies", "2");
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 128);
        let pairs: Vec<Pair> = (0..20).map(|_| pair(&listener)).collect();
        churn.fresh();
        let sent = nstat::read("TcpExtSyncookiesSent");
        let (_, findings) = churn.finish_with_findings();
        let found = of(&findings, "syn_flood");
        assert_eq!(evidence(&found, "cookies_sent"), sent, "{findings:?}");
        for finding in found {
            assert_eq!(finding["severity"], "info", "{finding}");
            assert_eq!(finding["advice"][0], "sysctl -w net.ipv4.tcp_syncookies=1", "{finding}");
        }
        assert_eq!(sent, 20);
        drop(pairs);
    });
}

#[test]
fn timewait_sockets_that_are_refused() {
    in_netns(|netns| {
        netns.set("ipv4/tcp_max_tw_buckets", "10");
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        closed_by_clients(&listener, 30);
        churn.fresh();
        let refused = nstat::read("TcpExtTCPTimeWaitOverflow");
        assert!(refused > 0, "nothing was refused, so this proves nothing");
        let (_, findings) = churn.finish_with_findings();
        let found = of(&findings, "time_wait_overflow");
        let refusing: Vec<_> = found
            .into_iter()
            .filter(|found| found["severity"] == "warning")
            .collect();
        assert_eq!(evidence(&refusing, "refused"), refused);
        for finding in refusing {
            assert_eq!(finding["evidence"]["limit"], 10, "{finding}");
            assert_eq!(finding["evidence"]["netns"], netns.inum, "{finding}");
        }
    });
}

/// What would help is to be typed where it is wanted: here it would lower a limit that is none.
#[test]
fn timewait_sockets_that_another_namespace_refuses() {
    in_netns(|_| {
        let neighbour = Neighbour::new();
        let there = format!("/proc/{}/ns/net", neighbour.pid());
        neighbour.run(|netns| netns.set("ipv4/tcp_max_tw_buckets", "10"));
        let mut churn = Churn::of(Running::start(&["churn", "0.2", "--netns", &there]));
        neighbour.run(|_| {
            let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
            closed_by_clients(&listener, 30);
        });
        churn.fresh();
        let (_, findings) = churn.finish_with_findings();
        let refusing = of(&findings, "time_wait_overflow");
        let refusing: Vec<_> = refusing
            .into_iter()
            .filter(|finding| finding["severity"] == "warning")
            .collect();
        assert!(!refusing.is_empty(), "{findings:?}");
        for finding in refusing {
            assert_eq!(finding["evidence"]["netns"], neighbour.inum, "{finding}");
            let command = format!("nsenter --net={there} sysctl -w net.ipv4.tcp_max_tw_buckets=");
            let advice = finding["advice"].to_string();
            assert_eq!(
                advice.matches("sysctl -w").count(),
                advice.matches(&command).count(),
                "{advice}"
            );
            assert!(advice.contains(&command), "{advice}");
        }
    });
}

/// Where ports in TIME_WAIT are not taken again though `tcp_tw_reuse` is on, what keeps them is named, and not that setting.
#[test]
fn ports_that_nobody_may_take_again_without_timestamps() {
    const PORTS: usize = 20;
    for (ours, theirs, told) in [
        ("0", "1", "sysctl -w net.ipv4.tcp_timestamps=1"),
        ("1", "0", "on the other side"),
    ] {
        in_netns(|netns| {
            netns.set("ipv4/tcp_tw_reuse", "1");
            netns.set("ipv4/tcp_timestamps", ours);
            netns.set("ipv4/ip_local_port_range", "40000 40019");
            let hop = Hop::new();
            hop.neighbour.run(|netns| netns.set("ipv4/tcp_timestamps", theirs));
            let listener = hop.neighbour.run(|_| listen(SocketAddr::new(Hop::THERE, 8080), 64));
            let mut churn = Churn::start(Hook::TpBtf, "0.5");
            let mut held = Vec::new();
            for _ in 0..PORTS {
                let Pair { client, server } = pair(&listener);
                drop(client);
                read_eof(&server);
                held.push(server);
            }
            drop(held);
            eventually("every port to be in TIME_WAIT", || match ss::counts()["time_wait"] {
                20 => Ok(()),
                count => Err(count.to_string()),
            });
            let refused = socket(address(&listener)).connect(&address(&listener).into());
            let refused = refused.expect_err("every port is taken").raw_os_error();
            assert_eq!(refused, Some(Errno::ADDRNOTAVAIL.raw_os_error()));
            until_found(&churn, "port_exhaustion");
            churn.fresh();
            let (_, findings) = churn.finish_with_findings();
            let found = of(&findings, "port_exhaustion");
            let failed = found.iter().find(|finding| finding["evidence"]["failed"] == 1);
            let failed = failed.unwrap_or_else(|| panic!("{found:?}"));
            let advice = failed["advice"].to_string();
            assert!(advice.contains(told) && !advice.contains("tcp_tw_reuse=1"), "{failed}");
            assert_eq!(failed["severity"], "critical", "{failed}");
        });
    }
}

#[test]
fn half_open_connections_that_pile_up() {
    const COUNT: usize = 150;
    in_netns(|_| {
        let mut churn = Churn::start(Hook::TpBtf, "0.2");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 4096);
        let clients = deaf_clients(&listener, COUNT);
        until_found(&churn, "half_open");
        churn.fresh();
        let counts = ss::counts();
        let findings = churn.findings();
        for state in ["syn_recv", "syn_sent"] {
            assert_eq!(usize::try_from(counts[state]).expect("a count"), COUNT, "ss: {state}");
            let last = findings
                .iter()
                .rfind(|finding| finding["evidence"]["state"] == state)
                .unwrap_or_else(|| panic!("{state}: {findings:?}"));
            assert_eq!(number(&last["evidence"], "half_open"), counts[state], "{last}");
            assert_eq!(
                (&last["detector"], &last["severity"]),
                (&"half_open".into(), &"warning".into())
            );
        }
        churn.finish();
        drop(clients);
    });
}

fn connects_refused(hook: Hook) {
    const COUNT: i64 = 30;
    in_netns(|_| {
        let mut churn = Churn::start(hook, "1");
        let nobody = bound(SocketAddr::new(LOOPBACK, 0));
        let port = address(&nobody).port();
        let mut python = Python::start(REFUSED, &["127.0.0.1", &port.to_string(), &COUNT.to_string()]);
        assert_eq!(python.line(0), COUNT);
        churn.fresh();
        assert_eq!(nstat::read("TcpAttemptFails"), COUNT);
        let (rows, findings) = churn.finish_with_findings();
        assert_eq!(sum(&rows, "/failed/refused"), COUNT);
        let found = of(&findings, "connect_failures");
        for row in &rows {
            let refused = number(&row["failed"], "refused");
            let here: Vec<_> = found
                .iter()
                .filter(|found| found["time"] == row["time"])
                .copied()
                .collect();
            // So few in one interval are not worth a word.
            let told = if refused < 5 { 0 } else { refused };
            assert_eq!(evidence(&here, "refused"), told, "{row}");
        }
        for finding in &found {
            assert_eq!(
                (
                    &finding["owner"]["pid"],
                    &finding["owner"]["comm"],
                    &finding["owner"]["how"]
                ),
                (&python.pid().into(), &python.comm().into(), &"connect".into()),
                "{finding}"
            );
            let evidence = &finding["evidence"];
            assert_eq!(
                (&evidence["remote"], &evidence["rport"], &evidence["tried"]),
                (&"127.0.0.1".into(), &port.into(), &evidence["failed"]),
                "{finding}"
            );
            assert_eq!(finding["severity"], "critical", "all of them failed: {finding}");
        }
        assert!(!found.is_empty(), "{findings:?}");
    });
}

fn ports_that_ran_out(hook: Hook) {
    const TO: &str = "127.0.0.1:8080";
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "0");
        netns.set("ipv4/ip_local_port_range", "40000 40199");
        let _sink = Sink::at(TO);
        let mut churn = Churn::start(hook, "1");
        let mut client = steady(&[TO], "60", &Binds::Never);
        let end = client.line(2);
        let failed = number(&end, "failed");
        churn.fresh();
        let (rows, findings) = churn.finish_with_findings();
        assert_eq!(sum(&rows, "/failed/no_port"), failed);
        let found = of(&findings, "port_exhaustion");
        assert_eq!(evidence(&found, "failed"), failed, "{found:?}");
        for finding in &found {
            let evidence = &finding["evidence"];
            assert_eq!(
                (&evidence["source"], &evidence["destination"], &evidence["range"]),
                (&"127.0.0.1".into(), &TO.into(), &200.into()),
                "{finding}"
            );
        }
        // Before it happened, it was foretold, and whose doing it is.
        let foretold = found.iter().find(|finding| {
            let left = finding["evidence"]["exhausted_in_s"].as_f64();
            left.is_some_and(|left| left > 0.0)
        });
        let foretold = foretold.unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(
            (&foretold["owner"]["pid"], &foretold["severity"]),
            (&client.pid().into(), &"critical".into()),
            "{foretold}"
        );
        assert!(
            found.iter().any(|finding| finding["evidence"]["free"] == 0),
            "none was left, {end} and {} in TIME_WAIT: {found:?}",
            snmp::timewait_population()
        );
    });
}

/// A server that closes after each answer, and a client that comes back for the next.
#[test]
fn a_connection_for_every_request() {
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "1");
        let mut churn = Churn::start(Hook::TpBtf, "0.5");
        let nginx = Nginx::start();
        let clients = request(1000);
        churn.fresh();
        let (rows, findings) = churn.finish_with_findings();
        let found = of(&findings, "churn");
        assert!(!found.is_empty(), "{findings:?}");
        for finding in found {
            assert!(
                clients.iter().any(|&pid| finding["owner"]["pid"] == pid),
                "the client opens them: {finding}"
            );
            // What the row of the same interval has of it.
            let row = rows.iter().find(|row| row["time"] == finding["time"]).expect("its row");
            let owners = row["owners"].as_array().expect("owners");
            let owner = owners
                .iter()
                .find(|owner| owner["owner"]["pid"] == finding["owner"]["pid"]);
            let owner = owner.expect("who opens them");
            assert_eq!(finding["evidence"]["opened"], owner["opened"], "{row}");
            assert_eq!(finding["evidence"]["interval_s"], row["interval_s"], "{row}");
            assert_eq!(finding["evidence"]["rport"], Nginx::PORT, "{finding}");
        }
        drop(nginx);
    });
}

/// Servers that hear nothing any more: what their clients send is sent again and again.
#[test]
fn segments_that_are_sent_again() {
    const CONNECTIONS: i64 = 100;
    in_netns(|_| {
        let mut churn = Churn::start(Hook::TpBtf, "1");
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let pairs: Vec<Pair> = (0..CONNECTIONS).map(|_| pair(&listener)).collect();
        for Pair { client, server } in &pairs {
            deafen(server);
            assert_eq!(client.send(b"anybody?").expect("send"), 8);
        }
        until_found(&churn, "retransmit_storm");
        for Pair { server, .. } in &pairs {
            undeafen(server);
        }
        churn.fresh();
        let again = nstat::read("TcpRetransSegs");
        let (rows, findings) = churn.finish_with_findings();
        let found = of(&findings, "retransmit_storm");
        // An interval in which fewer than ten a second were sent again is no storm.
        let told = evidence(&found, "retransmitted");
        let silent = i64::try_from(rows.len() - found.len()).expect("few");
        assert!(
            (again - 10 * silent..=again).contains(&told),
            "{told} of {again}, and {silent} intervals told nothing"
        );
        assert_eq!(found[0]["evidence"]["syn_retransmits"], 0, "{}", found[0]);
    });
}

/// A churn that is stopped cannot take what the kernel side tells it.
#[test]
fn records_that_find_no_room() {
    let _turn = heavy::turn();
    in_netns(|netns| {
        netns.set("ipv4/tcp_tw_reuse", "1");
        let churn = Running::start(&["churn", "0.5", "--hook", "tp_btf", "--ring-size", "4K"]);
        let churn = Churn::of(churn);
        churn.running().signal(Signal::STOP);
        bulk::connections(200);
        churn.running().signal(Signal::CONT);
        until_found(&churn, "event_loss");
        let found = churn.findings();
        let found = of(&found, "event_loss");
        let lost: Vec<i64> = churn.rows().iter().map(|row| number(row, "lost")).collect();
        assert_eq!(evidence(&found, "lost"), *lost.last().expect("a row"), "{found:?}");
        assert_eq!(found[0]["severity"], "warning", "{}", found[0]);
        assert!(number(&found[0]["evidence"], "lost") > 0, "{}", found[0]);
    });
}

/// A busy server and a busy client that keep their connections are in no trouble.
#[test]
fn nothing_where_all_is_well() {
    done_again(|| {
        in_netns(|_| {
            let mut churn = Churn::start(Hook::TpBtf, "0.5");
            let nginx = Nginx::keeping();
            let answers = request_and_keep();
            assert!(answers > 1000, "wrk had {answers} answers");
            churn.fresh();
            let (rows, findings) = churn.finish_with_findings();
            let opened: i64 = rows
                .iter()
                .flat_map(|row| row["owners"].as_array().expect("owners"))
                .map(|owner| number(owner, "opened"))
                .sum();
            assert!(opened >= 32, "wrk opened {opened}");
            assert_eq!(findings, [Value::Null; 0]);
            drop(nginx);
        });
    });
}
