//! `life` tells of each finished connection what its two ends did.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::{process, thread};

use jiff::Timestamp;
use rustix::process::Signal;
use socket2::Socket;

use crate::support::cgroup::Cgroup;
use crate::support::clock::{now, pass, until, wall};
use crate::support::holder::holder;
use crate::support::netns::{Netns, in_netns};
use crate::support::peers::tcplife::{Tcplife, kilobytes};
use crate::support::peers::{ss, tc};
use crate::support::program::lives::{Life, Lives};
use crate::support::program::trace::PROBED;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{
    Pair, accept, address, deafen, listen, pair, read_eof, reset, send_fin, socket, undeafen,
};
use crate::support::workload::bulk;
use crate::support::{LOOPBACK, LOOPBACK_V6, heavy};

on_both_hooks!(
    bytes_are_those_the_programs_counted,
    what_is_sent_again_counts_once,
    what_the_own_queue_refuses_counts_once,
    data_in_the_syn_counts,
    times_are_those_of_the_states,
    what_was_not_seen_to_open_has_no_lifetime,
    each_connection_is_told_once,
    a_stopped_reader_counts_what_it_lost,
    who_closes_is_told_and_can_be_asked_for,
    an_owner_nobody_saw_is_found_in_proc,
    agrees_with_tcplife,
);

/// What one end of a connection wrote and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Carried {
    sent: u64,
    received: u64,
}

/// The two ends of a connection, and what each wrote and read.
struct Exchanged {
    client: (SocketAddr, Carried),
    server: (SocketAddr, Carried),
    /// The keys of how it ended at the client, and at the server; of what is another kernel's to tell, nothing.
    ended: Option<[&'static str; 2]>,
}

const GRACEFUL: Option<[&str; 2]> = Some(["graceful_active", "graceful_passive"]);

/// One end of a connection, whose bytes are counted.
struct Counted {
    socket: Socket,
    carried: Carried,
}

impl Counted {
    fn of(socket: Socket) -> Self {
        Self {
            socket,
            carried: Carried::default(),
        }
    }

    /// Writes `chunks` times `size` bytes.
    fn write(&mut self, chunks: usize, size: usize) {
        for _ in 0..chunks {
            (&self.socket).write_all(&vec![b'x'; size]).expect("write");
            self.carried.sent += size as u64;
        }
    }

    /// Reads `size` bytes.
    fn read(&mut self, size: usize) {
        (&self.socket).read_exact(&mut vec![0; size]).expect("read");
        self.carried.received += size as u64;
    }
}

/// Opens a connection to `at`, has `does` use it, and tells what it carried. What remains open is closed in the orderly way,
/// the client first.
fn exchange(at: IpAddr, does: impl FnOnce(&mut Counted, &mut Counted)) -> Exchanged {
    let listener = listen(SocketAddr::new(at, 0), 8);
    let Pair { client, server } = pair(&listener);
    let ends = [address(&client), address(&server)];
    let (mut client, mut server) = (Counted::of(client), Counted::of(server));
    does(&mut client, &mut server);
    let carried = [client.carried, server.carried];
    end(&client.socket, &server.socket);
    Exchanged {
        client: (ends[0], carried[0]),
        server: (ends[1], carried[1]),
        ended: GRACEFUL,
    }
}

/// Ends in the orderly way, the client first. By `shutdown()`: what a test closes may be held for a moment more by a process that
/// another test is about to start.
fn end(client: &Socket, server: &Socket) {
    send_fin(client);
    read_eof(server);
    send_fin(server);
    read_eof(client);
}

/// As [`exchange`], but `does` ends it too.
fn cut(does: impl FnOnce(Counted, Counted) -> [Carried; 2]) -> Exchanged {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    let ends = [address(&client), address(&server)];
    let carried = does(Counted::of(client), Counted::of(server));
    Exchanged {
        client: (ends[0], carried[0]),
        server: (ends[1], carried[1]),
        ended: None,
    }
}

/// One end of a connection as it is told must be what it did.
fn compare(told: &Life, carried: Carried, name: &str) {
    let theirs = Carried {
        sent: told.number("bytes_sent"),
        received: told.number("bytes_received"),
    };
    assert_eq!(theirs, carried, "{name}: {}", told.0);
}

/// Waits for the two ends of each of `exchanges`, and compares.
fn compare_all(trace: Lives, exchanges: &[(&str, Exchanged)]) -> Vec<Life> {
    trace.until(2 * exchanges.len());
    let told = trace.finish();
    for (name, exchanged) in exchanges {
        let (client, server) = (exchanged.client, exchanged.server);
        let lives = [told.at(client.0, server.0), told.at(server.0, client.0)];
        compare(lives[0], client.1, name);
        compare(lives[1], server.1, name);
        assert_eq!(lives.map(|life| life.text("opened")), ["active", "passive"], "{name}");
        if let Some(ended) = exchanged.ended {
            assert_eq!(lives.map(|life| life.text("ended")), ended, "{name}");
        }
    }
    assert_eq!(told.lives.len(), 2 * exchanges.len(), "and no other: {:#?}", told.lives);
    told.lives
}

fn bytes_are_those_the_programs_counted(hook: Hook) {
    in_netns(|_| {
        let trace = Lives::start(hook, &[]);
        let chatter = |client: &mut Counted, server: &mut Counted| {
            for _ in 0..50 {
                client.write(3, 100);
                server.read(300);
                server.write(1, 517);
                client.read(517);
            }
        };
        let exchanges = [
            ("nothing", exchange(LOOPBACK, |_, _| ())),
            ("both ways", exchange(LOOPBACK, chatter)),
            ("both ways over IPv6", exchange(LOOPBACK_V6, chatter)),
            (
                "one byte",
                exchange(LOOPBACK, |client, server| {
                    client.write(1, 1);
                    server.read(1);
                }),
            ),
            (
                "data and FIN in one segment",
                exchange(LOOPBACK, |client, server| {
                    client.socket.set_tcp_cork(true).expect("TCP_CORK");
                    client.write(1, 300);
                    send_fin(&client.socket);
                    server.read(300);
                }),
            ),
            (
                "an answer after the FIN",
                exchange(LOOPBACK, |client, server| {
                    client.write(1, 10);
                    send_fin(&client.socket);
                    server.read(10);
                    read_eof(&server.socket);
                    server.write(4, 4000);
                    client.read(16_000);
                }),
            ),
            (
                "an urgent byte",
                exchange(LOOPBACK, |client, server| {
                    client.socket.send_out_of_band(b"!").expect("MSG_OOB");
                    client.carried.sent += 1;
                    until("the urgent byte", || {
                        server
                            .socket
                            .recv_out_of_band(&mut [std::mem::MaybeUninit::uninit()])
                            .is_ok()
                    });
                    server.carried.received += 1;
                }),
            ),
            (
                "reset by the client, all acknowledged",
                cut(|mut client, mut server| {
                    client.write(2, 1000);
                    server.read(2000);
                    server.write(1, 7);
                    client.read(7);
                    reset(client.socket);
                    [client.carried, server.carried]
                }),
            ),
            (
                "reset by the server after the client's FIN",
                cut(|mut client, mut server| {
                    client.write(1, 400);
                    send_fin(&client.socket);
                    server.read(400);
                    read_eof(&server.socket);
                    reset(server.socket);
                    [client.carried, server.carried]
                }),
            ),
            (
                "reset by the server with data unread",
                cut(|mut client, mut server| {
                    client.write(1, 400);
                    server.read(1);
                    // It came, whoever reads it.
                    server.carried.received = 400;
                    drop(server.socket);
                    [client.carried, server.carried]
                }),
            ),
        ];
        for told in compare_all(trace, &exchanges) {
            assert_eq!(told.number("retransmits"), 0, "nothing is lost on loopback: {}", told.0);
            assert!(told.number("srtt_us") > 0, "the handshake is measured: {}", told.0);
        }
    });
}

fn what_is_sent_again_counts_once(hook: Hook) {
    in_netns(|_| {
        let trace = Lives::start(hook, &[]);
        let deaf = exchange(LOOPBACK, |client, server| {
            deafen(&server.socket);
            client.write(5, 200);
            // The first is sent again when nothing comes back; the rest waits for it.
            until("a retransmission", || retransmissions() > 0);
            undeafen(&server.socket);
            server.read(1000);
        });
        let told = compare_all(trace, &[("a deaf server", deaf)]);
        let again: Vec<u64> = told.iter().map(|life| life.number("retransmits")).collect();
        assert!(
            again.iter().any(|&times| times > 0),
            "the client's were sent again: {told:#?}"
        );
    });
}

fn what_the_own_queue_refuses_counts_once(hook: Hook) {
    in_netns(|_| {
        tc::narrow_loopback();
        let trace = Lives::start(hook, &[]);
        let through = || {
            exchange(LOOPBACK, |client, server| {
                thread::scope(|scope| {
                    scope.spawn(|| client.write(1, 200_000));
                    server.read(200_000);
                });
            })
        };
        // Of several at once only one fits in.
        let exchanges = thread::scope(|scope| {
            let all = [0; 4].map(|_| scope.spawn(through));
            all.map(|one| ("a slow line", one.join().expect("an exchange")))
        });
        assert!(tc::refused() > 0, "the queue refused nothing");
        compare_all(trace, &exchanges);
    });
}

/// Segments sent again in this namespace.
fn retransmissions() -> i64 {
    crate::support::peers::snmp::read().get("Tcp:RetransSegs")
}

fn data_in_the_syn_counts(hook: Hook) {
    /// `TFO_CLIENT_ENABLE | TFO_SERVER_ENABLE | TFO_SERVER_WO_SOCKOPT1`: every listener takes Fast Open.
    const EVERYWHERE: &str = "1027";
    const MSG_FASTOPEN: i32 = 0x2000_0000;
    in_netns(|netns: &Netns| {
        netns.set("ipv4/tcp_fastopen", EVERYWHERE);
        let trace = Lives::start(hook, &[]);
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        // The first has no cookie yet, and sends its data after the handshake.
        let exchanges = ["without a cookie", "with a cookie"].map(|name| {
            let mut client = Counted::of(socket(address(&listener)));
            let hello = client
                .socket
                .send_to_with_flags(b"hello", &address(&listener).into(), MSG_FASTOPEN);
            client.carried.sent += hello.expect("MSG_FASTOPEN") as u64;
            let mut server = Counted::of(accept(&listener));
            server.read(5);
            server.write(1, 70);
            client.read(70);
            let ends = [address(&client.socket), address(&server.socket)];
            let exchanged = Exchanged {
                client: (ends[0], client.carried),
                server: (ends[1], server.carried),
                ended: GRACEFUL,
            };
            end(&client.socket, &server.socket);
            (name, exchanged)
        });
        assert!(
            crate::support::peers::snmp::read().get("TcpExt:TCPFastOpenPassive") > 0,
            "no data came in a SYN, so this proves nothing"
        );
        compare_all(trace, &exchanges);
    });
}

fn times_are_those_of_the_states(hook: Hook) {
    const ESTABLISHED: Duration = Duration::from_millis(50);
    const HALF_CLOSED: Duration = Duration::from_millis(70);
    in_netns(|_| {
        let trace = Lives::start(hook, &[]);
        let (start, wall_start) = (now(), wall());
        let exchanged = exchange(LOOPBACK, |client, server| {
            pass(ESTABLISHED);
            send_fin(&client.socket);
            read_eof(&server.socket);
            pass(HALF_CLOSED);
        });
        let most = u64::try_from(start.elapsed().as_nanos()).expect("less than 584 years");
        trace.until(2);
        let told = trace.finish();
        let (client, server) = (exchanged.client.0, exchanged.server.0);
        for (life, states, half_closed) in [
            (
                told.at(client, server),
                ["established", "fin_wait1", "fin_wait2", "syn_sent"],
                "fin_wait2",
            ),
            (
                told.at(server, client),
                ["close_wait", "established", "last_ack", "syn_recv"],
                "close_wait",
            ),
        ] {
            let spent = life.spent();
            assert!(spent.keys().eq(states.iter()), "those it was in: {spent:?}");
            assert!(u128::from(spent["established"]) >= ESTABLISHED.as_nanos(), "{spent:?}");
            // The FIN that ends it is acknowledged when it has come, and not before.
            assert!(
                u128::from(spent[half_closed]) >= HALF_CLOSED.as_nanos() - 1_000_000,
                "{spent:?}"
            );
            let lifetime = life.number("lifetime_ns");
            assert_eq!(lifetime, spent.values().sum::<u64>(), "{}", life.0);
            assert!(
                lifetime <= most,
                "it lived longer than the test took, {most} ns: {}",
                life.0
            );
            let (opened, ended) = (life.time("opened_at"), life.time("time"));
            let length = ended.duration_since(opened).as_nanos();
            assert_eq!(length, i128::from(lifetime), "{}", life.0);
            // The clock on the wall may be slewed meanwhile.
            let slack = jiff::SignedDuration::from_millis(2);
            let before = Timestamp::try_from(wall_start).expect("a time") - slack;
            let after = Timestamp::try_from(wall()).expect("a time") + slack;
            assert!(before <= opened && ended <= after, "{before} {after}: {}", life.0);
        }
    });
}

fn what_was_not_seen_to_open_has_no_lifetime(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let Pair { client, server } = pair(&listener);
        let ends = [address(&client), address(&server)];
        let (mut client, mut server) = (Counted::of(client), Counted::of(server));
        client.write(1, 1234);
        server.read(1234);
        let trace = Lives::start(hook, &[]);
        end(&client.socket, &server.socket);
        trace.until(2);
        let told = trace.finish();
        for (life, states, carried) in [
            (told.at(ends[0], ends[1]), ["fin_wait1", "fin_wait2"], client.carried),
            (told.at(ends[1], ends[0]), ["close_wait", "last_ack"], server.carried),
        ] {
            for unknown in ["opened", "opened_at", "lifetime_ns"] {
                assert!(life.is_null(unknown), "nobody saw {unknown}: {}", life.0);
            }
            assert!(
                life.spent().keys().eq(states.iter()),
                "ESTABLISHED began unseen: {}",
                life.0
            );
            compare(life, carried, "the socket counts from its start");
            assert_eq!(life.0["owner"]["pid"], process::id(), "who closes it: {}", life.0);
        }
    });
}

fn each_connection_is_told_once(hook: Hook) {
    in_netns(|_| {
        let trace = Lives::start(hook, &[]);
        bulk::connections(1_000);
        trace.until(2_000);
        let told = trace.finish();
        assert_eq!(told.lives.len(), 2_000, "and no listener: {}", told.end);
        assert_eq!((told.number("lost"), told.number("unmatched")), (0, 0), "{}", told.end);
        let ids: BTreeSet<&str> = told.lives.iter().map(|life| life.text("id")).collect();
        assert_eq!(ids.len(), 2_000, "each has an id of its own");
        let count = |key: &str, value: &str| told.lives.iter().filter(|life| life.text(key) == value).count();
        assert_eq!(
            [
                count("opened", "active"),
                count("opened", "passive"),
                count("ended", "graceful_passive")
            ],
            [1_000; 3],
            "one at either end of each"
        );
        for life in &told.lives {
            assert_eq!(life.0["owner"]["pid"], process::id(), "{}", life.0);
        }
    });
}

fn a_stopped_reader_counts_what_it_lost(hook: Hook) {
    let _turn = heavy::turn();
    in_netns(|_| {
        let trace = Lives::start(hook, &["--ring-size", "64K"]);
        all_closed();
        trace.running().signal(Signal::STOP);
        bulk::connections(1_000);
        all_closed();
        trace.running().signal(Signal::CONT);
        // The reader must be back at work: what is in the ring by now is printed.
        trace.until(1);
        // That it all adds up is for finish() to say.
        let told = trace.finish();
        // What probed came first, and was printed.
        let probes = told.number("printed") - told.lives.len() as u64;
        assert_eq!(told.number("seen"), probes + 2_000, "{}", told.end);
        assert!(told.number("lost") > 0, "2,000 records fit into 64 KiB? {}", told.end);
    });
}

/// Waits until no connection is open: on a busy machine the last packets of one come some time after the calls that sent them.
fn all_closed() {
    until("every connection to be closed", || {
        let counts = ss::counts();
        counts.iter().all(|(&state, &count)| count == 0 || state == "time_wait")
    });
}

fn who_closes_is_told_and_can_be_asked_for(hook: Hook) {
    const WORKER: &str = "lives-worker";
    /// Accepts at `at`, and has another process close; the number of that process.
    fn handed_over(at: IpAddr) -> u32 {
        let listener = listen(SocketAddr::new(at, 0), 8);
        let Pair { client, server } = pair(&listener);
        let worker = holder(WORKER, server);
        until("the worker to have its name", || {
            std::fs::read_to_string(format!("/proc/{}/comm", worker.pid())).is_ok_and(|comm| comm.trim() == WORKER)
        });
        // A process that another test is about to start may have a copy for a moment.
        until("the worker alone to have it", || {
            ss::holders().contains(&vec![worker.pid()])
        });
        let pid = worker.pid();
        // It closes what it holds as it dies.
        drop(worker);
        read_eof(&client);
        pid
    }
    in_netns(|_| {
        let probe = || {
            handed_over(IpAddr::V4(PROBED));
        };
        let by_name = Lives::probed_by(hook, &["--comm", WORKER], probe);
        let all = Lives::start(hook, &[]);
        let pid = handed_over(LOOPBACK);
        all.until(2);
        by_name.until(1);
        let closed_by = serde_json::json!({"pid": pid, "comm": WORKER, "how": "close"});
        let all = all.finish();
        let server: Vec<&Life> = all
            .lives
            .iter()
            .filter(|life| life.text("opened") == "passive")
            .collect();
        assert_eq!(server.len(), 1, "{:#?}", all.lives);
        assert_eq!(server[0].0["closed_by"], closed_by, "{}", server[0].0);
        assert_eq!(
            server[0].0["owner"]["pid"],
            process::id(),
            "who accepted: {}",
            server[0].0
        );
        assert_eq!(server[0].0["owner"]["how"], "accept", "{}", server[0].0);
        let by_name = by_name.finish();
        // The worker is born with a copy of the client, and may close that too.
        let servers = by_name.lives.iter().filter(|life| life.text("opened") == "passive");
        let [one] = *servers.collect::<Vec<_>>() else {
            panic!("one connection was closed by {WORKER}: {:#?}", by_name.lives);
        };
        assert_eq!(one.0["closed_by"], closed_by, "{}", one.0);
        assert!(
            by_name.number("unmatched") > 0,
            "the clients are no worker's: {}",
            by_name.end
        );
    });
}

fn an_owner_nobody_saw_is_found_in_proc(hook: Hook) {
    in_netns(|_| {
        let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
        let Pair { client, server } = pair(&listener);
        let ends = [address(&client), address(&server)];
        let worker = holder("lives-holder", server);
        let id = format!("{:064x}", worker.pid());
        let cgroup = Cgroup::new(&format!("docker-{id}.scope"));
        cgroup.take(worker.pid());
        let trace = Lives::start(hook, &[]);
        // A reset has no process that closes, nor has its receipt.
        reset(client);
        trace.until(2);
        let told = trace.finish();
        for (life, pid) in [
            (told.at(ends[0], ends[1]), process::id()),
            (told.at(ends[1], ends[0]), worker.pid()),
        ] {
            let owner = &life.0["owner"];
            assert_eq!(
                (&owner["pid"], &owner["how"]),
                (&pid.into(), &"scan".into()),
                "{}",
                life.0
            );
            assert!(life.is_null("closed_by"), "{}", life.0);
        }
        let [ours, its] = [(0, 1), (1, 0)].map(|(local, remote)| told.at(ends[local], ends[remote]));
        assert_eq!((its.text("cgroup"), its.text("container")), (&*cgroup.path(), &*id));
        assert!(its.is_null("pod") && ours.is_null("container"), "{} {}", its.0, ours.0);
        drop(worker);
    });
}

/// tcplife prints `bytes_acked` as sent, which counts a SYN (of the side that connects) and a FIN once they are acknowledged,
/// and `bytes_received` as received, which counts the peer's FIN (RFC 9293, section 3.4, numbers them as data). We count
/// neither. The amounts here are such that a byte more shows in its two decimals of 1024 bytes.
fn agrees_with_tcplife(hook: Hook) {
    const PLACE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 1, 1));
    in_netns(|_| {
        let tcplife = Tcplife::start();
        let trace = Lives::start(hook, &[]);
        let talk = |client: &mut Counted, server: &mut Counted| {
            client.write(1, 1028);
            server.read(1028);
            server.write(3, 343);
            client.read(1029);
        };
        // A SYN and a FIN more, and a FIN more.
        let graceful = [PLACE, LOOPBACK_V6].map(|at| (exchange(at, talk), [(2, 1), (1, 1)]));
        let reset = cut(|mut client, mut server| {
            client.write(1, 1029);
            server.read(1029);
            server.write(1, 1030);
            client.read(1030);
            reset(server.socket);
            [client.carried, server.carried]
        });
        let exchanges: Vec<_> = graceful.into_iter().chain([(reset, [(1, 0), (0, 0)])]).collect();
        trace.until(6);
        let told = trace.finish();
        for (Exchanged { client, server, .. }, [of_client, of_server]) in exchanges {
            for (local, remote, carried, more) in [
                (client.0, server.0, client.1, of_client),
                (server.0, client.0, server.1, of_server),
            ] {
                let (ours, theirs) = (told.at(local, remote), tcplife.at(local, remote));
                compare(ours, carried, "what was written and read");
                let sent = ours.number("bytes_sent") + more.0;
                let received = ours.number("bytes_received") + more.1;
                assert_eq!(
                    theirs,
                    (kilobytes(sent), kilobytes(received)),
                    "tcplife counts a SYN or FIN as a byte: {}",
                    ours.0
                );
            }
        }
        assert_ne!(kilobytes(1028), kilobytes(1028 + 2), "a byte more shows");
        assert_ne!(kilobytes(1029), kilobytes(1029 + 1), "a byte more shows");
    });
}
