//! Which pod churns: `churn` and `latency` count what processes do by what these run in, and select by it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::agent::Agent;
use crate::support::cgroup::Cgroup;
use crate::support::netns::in_netns;
use crate::support::program::churn::Churn;
use crate::support::program::latency::Latency;
use crate::support::program::lives::Lives;
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::trace::Trace;
use crate::support::program::{Hook, Running, on_both_hooks};

on_both_hooks!(churn_by, churn_of, latency_by, latency_of, life_by, trace_by);

/// The pod of the first client, and its container.
const POD: &str = "26ab0db3-9bd5-4e11-b5e6-04aa4d0c6a1d";
const CONTAINER: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
/// The container of the second, which is in no pod.
const OTHER: &str = "1a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";

/// How many connections each client makes: the one in the pod, the one in another container, and the one in none.
const OPENED: [i64; 3] = [30, 20, 10];

/// Clients in containers, and their server.
struct Pods {
    clients: [Agent; 3],
    server: Agent,
    _cgroups: [Cgroup; 2],
}

impl Pods {
    fn new() -> Self {
        let slice = format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_"));
        let cgroups = [
            Cgroup::new(&format!("{slice}:cri-containerd:{CONTAINER}")),
            Cgroup::new(&format!("docker-{OTHER}.scope")),
        ];
        // Two have one name.
        let clients = ["worker", "worker", "other"].map(Agent::named);
        for (client, cgroup) in clients.iter().zip(&cgroups) {
            cgroup.take(client.process());
        }
        let mut server = Agent::named("server");
        server.run("l = socket.create_server(('127.0.0.1', 8080), backlog=100)");
        Self {
            clients,
            server,
            _cgroups: cgroups,
        }
    }

    /// Each client connects as often as [`OPENED`] has it, and closes first.
    fn connect(&mut self) {
        for (client, opened) in self.clients.iter_mut().zip(OPENED) {
            client.run(&format!(
                "for _ in range({opened}): socket.create_connection(('127.0.0.1', 8080)).close()"
            ));
            self.server.run(&format!(
                "for _ in range({opened}): s = l.accept()[0]; s.recv(1); s.close()"
            ));
        }
    }
}

/// What `churn ARGS` shows of the connections, after `connect`: openings by opener here, openings by server here, and timewait sockets.
fn churned(hook: Hook, args: &[&str]) -> [BTreeMap<String, i64>; 3] {
    in_netns(|_| {
        let mut pods = Pods::new();
        let mut churn = Churn::of(Running::start(
            &[&["churn", "0.3", "--hook", hook.name()], args].concat(),
        ));
        pods.connect();
        churn.fresh();
        let mut counts = [const { BTreeMap::new() }; 3];
        let mut add = |at: usize, of: &Value, count: &Value| {
            *counts[at].entry(of.to_string()).or_default() += count.as_i64().expect("a count");
        };
        for row in churn.finish() {
            for owner in row["owners"].as_array().expect("owners") {
                add(0, &owner["owner"], &owner["opened"]);
            }
            for peer in row["peers"].as_array().expect("peers") {
                for to in peer["destinations"].as_array().expect("destinations") {
                    add(1, &to["listener"], &to["opened"]);
                }
            }
            for process in row["time_wait_by"]["process"].as_array().expect("processes") {
                add(2, &process["owner"], &process["time_wait"]);
            }
        }
        counts.map(|mut counts: BTreeMap<String, i64>| {
            counts.retain(|_, &mut count| count > 0);
            counts
        })
    })
}

fn counts<const N: usize>(counts: [(&str, i64); N]) -> BTreeMap<String, i64> {
    counts.map(|(of, count)| (of.to_owned(), count)).into()
}

fn churn_by(hook: Hook) {
    let none = counts([]);
    let [one, two, three] = OPENED;
    let pod = format!(r#"{{"pod":"{POD}","pod_name":null}}"#);
    let by_pod = counts([(&pod, one), (r#"{"pod":"","pod_name":null}"#, two + three)]);
    assert_eq!(churned(hook, &["--by", "pod"]), [by_pod.clone(), none.clone(), by_pod]);
    let [container, other] = [CONTAINER, OTHER].map(|id| format!(r#"{{"container":"{id}"}}"#));
    let by_container = counts([(&container, one), (&other, two), (r#"{"container":""}"#, three)]);
    assert_eq!(
        churned(hook, &["--by", "container"]),
        [by_container.clone(), none.clone(), by_container]
    );
    let [worker, other] = ["worker", "other"].map(|comm| format!(r#"{{"comm":"{comm}","pid":null}}"#));
    let by_comm = counts([(&worker, one + two), (&other, three)]);
    assert_eq!(churned(hook, &["--by", "comm"]), [by_comm.clone(), none, by_comm]);
}

/// Connections of which one end is selected are counted at that end alone.
fn churn_of(hook: Hook) {
    let [one, two, three] = OPENED;
    let here = |args: &[&str]| {
        let [opened, served, waiting] = churned(hook, &[args, &["--by", "comm"]].concat());
        [opened, served, waiting].map(|counts| counts.into_values().sum::<i64>())
    };
    assert_eq!(here(&["--pod", POD]), [one, 0, one]);
    assert_eq!(here(&["--container", &OTHER[..12]]), [two, 0, two]);
    assert_eq!(here(&["--comm", "worker"]), [one + two, 0, one + two]);
    let all = one + two + three;
    assert_eq!(here(&["--comm", "server"]), [0, all, 0], "the clients close first");
    assert_eq!(
        here(&["--comm", "server", "--comm", "other", "--comm", "worker"]),
        [all, 0, all]
    );
}

/// How often `latency ARGS` measured the time in ESTABLISHED, by group.
fn measured(hook: Hook, args: &[&str]) -> BTreeMap<String, i64> {
    in_netns(|_| {
        let mut pods = Pods::new();
        let mut latency = Latency::start(hook, args);
        pods.connect();
        latency.fresh();
        let histograms = latency.finish().histograms.into_iter();
        let established = histograms.filter(|((what, ..), _)| what == "established");
        established
            .map(|((_, group, _), histogram)| (group, histogram.count))
            .collect()
    })
}

fn latency_by(hook: Hook) {
    let [one, two, three] = OPENED;
    let all = one + two + three;
    let quoted = |text: &str| format!("\"{text}\"");
    // The server is in no pod and in no container.
    assert_eq!(
        measured(hook, &["--by", "pod"]),
        counts([(&quoted(POD), one), ("\"\"", two + three + all)])
    );
    assert_eq!(
        measured(hook, &["--by", "container"]),
        counts([(&quoted(CONTAINER), one), (&quoted(OTHER), two), ("\"\"", three + all)])
    );
    assert_eq!(
        measured(hook, &["--by", "comm"]),
        counts([("\"worker\"", one + two), ("\"other\"", three), ("\"server\"", all)])
    );
}

fn latency_of(hook: Hook) {
    let [one, two, three] = OPENED;
    assert_eq!(measured(hook, &["--pod", POD]), counts([("", one)]));
    assert_eq!(
        measured(hook, &["--container", CONTAINER, "--by", "remote"]),
        counts([("\"127.0.0.1\"", one)])
    );
    assert_eq!(
        measured(hook, &["--comm", "server", "--by", "lport"]),
        counts([("8080", one + two + three)])
    );
}

/// The groups that `replay DIR COMMAND --by BY` shows: the number of records of each owner, and the object in the field `what`.
fn grouped(dir: &Path, command: &str, by: &str, [records, what]: [&str; 2]) -> BTreeMap<String, (i64, Value)> {
    let dir = dir.to_str().expect("UTF-8");
    let shown = finish(&tcpwatch(&["replay", dir, command, "--by", by, "-o", "json"]));
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""));
    let lines = shown.stdout.lines();
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let groups = lines.filter(|line| line["schema"] == format!("tcpwatch.{command}_groups/1"));
    let groups = groups.map(|group| {
        assert!(group["by"] == by && group["other"] == false, "{group}");
        let count = group[records].as_i64().expect("a count");
        (group["owner"].to_string(), (count, group[what].clone()))
    });
    groups.collect()
}

fn life_by(hook: Hook) {
    in_netns(|_| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut pods = Pods::new();
        let life = Lives::start(hook, &["--record", dir.path().to_str().expect("UTF-8")]);
        pods.connect();
        let [one, two, three] = OPENED;
        let all = one + two + three;
        life.until(2 * usize::try_from(all).expect("a few"));
        life.finish();
        let groups = |by| grouped(dir.path(), "life", by, ["connections", "endings"]);
        // Whether the server's FIN finds a timewait socket or a full one is the kernel's business.
        let closed_first = |(count, endings): &(i64, Value)| {
            let of = |ending: &str| endings[ending].as_i64().unwrap_or(0);
            assert_eq!(of("closed_first") + of("graceful_active"), *count, "{endings}");
            *count
        };
        let by_comm = groups("comm");
        let of = |comm: &str| &by_comm[&format!(r#"{{"comm":"{comm}","pid":null}}"#)];
        assert_eq!([of("worker"), of("other")].map(closed_first), [one + two, three]);
        assert_eq!(*of("server"), (all, serde_json::json!({ "graceful_passive": all })));
        let pod = format!(r#"{{"pod":"{POD}","pod_name":null}}"#);
        assert_eq!(closed_first(&groups("pod")[&pod]), one);
        let container = format!(r#"{{"container":"{OTHER}"}}"#);
        assert_eq!(closed_first(&groups("container")[&container]), two);
    });
}

fn trace_by(hook: Hook) {
    in_netns(|_| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut pods = Pods::new();
        let trace = Trace::start(hook, &["--record", dir.path().to_str().expect("UTF-8")]);
        pods.connect();
        let [one, two, three] = OPENED;
        trace.until_events(10 * usize::try_from(one + two + three).expect("a few"));
        trace.finish();
        let groups = grouped(dir.path(), "trace", "pod", ["transitions", "moves"]);
        let (count, moves) = &groups[&format!(r#"{{"pod":"{POD}","pod_name":null}}"#)];
        assert_eq!(*count, 5 * one);
        let path = [
            "close>syn_sent",
            "syn_sent>established",
            "established>fin_wait1",
            "fin_wait1>fin_wait2",
            "fin_wait2>close",
        ];
        for from_to in path {
            assert_eq!(moves[from_to], one, "{from_to}: {moves}");
        }
    });
}

/// What nobody is in is refused once the run is over, as by `life`.
#[test]
fn nothing_matches() {
    in_netns(|_| {
        for command in ["churn", "latency"] {
            let finished = finish(&tcpwatch(&[command, "-d", "0.3", "--pod", "nowhere"]));
            assert_eq!(finished.code, Some(1), "{finished:?}");
            assert!(
                finished.stderr.contains("nothing matched --pod nowhere"),
                "{finished:?}"
            );
        }
    });
}
