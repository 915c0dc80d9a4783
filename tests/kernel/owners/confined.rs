//! Whose the connections are, to a tcpwatch that does not see all processes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use rustix::mount::{MountFlags, mount};
use serde_json::Value;

use super::{
    ACCEPT, CLOSE, CLOSE_TOO, CONNECT, CONNECTION, LISTEN, assert_owners, is_before_accept, is_listeners, is_servers,
};
use crate::support::agent::Agent;
use crate::support::clock::eventually;
use crate::support::holder::only_child;
use crate::support::netns::in_netns;
use crate::support::pidns::{PidNamespace, Proc};
use crate::support::program::churn::{Churn, number};
use crate::support::program::event::Owner;
use crate::support::program::lives::Lives;
use crate::support::program::run::{Unprivileged, binary, setpriv};
use crate::support::program::trace::{Probe, Trace, connect_and_close};
use crate::support::program::{Hook, Running, on_both_hooks};
use crate::support::spoiled::done_again;

on_both_hooks!(
    in_another_pid_namespace,
    in_another_pid_namespace_with_the_outer_proc,
    lives_in_another_pid_namespace,
    where_proc_hides_others,
    lives_where_proc_hides_others,
    a_pid_where_proc_hides_others,
    where_proc_hides_nothing_from_root,
);

/// `tcpwatch COMMAND --hook HOOK ARGS -o json`, not started yet.
fn watching(mut tcpwatch: Command, command: &[&str], hook: Hook) -> Command {
    tcpwatch.args(command).args(["-o", "json", "--hook", hook.name()]);
    tcpwatch
}

/// A trace of one connection from before it and one that it saw all of, both by `client` to `server`.
fn two_connections(running: impl FnOnce() -> Running, client: &mut Agent, server: &mut Agent) -> Trace {
    server.run(LISTEN);
    client.run(CONNECT);
    server.run(ACCEPT);
    let trace = Trace::probing(running(), || connect_and_close(Probe::ANY));
    client.run(CLOSE);
    trace.until_events(3);
    server.run(CLOSE_TOO);
    trace.until_events(6);
    connect(client, server);
    server.run("l.close()");
    server.run(LISTEN);
    connect(client, server);
    trace.until_events(6 + CONNECTION + 2 + CONNECTION);
    trace
}

/// One connection.
fn connect(client: &mut Agent, server: &mut Agent) {
    client.run(CONNECT);
    server.run(ACCEPT);
    client.run(CLOSE);
    server.run(CLOSE_TOO);
}

/// The owners that two connections of `client` with `server` have, known by these names and numbers. Of what was open before, /proc
/// tells as far as it shows who has it.
fn assert_two_connections(trace: Trace, client: &Known, server: &Known) -> String {
    let traced = trace.finish();
    let (before, after) = traced.events.split_at(6);
    let (early, late) = after.split_at(CONNECTION);
    assert_owners(before, |event| match (event.from, event.to) {
        (1, 8) => server.if_shown("scan"),
        _ if is_servers(event) => Some(server.owner("close")),
        _ => Some(client.owner("close")),
    });
    assert_owners(early, |event| {
        if is_before_accept(event) {
            server.if_shown("listen")
        } else if is_servers(event) {
            Some(server.owner("accept"))
        } else {
            Some(client.owner("connect"))
        }
    });
    assert_owners(late, |event| {
        if (event.from, event.to) == (10, 7) {
            server.if_shown("scan")
        } else if is_before_accept(event) || is_listeners(event) {
            Some(server.owner("listen"))
        } else if is_servers(event) {
            Some(server.owner("accept"))
        } else {
            Some(client.owner("connect"))
        }
    });
    traced.said
}

/// A process as tcpwatch knows it.
struct Known {
    name: &'static str,
    /// Its number, if it has one in the /proc that tcpwatch sees.
    pid: Option<u64>,
    /// Whether that /proc shows it.
    shown: bool,
}

impl Known {
    fn owner(&self, how: &str) -> Owner {
        Owner {
            pid: self.pid,
            comm: self.name.to_owned(),
            how: how.to_owned(),
        }
    }

    fn if_shown(&self, how: &str) -> Option<Owner> {
        self.shown.then(|| self.owner(how))
    }
}

const INSIDE: &str = "inside";
const OUTSIDE: &str = "outside";

/// A pid namespace, a process in it, one outside, and how those are known to a tcpwatch in it that sees `proc`.
struct Namespaces {
    // Dropped first: what they run below is killed with the namespace.
    inside: Agent,
    outside: Agent,
    known: [Known; 2],
    proc: Proc,
    inner: PidNamespace,
}

impl Namespaces {
    fn new(proc: Proc) -> Self {
        let inner = PidNamespace::new();
        let mut inside = Agent::below(inner.enter(Proc::Own, "python3"), INSIDE);
        let outside = Agent::named(OUTSIDE);
        let pids = match proc {
            Proc::Own => [inside.give("os.getpid()").as_u64(), None],
            Proc::Outer => {
                let inside = eventually("a process inside", || only_child(inside.process(), INSIDE));
                [Some(inside.into()), Some(outside.pid())]
            }
        };
        let [one, other] = pids;
        let known = |name, pid: Option<u64>| Known {
            name,
            pid,
            shown: pid.is_some(),
        };
        Self {
            inside,
            outside,
            known: [known(INSIDE, one), known(OUTSIDE, other)],
            proc,
            inner,
        }
    }

    fn tcpwatch(&self) -> Command {
        self.inner.enter(self.proc, binary())
    }
}

fn in_pid_namespace(hook: Hook, proc: Proc) {
    in_netns(|_| {
        for server_is_inside in [true, false] {
            let mut they = Namespaces::new(proc);
            let mut command = watching(they.tcpwatch(), &["trace"], hook);
            let Namespaces { inside, outside, .. } = &mut they;
            let (client, server) = if server_is_inside {
                (outside, inside)
            } else {
                (inside, outside)
            };
            let trace = two_connections(|| Running::below(&mut command), client, server);
            let [inside, outside] = &they.known;
            let (client, server) = if server_is_inside {
                (outside, inside)
            } else {
                (inside, outside)
            };
            let said = assert_two_connections(trace, client, server);
            assert_eq!(said, "", "root sees all there is in its /proc");
        }
    });
}

fn in_another_pid_namespace(hook: Hook) {
    in_pid_namespace(hook, Proc::Own);
}

/// Entered without a mount namespace: numbers are those that `ps` shows.
fn in_another_pid_namespace_with_the_outer_proc(hook: Hook) {
    in_pid_namespace(hook, Proc::Outer);
}

/// Who has a connection, who closes it, and `--pid`.
fn lives_in_another_pid_namespace(hook: Hook) {
    in_netns(|_| {
        let mut they = Namespaces::new(Proc::Own);
        let pid = they.known[0].pid.expect("it is inside").to_string();
        let probe = || connect_and_close(Probe::ANY);
        let all = Running::below(&mut watching(they.tcpwatch(), &["life"], hook));
        let all = Lives::probing(all, probe);
        let asked = Running::below(&mut watching(they.tcpwatch(), &["life", "--pid", &pid], hook));
        let prober = RefCell::new(&mut they.inside);
        let asked = Lives::probing(asked, || prober.borrow_mut().probe());
        they.outside.run(LISTEN);
        connect(&mut they.inside, &mut they.outside);
        all.until(2);
        asked.until(1);
        let [inside, outside] = &they.known;
        for life in all.finish().lives {
            let whose = if life.text("opened") == "active" {
                inside
            } else {
                outside
            };
            let pid = &life.0["owner"]["pid"];
            assert_eq!(
                (pid.as_u64(), pid.is_null()),
                (whose.pid, whose.pid.is_none()),
                "{}",
                life.0
            );
            assert_eq!(life.0["owner"]["comm"], whose.name, "{}", life.0);
            assert!(life.is_null("closed_by"), "the owner closed it: {}", life.0);
        }
        let asked = asked.finish().lives;
        let [one] = asked.as_slice() else {
            panic!("one connection is that process's: {asked:#?}");
        };
        assert_eq!(
            (one.text("opened"), &one.0["owner"]["comm"]),
            ("active", &INSIDE.into()),
            "{}",
            one.0
        );
    });
}

/// What `churn` says of who opened connections, by number and name.
#[test]
fn churn_in_another_pid_namespace() {
    done_again(|| {
        in_netns(|_| {
            let mut they = Namespaces::new(Proc::Own);
            let churn = Running::below(&mut watching(they.tcpwatch(), &["churn", "0.2"], Hook::TpBtf));
            let churn = Churn::of(churn);
            they.inside.run(LISTEN);
            connect(&mut they.outside, &mut they.inside);
            they.inside.run("l.close()");
            they.outside.run(LISTEN);
            for _ in 0..2 {
                connect(&mut they.inside, &mut they.outside);
            }
            let [inside, outside] = &they.known;
            assert_eq!(
                opened(churn, 3),
                [(inside.pid, INSIDE.to_owned(), 2), (outside.pid, OUTSIDE.to_owned(), 1)]
            );
        });
    });
}

/// Who opened how many connections, in the order of names, once `total` were.
fn opened(churn: Churn, total: i64) -> Vec<(Option<u64>, String, i64)> {
    let by_owner = |rows: &[Value]| {
        let mut opened = BTreeMap::new();
        for row in rows.iter().flat_map(|row| row["owners"].as_array().expect("owners")) {
            let owner = (
                row["owner"]["comm"].as_str().map(str::to_owned),
                row["owner"]["pid"].as_u64(),
            );
            *opened.entry(owner).or_default() += number(row, "opened");
        }
        opened
    };
    churn.until("the connections", |rows| {
        let sum: i64 = by_owner(rows).values().sum();
        if sum >= total { Ok(()) } else { Err(format!("{sum}")) }
    });
    let opened = by_owner(&churn.finish()).into_iter();
    opened
        .map(|((comm, pid), opened)| (pid, comm.expect("a name"), opened))
        .collect()
}

/// As a user who has the capabilities that watching takes, and no others.
fn by_user(nobody: &Unprivileged) -> Command {
    // tracefs is root's alone.
    let [inheritable, ambient] = ["inh", "ambient"].map(|set| format!("--{set}-caps=+bpf,+perfmon,+dac_read_search"));
    let user = [
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        &inheritable,
        &ambient,
    ];
    setpriv(&user, &nobody.binary(), &[])
}

/// `tcpwatch` as a user from whom /proc hides all others' processes.
fn where_proc_hides_others(hook: Hook) {
    in_netns(|_| {
        hide();
        let nobody = Unprivileged::new();
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        let mut command = watching(by_user(&nobody), &["trace"], hook);
        let trace = two_connections(|| Running::spawn(&mut command), &mut client, &mut server);
        let known = |name, agent: &Agent| Known {
            name,
            pid: Some(agent.pid()),
            shown: false,
        };
        let said = assert_two_connections(trace, &known("client", &client), &known("server", &server));
        assert_eq!(
            said,
            "tcpwatch: some owners are unknown: /proc hides other users' processes (hidepid); try sudo\n"
        );
    });
}

/// The process may be there, so it is watched.
fn a_pid_where_proc_hides_others(hook: Hook) {
    in_netns(|_| {
        hide();
        let nobody = Unprivileged::new();
        let server = RefCell::new(Agent::named("server"));
        let pid = server.borrow().pid().to_string();
        let running = Running::spawn(&mut watching(by_user(&nobody), &["trace", "-p", &pid], hook));
        Trace::probing(running, || server.borrow_mut().probe()).finish();
    });
}

fn where_proc_hides_nothing_from_root(hook: Hook) {
    in_netns(|_| {
        hide();
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        let trace = two_connections(
            || Running::start(&["trace", "--hook", hook.name()]),
            &mut client,
            &mut server,
        );
        let known = |name, agent: &Agent| Known {
            name,
            pid: Some(agent.pid()),
            shown: true,
        };
        let said = assert_two_connections(trace, &known("client", &client), &known("server", &server));
        assert_eq!(said, "");
    });
}

/// From now on /proc shows a user his own processes alone.
fn hide() {
    mount("proc", "/proc", "proc", MountFlags::empty(), Some(c"hidepid=2")).expect("mounting /proc");
}

/// Owners are the kernel's to tell; of a connection from before the start, the one who closed it.
fn lives_where_proc_hides_others(hook: Hook) {
    in_netns(|_| {
        hide();
        let nobody = Unprivileged::new();
        let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
        server.run(LISTEN);
        client.run(CONNECT);
        server.run(ACCEPT);
        let running = Running::spawn(&mut watching(by_user(&nobody), &["life"], hook));
        let trace = Lives::probing(running, || connect_and_close(Probe::ANY));
        client.run(CLOSE);
        server.run(CLOSE_TOO);
        trace.until(2);
        connect(&mut client, &mut server);
        trace.until(4);
        let lives = trace.finish().lives;
        let owners: BTreeSet<(Option<u64>, String)> = lives
            .iter()
            .map(|life| {
                let owner = &life.0["owner"];
                (owner["pid"].as_u64(), format!("{} {}", owner["comm"], owner["how"]))
            })
            .collect();
        let of = |agent: &Agent, how: &str| (Some(agent.pid()), how.to_owned());
        let expected = [
            of(&client, r#""client" "close""#),
            of(&server, r#""server" "close""#),
            of(&client, r#""client" "connect""#),
            of(&server, r#""server" "accept""#),
        ];
        assert_eq!(owners, BTreeSet::from(expected), "{lives:#?}");
    });
}

#[test]
fn churn_where_proc_hides_others() {
    done_again(|| {
        in_netns(|_| {
            hide();
            let nobody = Unprivileged::new();
            let (mut server, mut client) = (Agent::named("server"), Agent::named("client"));
            let churn = Running::spawn(&mut watching(by_user(&nobody), &["churn", "0.2"], Hook::TpBtf));
            let churn = Churn::of(churn);
            server.run(LISTEN);
            connect(&mut client, &mut server);
            assert_eq!(opened(churn, 1), [(Some(client.pid()), "client".to_owned(), 1)]);
        });
    });
}
