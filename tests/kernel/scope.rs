//! The default view is this network namespace and TCP; others are seen when asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::support::cells::Cells;
use crate::support::netns::{Neighbour, Netns, in_netns};
use crate::support::peers::bpftrace::Observer;
use crate::support::peers::{run, ss};
use crate::support::program::churn::Churn;
use crate::support::program::event::lives;
use crate::support::program::latency::Latency;
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::snapshot::{snapshot, states};
use crate::support::program::stat::Stat;
use crate::support::program::trace::{Probe, Trace, connect_and_close};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::sockets::{Pair, listen, pair};
use crate::support::states::{add, equal};
use crate::support::{LOOPBACK, not_run, workload};

on_both_hooks!(
    stat_of_namespaces,
    trace_of_namespaces,
    a_watched_namespace_keeps_its_number,
    churn_of_namespaces,
    latency_of_namespaces,
    mptcp_is_not_tcp
);

/// A port that no other test uses, nor another run of this suite, and that no kernel chooses: `--netns all` sees the namespaces of all
/// that runs beside this test. The kernel gives no two namespaces the same number at a time.
fn port_of_its_own(netns: &Netns) -> u16 {
    u16::try_from(10_000 + netns.inum % 20_000).expect("a port")
}

/// `n` connections to `port`, in the calling thread's namespace, which stay.
fn open(port: u16, n: usize) -> (socket2::Socket, Vec<Pair>) {
    let listener = listen(SocketAddr::new(LOOPBACK, port), 8);
    let pairs = (0..n).map(|_| pair(&listener)).collect();
    (listener, pairs)
}

/// What `n` connections and their listener cause, from nothing to established.
fn opening(n: i64) -> Cells {
    Cells::of("7>2 2>1 10>3 3>1").times(n).and(&Cells::of("7>10"))
}

fn stat_of_namespaces(hook: Hook) {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        let pid = neighbour.pid().to_string();
        let path = format!("/proc/{pid}/ns/net");
        let number = port_of_its_own(netns);
        let port = number.to_string();
        let mut own = Stat::start(hook, &[]);
        let mut by_pid = Stat::start(hook, &["--netns", &pid]);
        let mut by_path = Stat::start(hook, &["--netns", &path]);
        let mut all = Stat::start(hook, &["--netns", "all", "--port", &port]);
        let here = open(number, 2);
        let there = neighbour.run(|_| open(number, 5));
        let both = opening(2).and(&opening(5));
        let none = Cells::default();
        assert_eq!(
            own.reaches(&none, &opening(2)),
            Ok(()),
            "the default is the own namespace"
        );
        assert_eq!(
            by_pid.reaches(&none, &opening(5)),
            Ok(()),
            "--netns PID is that one alone"
        );
        assert_eq!(
            by_path.reaches(&none, &opening(5)),
            Ok(()),
            "--netns PATH is that one alone"
        );
        assert_eq!(all.reaches(&none, &both), Ok(()), "--netns all is both");
        own.agrees("the own connections to be those of ss here", ss::counts);
        by_pid.agrees("the neighbour's to be those of ss there", || {
            neighbour.run(|_| ss::counts())
        });
        by_path.agrees("the neighbour's to be those of ss there", || {
            neighbour.run(|_| ss::counts())
        });
        all.agrees("all to be the sum", || {
            let mut sum = ss::counts();
            add(&mut sum, &neighbour.run(|_| ss::counts()));
            sum
        });
        for stat in [own, by_pid, by_path, all] {
            stat.finish();
        }
        drop((here, there));
    });
}

/// Connections to one address and port in two namespaces are not told as one.
fn churn_of_namespaces(hook: Hook) {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        let there = neighbour.run(|netns| netns.inum);
        let number = port_of_its_own(netns);
        let port = number.to_string();
        let args = ["churn", "0.5", "--netns", "all", "--port", &port, "--hook", hook.name()];
        let churn = Churn::of(Running::start(&args));
        drop((open(number, 2), neighbour.run(|_| open(number, 5))));
        churn.until("the connections of both", |rows| {
            let destinations = rows
                .iter()
                .flat_map(|row| row["owners"].as_array().cloned().unwrap_or_default())
                .flat_map(|owner| owner["destinations"].as_array().cloned().unwrap_or_default());
            let mut opened = BTreeMap::new();
            for destination in destinations {
                *opened.entry(destination["netns"].as_u64()).or_insert(0) +=
                    destination["opened"].as_i64().unwrap_or(0);
            }
            let both = BTreeMap::from([(Some(netns.inum), 2), (Some(there), 5)]);
            // The clients close first.
            let waits = ["peer", "lport"].map(|by| {
                let mut sums = BTreeMap::new();
                for one in rows
                    .iter()
                    .filter_map(|row| row["time_wait_by"][by].as_array())
                    .flatten()
                {
                    *sums.entry(one["netns"].as_u64()).or_insert(0) += one["time_wait"].as_i64().unwrap_or(0);
                }
                sums
            });
            let peers = rows.iter().filter_map(|row| row["peers"].as_array()).flatten();
            let peers: BTreeSet<Option<u64>> = peers.map(|peer| peer["netns"].as_u64()).collect();
            if opened == both && waits.iter().all(|waits| *waits == both) && peers.iter().eq(both.keys()) {
                return Ok(());
            }
            Err(format!("{opened:?} {waits:?} {peers:?}"))
        });
        churn.finish();
    });
}

/// Connections of one port, or with one peer, in two namespaces are two groups.
fn latency_of_namespaces(hook: Hook) {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        let there = neighbour.run(|netns| netns.inum);
        let number = port_of_its_own(netns);
        let port = number.to_string();
        for (by, group) in [("lport", port.clone()), ("remote", format!("\"{LOOPBACK}\""))] {
            let latency = Latency::start(hook, &["--netns", "all", "--port", &port, "--by", by]);
            drop((open(number, 2), neighbour.run(|_| open(number, 5))));
            let measured = latency.finish();
            let handshakes: BTreeMap<Option<u64>, i64> = measured
                .histograms
                .iter()
                .filter(|((what, of, _), _)| what == "syn_recv" && *of == group)
                .map(|((.., netns), histogram)| (*netns, histogram.count))
                .collect();
            let wanted = BTreeMap::from([(Some(netns.inum), 2), (Some(there), 5)]);
            assert_eq!(handshakes, wanted, "--by {by}: {measured:?}");
        }
    });
}

#[test]
fn snapshot_of_namespaces() {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        let pid = neighbour.pid().to_string();
        let number = port_of_its_own(netns);
        let here = open(number, 2);
        let there = neighbour.run(|_| open(number, 5));
        let mut sum = ss::counts();
        add(&mut sum, &neighbour.run(|_| ss::counts()));
        for source in ["auto", "sock_diag", "proc"] {
            let own = snapshot(&["--source", source]);
            assert_eq!(equal(&states(&own), &ss::counts()), Ok(()), "--source {source}: {own}");
            assert_eq!(own["netns"].as_u64(), Some(netns.inum), "--source {source}: {own}");
            let by_pid = snapshot(&["--source", source, "--netns", &pid]);
            assert_eq!(
                equal(&states(&by_pid), &neighbour.run(|_| ss::counts())),
                Ok(()),
                "{source}: {by_pid}"
            );
            assert_eq!(
                by_pid["netns"].as_u64(),
                Some(neighbour.inum),
                "--source {source}: {by_pid}"
            );
            let all = snapshot(&["--source", source, "--netns", "all", "--port", &number.to_string()]);
            assert_eq!(equal(&states(&all), &sum), Ok(()), "--source {source}: {all}");
            assert!(all["netns"].is_null(), "--source {source}: {all}");
        }
        let iter = snapshot(&["--source", "iter", "--netns", &pid]);
        assert_eq!(
            equal(&states(&iter), &neighbour.run(|_| ss::counts())),
            Ok(()),
            "--source iter: {iter}"
        );
        drop((here, there));
    });
}

/// A namespace is found by the name that `ip netns` gave it.
#[test]
fn a_namespace_by_its_name() {
    in_netns(|_| {
        // The host has none of these files.
        mount("none", "/run", "tmpfs", MountFlags::empty(), None).expect("a directory of the test's own");
        run("ip", &["netns", "add", "web"]);
        let inode = fs::metadata("/run/netns/web").expect("its file").ino();
        assert_eq!(snapshot(&["--netns", "web"])["netns"].as_u64(), Some(inode));
        run("ip", &["netns", "delete", "web"]);
        finish(&tcpwatch(&["snapshot", "--netns", "web"])).refuses(1, "no such file; try --netns");
        unmount("/run", UnmountFlags::DETACH).expect("nobody uses it");
    });
}

/// Text has the name of a namespace, machines its number.
#[test]
fn namespaces_have_names() {
    in_netns(|netns| {
        mount("none", "/run", "tmpfs", MountFlags::empty(), None).expect("a directory of the test's own");
        let neighbour = Neighbour::new();
        let pid = neighbour.pid().to_string();
        let port = port_of_its_own(netns).to_string();
        let there = neighbour.run(|_| listen(SocketAddr::new(LOOPBACK, port_of_its_own(netns)), 8));
        let shown = |args: &[&str]| {
            let select = ["snapshot", "--netns", "all", "-L", &port];
            finish(&tcpwatch(&[&select, args].concat())).stdout
        };
        run("ip", &["netns", "attach", "shop", &pid]);
        for args in [&["--by", "netns"][..], &["--list"]] {
            let text = shown(args);
            assert!(
                text.contains("shop") && !text.contains(&neighbour.inum.to_string()),
                "{text}"
            );
            let json = shown(&[args, &["-o", "json"]].concat());
            assert!(
                !json.contains("shop") && json.contains(&neighbour.inum.to_string()),
                "{json}"
            );
        }
        run("ip", &["netns", "delete", "shop"]);
        // Where the tests run in a container, that is its name.
        let text = shown(&["--by", "netns"]);
        let is_named = text.contains(&format!("cat[{pid}]")) || text.contains(':');
        assert!(is_named && !text.contains("shop"), "{text}");
        unmount("/run", UnmountFlags::DETACH).expect("nobody uses it");
        drop(there);
    });
}

fn trace_of_namespaces(hook: Hook) {
    in_netns(|netns| {
        let neighbour = Neighbour::new();
        let pid = neighbour.pid().to_string();
        let number = port_of_its_own(netns);
        let port = number.to_string();
        let probe_there = || neighbour.run(|_| connect_and_close(Probe::ANY));
        let own = Trace::start(hook, &[]);
        let by_pid = Trace::probed_by(hook, &["--netns", &pid], probe_there);
        let all = Trace::probed(
            hook,
            &["--netns", "all", "--port", &port],
            Probe {
                port: number,
                ipv6: false,
            },
        );
        drop(open(number, 1));
        neighbour.run(|_| drop(open(number, 2)));
        for (trace, inodes, connections) in [
            (own, vec![netns.inum], 1),
            (by_pid, vec![neighbour.inum], 2),
            (all, vec![netns.inum, neighbour.inum], 3),
        ] {
            let listeners = inodes.len();
            let transitions = 2 * listeners + 10 * connections;
            trace.until_events(transitions);
            let events = trace.finish().events;
            let mut seen: Vec<u64> = events.iter().filter_map(|event| event.netns).collect();
            seen.sort_unstable();
            seen.dedup();
            let mut wanted = inodes;
            wanted.sort_unstable();
            assert_eq!(seen, wanted, "{events:#?}");
            assert_eq!(
                (events.len(), lives(&events).len()),
                (transitions, listeners + 2 * connections),
                "{events:#?}"
            );
        }
    });
}

/// tcpwatch identifies a namespace by its inode number. The kernel reuses that number when no process has the namespace open.
fn a_watched_namespace_keeps_its_number(hook: Hook) {
    in_netns(|_| {
        let neighbour = Neighbour::new();
        let pid = neighbour.pid().to_string();
        let probe_there = || neighbour.run(|_| connect_and_close(Probe::ANY));
        let trace = Trace::probed_by(hook, &["--netns", &pid], probe_there);
        let open = fs::read_dir(format!("/proc/{}/fd", trace.running().pid())).expect("descriptors");
        let open: Vec<_> = open.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
        let namespace = PathBuf::from(format!("net:[{}]", neighbour.inum));
        assert!(open.contains(&namespace), "{} is none of {open:?}", namespace.display());
        trace.finish();
    });
}

/// The subflows of MPTCP are TCP, its connections (protocol 262) are not, though they pass the same tracepoint.
fn mptcp_is_not_tcp(hook: Hook) {
    in_netns(|netns| {
        if let Err(why) = workload::mptcp::available() {
            return not_run(&format!("this kernel has no MPTCP ({why})"));
        }
        let observer = Observer::start(netns);
        let mut stat = Stat::start(hook, &[]);
        let sockets = workload::mptcp::open(netns);
        stat.agrees("connections to be those of ss", ss::counts);
        let counted = snapshot(&[]);
        assert_eq!(equal(&states(&counted), &ss::counts()), Ok(()), "{counted}");
        workload::mptcp::close(sockets);
        let truth = observer.final_cells();
        assert!(
            observer.mptcp_cells().total() > 0,
            "MPTCP's own sockets made no transition, so this proves nothing"
        );
        assert_eq!(stat.reaches(&Cells::default(), &truth), Ok(()));
        stat.finish();
    });
}
