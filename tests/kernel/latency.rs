//! Histograms count what the ledger counts, and lengths that are known beforehand are in the right buckets.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tcpwatch::input::Input;
use tcpwatch::input::latency::{LatencyBy, LatencyGroup, Measure, Measured};
use tcpwatch::input::needs::Needs;
use tcpwatch::input::netns_selector::NetnsSelector;
use tcpwatch::input::owner::OwnerBy;
use tcpwatch::model::filter::Filter;
use tcpwatch::source::ebpf::{self, Choice};
use tcpwatch::source::live::{Live, Options};
use tcpwatch_common::TcpState;

use crate::support::LOOPBACK;
use crate::support::clock::pass;
use crate::support::heavy;
use crate::support::netns::in_netns;
use crate::support::proc_tcp::{until_in, until_state};
use crate::support::program::latency::{self, Latency};
use crate::support::program::stat::{Stat, total};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::python::Python;
use crate::support::sockets::{
    Pair, accept, address, connect, deafen, listen, pair, read_eof, send_fin, socket, start_connect, undeafen,
};
use crate::support::workload::{self, bulk};

on_both_hooks!(
    counts_are_the_ledgers,
    a_handshake_whose_answer_was_not_heard,
    a_handshake_whose_syn_was_not_heard,
    a_handshake_over_a_slow_link,
    time_in_established_and_until_accepted,
    what_began_before_is_unknown,
    groups_by_process,
    groups_by_port_and_peer,
    each_ephemeral_port_has_its_length,
    what_finds_no_room_is_counted_with_the_others,
    keys_that_were_read_make_room,
    readings_in_traffic_lose_nothing,
);

/// 60 ms, and in ns.
const WHILE: Duration = Duration::from_millis(60);
const WHILE_NS: u64 = 60_000_000;

/// A link whose packets come back after 50 ms with source and destination swapped: what goes from 10.99.0.1 to 10.99.0.2 arrives at
/// 10.99.0.1, from 10.99.0.2.
const SLOW_LINK: &str = r#"
import collections, fcntl, os, select, struct, subprocess, time
DELAY = 0.05
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 1, 0x1000
tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
subprocess.check_call(["ip", "addr", "add", "10.99.0.1/24", "dev", "tun0"])
subprocess.check_call(["ip", "link", "set", "tun0", "up"])
print('"up"', flush=True)
late = collections.deque()
while True:
    wait = max(0, late[0][0] - time.monotonic()) if late else None
    if select.select([tun], [], [], wait)[0]:
        packet = os.read(tun, 65536)
        if packet[0] >> 4 == 4:
            late.append((time.monotonic() + DELAY, packet[:12] + packet[16:20] + packet[12:16] + packet[20:]))
    while late and late[0][0] <= time.monotonic():
        os.write(tun, late.popleft()[1])
"#;

/// Listens at each of the addresses given, and accepts a number of connections at each.
const SERVER: &str = r#"
import socket, sys
count, port, hosts = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
listeners = [socket.create_server((host, port), backlog=128) for host in hosts]
print('"listening"', flush=True)
for listener in listeners:
    for _ in range(count):
        connection, _ = listener.accept()
        # The client closes when this has come: before, accept() may not have returned, and whose it is not be known.
        connection.sendall(b"!")
        connection.recv(1)
        connection.close()
print('"done"', flush=True)
input()
"#;

/// Connects a number of times to a port of each of the addresses given, and closes.
const CLIENT: &str = r#"
import socket, sys
count, port, hosts = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
for host in hosts:
    for _ in range(count):
        connection = socket.create_connection((host, port))
        connection.recv(1)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
        connection.close()
print('"done"', flush=True)
input()
"#;

fn counts_are_the_ledgers(hook: Hook) {
    in_netns(|netns| {
        let mut stat = Stat::start(hook, &[]);
        let latency = Latency::start(hook, &[]);
        for workload in workload::all() {
            (workload.run)(netns);
        }
        bulk::connections(500);
        let cells = stat.final_cells();
        let measured = latency.finish();
        let ended = stat.finish();
        assert_eq!(
            total(ended.lines.iter().map(|line| &line.json)).equals(&cells),
            Ok(()),
            "nothing happened meanwhile"
        );
        assert_eq!(measured.equals(&cells), Ok(()));
        let accepted = measured.all("accept");
        assert!(
            accepted.count >= 500 && accepted.count <= cells.get(10, 3),
            "those of the bulk were accepted, and more than came can't be: {accepted:?}, {cells}"
        );
    });
}

fn a_handshake_whose_answer_was_not_heard(hook: Hook) {
    in_netns(|_| {
        let latency = Latency::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let client = socket(address(&listener));
        deafen(&client);
        start_connect(&client, address(&listener));
        until_in(3, address(&listener).port(), address(&client).port());
        // Not a wait for something to come true: as long as this the handshake takes at least.
        pass(Duration::from_millis(100));
        undeafen(&client);
        until_in(1, address(&client).port(), address(&listener).port());
        let server = accept(&listener);
        drop(client);
        read_eof(&server);
        drop(server);
        let measured = latency.finish();
        for what in ["handshake_client", "syn_sent"] {
            let histogram = measured.all(what);
            assert_eq!(histogram.counts(), (1, 0), "{what}");
            assert_eq!(histogram.may_reach(100_000_000), 1, "{what}: {histogram:?}");
        }
        // Which SYN-ACK was answered nobody knows.
        assert_eq!(measured.all("handshake_server").counts(), (0, 1));
        assert!(measured.sent_again("syn_ack") >= 1, "{measured:?}");
        assert_eq!(measured.all("accept").counts(), (1, 0));
    });
}

fn a_handshake_whose_syn_was_not_heard(hook: Hook) {
    in_netns(|_| {
        let latency = Latency::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        deafen(&listener);
        let client = socket(address(&listener));
        start_connect(&client, address(&listener));
        latency.until_sent_again("syn", 1);
        undeafen(&listener);
        until_in(1, address(&client).port(), address(&listener).port());
        let server = accept(&listener);
        let measured = latency.finish();
        let histogram = measured.all("handshake_client");
        assert_eq!(histogram.counts(), (1, 0));
        // A SYN is sent again after a second.
        assert_eq!(histogram.may_reach(1_000_000_000), 1, "{histogram:?}");
        assert_eq!(
            measured.all("handshake_server").counts(),
            (1, 0),
            "its SYN-ACK was sent once"
        );
        assert!(measured.sent_again("syn") >= 1, "{measured:?}");
        assert_eq!(measured.sent_again("syn_ack"), 0, "{measured:?}");
        drop((client, server));
    });
}

/// 50 ms there and 50 ms back, without an emulator of networks in the kernel.
fn a_handshake_over_a_slow_link(hook: Hook) {
    in_netns(|_| {
        let mut link = Python::start(SLOW_LINK, &[]);
        assert_eq!(link.line(0), "up");
        let (here, there) = (Ipv4Addr::new(10, 99, 0, 1), Ipv4Addr::new(10, 99, 0, 2));
        let latency = Latency::start(hook, &[]);
        let listener = listen(SocketAddr::new(IpAddr::V4(here), 8080), 8);
        for _ in 0..3 {
            let client = connect(SocketAddr::new(IpAddr::V4(there), 8080));
            let server = accept(&listener);
            drop(client);
            read_eof(&server);
        }
        let measured = latency.finish();
        for what in ["handshake_client", "handshake_server", "syn_sent"] {
            let histogram = measured.all(what);
            assert_eq!(histogram.counts(), (3, 0), "{what}");
            assert_eq!(histogram.may_reach(100_000_000), 3, "{what}: {histogram:?}");
        }
        // The server's handshake is over when its socket is born.
        assert_eq!(measured.all("syn_recv").counts(), (3, 0));
        assert_eq!(measured.sent_again("syn_ack"), 0);
    });
}

fn time_in_established_and_until_accepted(hook: Hook) {
    in_netns(|_| {
        let mut stat = Stat::start(hook, &[]);
        let latency = Latency::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let clients: Vec<_> = (0..5).map(|_| connect(address(&listener))).collect();
        // Not a wait for something to come true: as long as this they are open, and not accepted, at least.
        pass(WHILE);
        let servers: Vec<_> = clients.iter().map(|_| accept(&listener)).collect();
        for (client, server) in clients.into_iter().zip(servers) {
            drop(client);
            read_eof(&server);
        }
        stat.final_cells();
        let measured = latency.finish();
        stat.finish();
        for (what, count) in [("established", 10), ("accept", 5)] {
            let histogram = measured.all(what);
            assert_eq!(histogram.counts(), (count, 0), "{what}");
            assert_eq!(histogram.may_reach(WHILE_NS), count, "{what}: {histogram:?}");
        }
    });
}

fn what_began_before_is_unknown(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let open: Vec<Pair> = (0..4).map(|_| pair(&listener)).collect();
        let half = pair(&listener);
        send_fin(&half.client);
        read_eof(&half.server);
        until_state(&half.client, 5);
        let waits = connect(address(&listener));
        let mut stat = Stat::start(hook, &[]);
        let latency = Latency::start(hook, &[]);
        for Pair { client, server } in open {
            drop(client);
            read_eof(&server);
        }
        drop(half.server);
        read_eof(&half.client);
        drop(half.client);
        // One that was established before, and is accepted now.
        let server = accept(&listener);
        drop(waits);
        read_eof(&server);
        drop(server);
        stat.final_cells();
        let measured = latency.finish();
        stat.finish();
        let counts = |what: &str| measured.all(what).counts();
        assert_eq!(counts("established"), (0, 10), "five of either side, all opened before");
        assert_eq!(counts("fin_wait1"), (5, 0));
        assert_eq!(counts("fin_wait2"), (5, 1), "one of them was there before");
        assert_eq!(counts("close_wait"), (5, 1));
        assert_eq!(counts("last_ack"), (6, 0));
        assert_eq!(measured.all("accept").count, 0, "when it was established is not known");
    });
}

/// The key of the group of one process.
fn process(python: &Python) -> String {
    serde_json::json!({ "comm": python.comm(), "pid": python.pid() }).to_string()
}

/// Everything that was measured in groups was measured without.
fn sums_are_equal(groups: &latency::Measured, all: &latency::Measured) {
    for (what, ..) in groups.histograms.keys().chain(all.histograms.keys()) {
        assert_eq!(groups.all(what).counts(), all.all(what).counts(), "{what}");
    }
}

fn groups_by_process(hook: Hook) {
    in_netns(|_| {
        const COUNT: i64 = 20;
        let mut stat = Stat::start(hook, &[]);
        let ungrouped = Latency::start(hook, &[]);
        let latency = Latency::start(hook, &["--by", "process"]);
        let mut server = Python::start(SERVER, &["20", "8080", "127.0.0.1"]);
        assert_eq!(server.line(0), "listening");
        let mut client = Python::start(CLIENT, &["20", "8080", "127.0.0.1"]);
        assert_eq!(client.line(0), "done");
        assert_eq!(server.line(1), "done");
        let (client, server) = (process(&client), process(&server));
        stat.final_cells();
        let measured = latency.finish();
        let ungrouped = ungrouped.finish();
        stat.finish();
        let of = |what: &str, process: &str| measured.of_groups(what, |group| group == process).counts();
        for what in ["handshake_client", "syn_sent", "established", "fin_wait1", "fin_wait2"] {
            assert_eq!(of(what, &client), (COUNT, 0), "{what} of {client}: {measured:#?}");
        }
        for what in ["accept", "established", "close_wait", "last_ack"] {
            assert_eq!(of(what, &server), (COUNT, 0), "{what} of {server}: {measured:#?}");
        }
        assert_eq!(of("accept", &client), (0, 0));
        assert_eq!(of("handshake_client", &server), (0, 0));
        sums_are_equal(&measured, &ungrouped);
    });
}

fn groups_by_port_and_peer(hook: Hook) {
    in_netns(|_| {
        let mut stat = Stat::start(hook, &[]);
        let ungrouped = Latency::start(hook, &[]);
        let by_port = Latency::start(hook, &["--by", "lport"]);
        let by_peer = Latency::start(hook, &["--by", "remote"]);
        for (host, port, count) in [(1, 8080, 5), (2, 8081, 7)] {
            let listener = listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), port), 8);
            for _ in 0..count {
                let Pair { client, server } = pair(&listener);
                drop(client);
                read_eof(&server);
            }
        }
        stat.final_cells();
        let (by_port, by_peer, ungrouped) = (by_port.finish(), by_peer.finish(), ungrouped.finish());
        stat.finish();
        for (group, count) in [("8080", 5), ("8081", 7)] {
            for what in [
                "handshake_server",
                "accept",
                "syn_recv",
                "established",
                "close_wait",
                "last_ack",
            ] {
                let counts = by_port.of_groups(what, |of| of == group).counts();
                assert_eq!(counts, (count, 0), "{what} of port {group}: {by_port:#?}");
            }
        }
        // Clients have the other's address as their peer, servers the client's own, which is 127.0.0.1 for both.
        for (group, count) in [("\"127.0.0.1\"", 5), ("\"127.0.0.2\"", 7)] {
            for what in ["handshake_client", "syn_sent", "fin_wait1"] {
                let counts = by_peer.of_groups(what, |of| of == group).counts();
                assert_eq!(counts, (count, 0), "{what} with peer {group}: {by_peer:#?}");
            }
        }
        for what in ["handshake_server", "accept", "close_wait"] {
            let counts = by_peer.of_groups(what, |of| of == "\"127.0.0.1\"").counts();
            assert_eq!(counts, (12, 0), "{what} of those from 127.0.0.1: {by_peer:#?}");
        }
        sums_are_equal(&by_port, &ungrouped);
        sums_are_equal(&by_peer, &ungrouped);
    });
}

/// Connects to the given port, each time from another port, and waits before each close. Prints for each port how long the connection
/// was open, ns: the least and the most.
const EPHEMERAL: &str = r#"
import json, socket, sys, time
count, port, wait = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
listener = socket.create_server(("127.0.0.1", port), backlog=16)
took = {}
for _ in range(count):
    client = socket.socket()
    before = time.monotonic_ns()
    client.connect(("127.0.0.1", port))
    after = time.monotonic_ns()
    server, _ = listener.accept()
    time.sleep(wait)
    closing = time.monotonic_ns()
    name = client.getsockname()[1]
    client.shutdown(socket.SHUT_WR)
    closed = time.monotonic_ns()
    took[name] = [closing - after, closed - before]
    server.recv(1)
    server.close()
    client.recv(1)
    client.close()
print(json.dumps(took), flush=True)
input()
"#;

/// Each connection has a port of its own, and each port has a row with its time.
fn each_ephemeral_port_has_its_length(hook: Hook) {
    in_netns(|netns| {
        const COUNT: i64 = 300;
        // Or a port that has been in TIME_WAIT for a second may be taken again.
        netns.set("ipv4/tcp_tw_reuse", "0");
        let mut stat = Stat::start(hook, &[]);
        let latency = Latency::start(hook, &["--by", "lport"]);
        let mut python = Python::start(EPHEMERAL, &[&COUNT.to_string(), "8080", "0.005"]);
        let took = python.line(0);
        let cells = stat.final_cells();
        let measured = latency.finish();
        stat.finish();
        assert_eq!(measured.equals(&cells), Ok(()));
        assert_eq!(
            measured.of_groups("established", |group| group == "8080").counts(),
            (COUNT, 0)
        );
        let took = took.as_object().expect("ports");
        assert_eq!(i64::try_from(took.len()), Ok(COUNT));
        for (port, ends) in took {
            let end = |index: usize| ends[index].as_u64().expect("ns");
            let histogram = measured.of_groups("established", |group| group == port);
            assert_eq!(histogram.counts(), (1, 0), "{port}");
            assert!(
                histogram.is_within(end(0), end(1)),
                "{port}: {ends}, and not {histogram:?}"
            );
        }
    });
}

/// Watches this network namespace.
fn watch(hook: Hook, by: LatencyBy) -> Live {
    let options = Options {
        filter: Filter::default(),
        netns: NetnsSelector::Own,
        hook: Choice::Only(match hook {
            Hook::TpBtf => ebpf::Hook::TpBtf,
            Hook::Tracepoint => ebpf::Hook::Tracepoint,
        }),
        ring_bytes: 4096,
    };
    let needs = Needs {
        latency: Some(by),
        ..Needs::default()
    };
    Live::start(&options, needs, |_| ()).expect("the kernel side")
}

/// Lengths that were read.
#[derive(Default)]
struct Read {
    /// By what was measured, and whether they are among the others.
    lengths: BTreeMap<(Measure, bool), u64>,
    /// Runs that the kernel skipped so far. On the classic hook it skips all on a CPU where userspace is reading a map.
    missed: u64,
}

impl Read {
    /// Reads, and adds the counts.
    fn read(&mut self, live: &mut Live) {
        let mut add = |input| {
            let Input::Latency(sample) = input else { return };
            self.missed = sample.missed.unwrap_or(0);
            for Measured {
                measure,
                group,
                histogram,
                ..
            } in sample.measured
            {
                *self.lengths.entry((measure, group == LatencyGroup::Other)).or_default() += histogram.total();
            }
        };
        live.read_latency(&mut add).expect("a reading");
    }

    /// Of `what`, among the others or not.
    fn get(&self, what: Measure, other: bool) -> u64 {
        self.lengths.get(&(what, other)).copied().unwrap_or(0)
    }

    /// Checks that `count` is `expected`, or less by no more than the skipped runs.
    fn is(&self, count: u64, expected: u64, what: Measure) {
        let least = expected.saturating_sub(self.missed);
        assert!(
            (least..=expected).contains(&count),
            "{what:?}: {count} of {expected}, {} missed",
            self.missed
        );
    }

    /// Asserts that each of `connections` connections was measured once.
    fn is_of(&self, connections: i64) {
        let connections = u64::try_from(connections).expect("a count");
        for what in EACH_ONCE
            .into_iter()
            .chain([Measure::HandshakeServer, Measure::State(TcpState::LastAck)])
        {
            self.is(self.get(what, false) + self.get(what, true), connections, what);
        }
        let established = Measure::State(TcpState::Established);
        self.is(
            self.get(established, false) + self.get(established, true),
            2 * connections,
            established,
        );
    }
}

/// What is measured of each client, beside its time in ESTABLISHED.
const EACH_ONCE: [Measure; 4] = [
    Measure::HandshakeClient,
    Measure::State(TcpState::SynSent),
    Measure::State(TcpState::FinWait1),
    Measure::State(TcpState::FinWait2),
];

/// Connections from a port each, too many for the kernel's table: each has five times, and 131,072 fit.
const FLOOD: i64 = 36_000;
/// Enough ports that few are used twice.
const PORTS: (&str, &str) = ("ipv4/ip_local_port_range", "1024 65535");

fn what_finds_no_room_is_counted_with_the_others(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|netns| {
        netns.set(PORTS.0, PORTS.1);
        let mut live = watch(hook, LatencyBy::Lport);
        bulk::connections(FLOOD);
        live.detach().expect("the end");
        let mut read = Read::default();
        read.read(&mut live);
        read.is_of(FLOOD);
        let others: u64 = read
            .lengths
            .iter()
            .filter(|((_, other), _)| *other)
            .map(|(_, count)| count)
            .sum();
        assert!(others > 0, "there was room for all");
        for what in EACH_ONCE {
            assert!(read.get(what, false) > 0, "{what:?}: there was room for some");
        }
    });
}

/// A read removes the keys, so that as many find room again.
fn keys_that_were_read_make_room(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|netns| {
        netns.set(PORTS.0, PORTS.1);
        let mut live = watch(hook, LatencyBy::Lport);
        let mut read = Read::default();
        for _ in 0..4 {
            bulk::connections(FLOOD / 4);
            read.read(&mut live);
        }
        live.detach().expect("the end");
        read.read(&mut live);
        read.is_of(FLOOD);
        assert!(
            read.lengths.keys().all(|(_, other)| !other),
            "there was room for all: {:?}",
            read.lengths
        );
    });
}

fn readings_in_traffic_lose_nothing(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        for by in [LatencyBy::All, LatencyBy::Lport, LatencyBy::Owner(OwnerBy::Process)] {
            const COUNT: i64 = 4000;
            let mut live = watch(hook, by);
            let mut read = Read::default();
            let mut readings = 0;
            let is_over = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    bulk::connections(COUNT);
                    is_over.store(true, Ordering::SeqCst);
                });
                while !is_over.load(Ordering::SeqCst) {
                    read.read(&mut live);
                    readings += 1;
                }
            });
            live.detach().expect("the end");
            read.read(&mut live);
            read.is_of(COUNT);
            assert!(readings > 0, "{by:?}: nothing was read meanwhile");
        }
    });
}
