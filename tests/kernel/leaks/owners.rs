//! `leaks`: who holds stuck sockets, in which namespaces, and as whom.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process;
use std::time::Duration;

use rustix::mount::{MountFlags, mount, mount_bind};
use serde_json::Value;

use super::{CLOSE_WAIT, FIN_WAIT2, assert_owner};
use crate::support::clock::{pass, until};
use crate::support::holder::master;
use crate::support::leaking_server::Leaking;
use crate::support::netns::{Neighbour, in_netns};
use crate::support::peers::ss;
use crate::support::pidns::{PidNamespace, Proc};
use crate::support::proc_tcp::until_state;
use crate::support::program::Hook;
use crate::support::program::churn::number;
use crate::support::program::leaks::{Leaks, parse, scan};
use crate::support::program::run::{Unprivileged, binary, finish, tcpwatch};
use crate::support::python::Python;
use crate::support::sockets::{connect, listen, pair, send_fin, socket, start_connect};
use crate::support::{LOOPBACK, LOOPBACK_V6};

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
        pass(Duration::from_millis(300));
        let scan = scan(&["--older", "0.2", "--state", "close_wait"]);
        let found: Vec<_> = scan
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
        let group = leaks.until("it to be stuck", |scans| {
            let scan = scans.last().expect("a scan");
            let group = scan.group(process::id(), "syn_sent");
            group.cloned().ok_or(format!("{scan:?}"))
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
        pass(Duration::from_millis(300));
        let found = scan(&["--older", "0.2"]);
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
        let group = leaks.until("the three to be stuck", |scans| {
            let scan = scans.last().expect("a scan");
            let group = scan.group(program.pid(), "close_wait");
            let group = group.filter(|group| group["sockets"] == 3);
            group.cloned().ok_or(format!("{scan:?}"))
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
        pass(Duration::from_millis(300));
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
        pass(Duration::from_millis(300));
        let inside = PidNamespace::new();
        let ask = |args: &[&str]| {
            let mut command = inside.enter(Proc::Own, binary());
            finish(command.args(["leaks", "--older", "0.2"]).args(args))
        };
        let scan = parse(&ask(&["-o", "json"]).stdout);
        let [group] = scan.groups.as_slice() else {
            panic!("{scan:?}");
        };
        assert_eq!(
            (&group["sockets"], &group["owner"], &group["holders"]),
            (&1.into(), &Value::Null, &serde_json::json!([]))
        );
        assert_eq!(scan.all["unseen"]["sockets"], 1, "{scan:?}");
        let text = ask(&[]);
        assert!(text.stdout.contains("no visible process holds them"), "{text:?}");
        // Where it sees the /proc of those outside, it sees them.
        let mut command = inside.enter(Proc::Outer, binary());
        let scan = parse(&finish(command.args(["leaks", "--older", "0.2", "-o", "json"])).stdout);
        assert_owner(scan.group(program.pid(), "close_wait").expect("a group"), &program);
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
        pass(Duration::from_millis(300));
        let ask = || finish(&nobody.tcpwatch(&["leaks", "--older", "0.2", "-o", "json"]));
        let check = |hidden: bool| {
            let finished = ask();
            let scan = parse(&finished.stdout);
            let [group] = scan.groups.as_slice() else {
                panic!("{finished:?}");
            };
            assert_eq!(
                (&group["sockets"], &group["owner"], &group["fds"]),
                (&1.into(), &Value::Null, &serde_json::json!([]))
            );
            assert_eq!(scan.all["unseen"]["hidden"], hidden, "{scan:?}");
            scan
        };
        assert!(number(&check(false).all["unseen"], "processes") > 0);
        let text = finish(&nobody.tcpwatch(&["leaks", "--older", "0.2"]));
        assert!(text.stdout.contains("could not be read; try sudo"), "{text:?}");
        mount("proc", "/proc", "proc", MountFlags::empty(), Some(c"hidepid=2")).expect("mounting /proc");
        check(true);
    });
}
