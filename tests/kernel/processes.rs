//! `snapshot --by process` and its filters say of real processes what `ss -tanp` does.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use socket2::Socket;

use crate::support::LOOPBACK;
use crate::support::cgroup::Cgroup;
use crate::support::child::Reaped;
use crate::support::clock::eventually;
use crate::support::holder::{holder, master, start};
use crate::support::netns::in_netns;
use crate::support::peers::ss;
use crate::support::program::run::{Unprivileged, finish, tcpwatch};
use crate::support::program::snapshot::{parse, snapshot};
use crate::support::sockets::{address, connect, listen, pair, read_eof};

/// A name with all that could break a line, a parser or a terminal.
const EVIL: &str = "a) (b\n\x1b[2J'\"";

/// How many connections each process has, `None` for those whose process is not known.
type ByPid = BTreeMap<Option<u64>, i64>;

fn listener() -> Socket {
    listen(SocketAddr::new(LOOPBACK, 0), 8)
}

/// The groups of a snapshot by process.
fn by_pid(snapshot: &Value) -> ByPid {
    let groups = snapshot["groups"].as_array().expect("groups");
    let group = |group: &Value| {
        let total = group["total"].as_i64().expect("a total");
        (group["key"]["process"]["pid"].as_u64(), total)
    };
    groups.iter().map(group).collect()
}

/// The same by `ss`, of whose processes `named` are those to name where there are more.
fn by_ss(named: &[u32]) -> ByPid {
    let mut counts = ByPid::new();
    for pids in ss::holders() {
        let pid = match pids.as_slice() {
            [one] => Some(*one),
            more => more.iter().copied().find(|pid| named.contains(pid)),
        };
        *counts.entry(pid.map(u64::from)).or_default() += 1;
    }
    counts
}

#[test]
fn owners_are_those_of_ss() {
    in_netns(|_| {
        let (first, second, third) = (listener(), listener(), listener());
        let at = address(&first);
        let (one, two) = (pair(&first), pair(&first));
        // Closed at both ends, and not accepted by anybody.
        let closed = pair(&first);
        drop(closed.client);
        read_eof(&closed.server);
        drop(closed.server);
        let waiting = connect(at);
        let evil = holder(EVIL, one.client);
        let server = holder("server", one.server);
        let brother = holder("brother", two.client.try_clone().expect("dup"));
        let sister = holder("sister", two.client);
        let (boss, workers) = master(second);
        let _lone = holder("lone", third);
        for source in ["auto", "sock_diag", "proc"] {
            let ours = eventually("the owners that ss sees", || {
                let ours = snapshot(&["--by", "process", "--source", source]);
                let (groups, theirs) = (by_pid(&ours), by_ss(&[boss.pid()]));
                if groups == theirs {
                    Ok(ours)
                } else {
                    Err(format!("--source {source}: {groups:?} against {theirs:?}"))
                }
            });
            let groups = by_pid(&ours);
            for pid in [evil.pid(), server.pid(), boss.pid()] {
                assert_eq!(groups.get(&Some(pid.into())), Some(&1), "{ours}");
            }
            // The one that nobody accepted, the one that is shared, and one that waits for its time to be over.
            assert_eq!(groups.get(&None), Some(&3), "{ours}");
            let evil = group(&ours, evil.pid());
            assert_eq!((&evil["comm"], &evil["how"]), (&EVIL.into(), &"scan".into()));
            assert_eq!(group(&ours, boss.pid())["comm"], "sh");
        }
        let count = |args: &[&str]| count(&tcpwatch(&[&["snapshot", "--count"], args].concat()));
        let text = |reaped: &Reaped| reaped.pid().to_string();
        assert_eq!(count(&["--pid", &text(&evil)]), 1);
        assert_eq!(count(&["--pid", &format!("{},{}", evil.pid(), server.pid())]), 2);
        assert_eq!(
            count(&["-p", &text(&brother), "-p", &text(&sister)]),
            1,
            "one socket of two"
        );
        let neither = tcpwatch(&["snapshot", "--count", "--comm", "brother", "--pid", &text(&sister)]);
        finish(&neither).refuses(1, "no process matches");
        assert_eq!(count(&["--comm", EVIL]), 1);
        for worker in &workers {
            assert_eq!(count(&["--pid", &worker.to_string()]), 1, "what its master listens at");
        }
        assert_eq!(count(&["--comm", "cat"]), 1, "the workers share one listener");
        drop(waiting);
    });
}

#[test]
fn no_name_steers_a_terminal() {
    in_netns(|_| {
        let evil = holder(EVIL, listener());
        for form in ["text", "csv"] {
            let finished = finish(&tcpwatch(&["snapshot", "--by", "process", "-o", form, "--comm", EVIL]));
            assert_eq!(finished.code, Some(0), "{finished:?}");
            let name = format!(r#"a) (b\n\u{{1b}}[2J'"[{}]"#, evil.pid());
            let name = if form == "csv" { name.replace('"', "\"\"") } else { name };
            assert!(finished.stdout.contains(&name), "{name} is not in {finished:?}");
            assert!(!finished.stdout.contains('\x1b'), "{finished:?}");
            assert!(finished.stdout.lines().count() <= 3, "{finished:?}");
        }
    });
}

#[test]
fn a_cgroup_and_its_container() {
    in_netns(|_| {
        let id = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let cgroup = Cgroup::new(&format!("docker-{id}.scope"));
        let path = cgroup.path();
        let inside = holder("inside", listener());
        cgroup.take(inside.pid());
        let outside = [holder("outside", listener()), holder("outside", listener())];
        let found = snapshot(&["--by", "cgroup"]);
        let of = |path: &str| {
            found["groups"].as_array().and_then(|groups| {
                let group = groups.iter().find(|group| group["key"]["cgroup"] == path)?;
                group["total"].as_i64()
            })
        };
        assert_eq!(of(&path), Some(1), "{found}");
        let containers: Vec<_> = found["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|group| group["container"].as_str())
            .collect();
        assert!(containers.contains(&Some(id)) && containers.contains(&None), "{found}");
        let text = finish(&tcpwatch(&["snapshot", "--by", "cgroup"])).stdout;
        assert!(text.contains("docker:0a1b2c3d4e5f") && !text.contains(id), "{text}");
        assert_eq!(found["groups"].as_array().map(Vec::len), Some(2), "{found}");
        for asked in [path.as_str(), id, &id[..12], "docker-"] {
            assert_eq!(
                count(&tcpwatch(&["snapshot", "--count", "--cgroup", asked])),
                1,
                "{asked}"
            );
        }
        finish(&tcpwatch(&["snapshot", "--count", "--cgroup", "/nowhere"]))
            .refuses(1, "no process matches --cgroup /nowhere");
        drop((inside, outside));
    });
}

/// A pod is known by the folder of its logs.
#[test]
fn a_pod_and_its_name() {
    const UID: &str = "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d";
    in_netns(|_| {
        let id = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
        let slice = format!("kubepods-burstable-pod{}.slice", UID.replace('-', "_"));
        let cgroup = Cgroup::new(&format!("{slice}:cri-containerd:{id}"));
        let inside = holder("inside", listener());
        cgroup.take(inside.pid());
        let outside = holder("outside", listener());
        let groups = |by: &str| {
            let found = snapshot(&["--by", by]);
            let groups = found["groups"].as_array().cloned().unwrap_or_default();
            let keys = groups.iter().map(|group| group["key"][by].as_str().map(str::to_owned));
            let mut keys: Vec<_> = keys.collect();
            keys.sort();
            keys
        };
        let of = |keys: [&str; 2]| keys.map(|key| Some(key.to_owned())).to_vec();
        assert_eq!(groups("pod"), of(["", UID]), "nobody knows its name");
        mount("none", "/var/log", "tmpfs", MountFlags::empty(), None).expect("a directory of the test's own");
        fs::create_dir_all(format!("/var/log/pods/shop_cart-0_{UID}")).expect("the folder of its logs");
        assert_eq!(groups("pod"), of(["", "shop/cart-0"]));
        assert_eq!(groups("container"), of(["", id]));
        assert_eq!(groups("comm"), of(["inside", "outside"]));
        for (option, asked) in [
            ("--pod", "shop/cart-0"),
            ("--pod", "cart-0"),
            ("--pod", UID),
            ("--container", id),
            ("--container", &id[..12]),
        ] {
            let listed = finish(&tcpwatch(&["snapshot", "--list", option, asked, "-o", "json"])).stdout;
            let sockets = listed
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
            let pods: Vec<_> = sockets
                .filter_map(|socket| Some(socket.get("pod_name")?.clone()))
                .collect();
            assert_eq!(pods, ["shop/cart-0"], "{option} {asked}: {listed}");
        }
        let text = finish(&tcpwatch(&["snapshot", "--list"])).stdout;
        assert!(text.contains(" shop/cart-0") && !text.contains("containerd"), "{text}");
        finish(&tcpwatch(&["snapshot", "--count", "--pod", "nowhere"]))
            .refuses(1, "no process matches --pod nowhere; try tcpwatch snapshot --by pod");
        unmount("/var/log", UnmountFlags::DETACH).expect("nobody uses it");
        drop((inside, outside));
    });
}

/// An owner that cannot be seen is `?`, and the last line says what to type.
#[test]
fn owners_of_others_are_unknown_to_a_user() {
    in_netns(|_| {
        let nobody = Unprivileged::new();
        let others = holder("others", listener());
        let own = ["--reuid=65534", "--regid=65534", "--clear-groups", "cat"];
        let own = start(Command::new("setpriv").args(own), listener());
        eventually("setpriv to become cat", || {
            match std::fs::read_to_string(format!("/proc/{}/comm", own.pid())) {
                Ok(comm) if comm == "cat\n" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let ask = |args: &[&str]| finish(&nobody.tcpwatch(&[&["snapshot", "--by", "process"], args].concat()));
        let json = parse(&nobody.tcpwatch(&["snapshot", "--by", "process", "-o", "json"]));
        assert_eq!(
            by_pid(&json),
            ByPid::from([(None, 1), (Some(own.pid().into()), 1)]),
            "{json}"
        );
        let unseen = &json["unseen"];
        assert_eq!(
            (&unseen["sockets"], &unseen["hidden"]),
            (&1.into(), &false.into()),
            "{json}"
        );
        assert!(unseen["processes"].as_u64() > Some(0), "{json}");
        let text = ask(&[]);
        let last = text.stdout.lines().last().unwrap_or_default();
        assert!(last.contains("could not be read") && last.ends_with("sudo"), "{text:?}");
        assert_eq!((text.code, text.stderr.as_str()), (Some(0), ""), "{text:?}");
        let csv = ask(&["-o", "csv"]);
        assert!(csv.stderr.contains("sudo") && !csv.stdout.contains("sudo"), "{csv:?}");
        // Where /proc hides the others.
        mount("proc", "/proc", "proc", MountFlags::empty(), Some(c"hidepid=2")).expect("mounting /proc");
        let json = parse(&nobody.tcpwatch(&["snapshot", "--by", "process", "-o", "json"]));
        assert_eq!(
            (&json["unseen"]["hidden"], &json["unseen"]["processes"]),
            (&true.into(), &0.into()),
            "{json}"
        );
        let text = ask(&[]);
        assert!(text.stdout.contains("hidepid"), "{text:?}");
        let root = snapshot(&["--by", "process"]);
        assert_eq!(
            (&root["unseen"]["hidden"], &root["unseen"]["sockets"]),
            (&false.into(), &0.into()),
            "{root}"
        );
        drop((others, own));
    });
}

/// The process of a group by its number.
fn group(snapshot: &Value, pid: u32) -> Value {
    let groups = snapshot["groups"].as_array().expect("groups");
    let mut processes = groups.iter().map(|group| &group["key"]["process"]);
    let found = processes.find(|process| process["pid"].as_u64() == Some(pid.into()));
    found
        .unwrap_or_else(|| panic!("no process {pid} in {snapshot}"))
        .clone()
}

/// The number that `command`, a `snapshot --count`, prints.
fn count(command: &Command) -> i64 {
    let finished = finish(command);
    let number = finished.stdout.trim_end().parse();
    number.unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}
