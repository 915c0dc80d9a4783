//! `explain`: the names, defaults and counts it tells are those of this kernel and its tools.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use rustix::mount::{MountFlags, mount};
use rustix::process::Signal;
use serde_json::Value;
use socket2::Socket;

use crate::support::LOOPBACK;
use crate::support::child::Reaped;
use crate::support::clock::until;
use crate::support::hold::{FIRST, Held};
use crate::support::netns::{Neighbour, in_netns};
use crate::support::peers::{snmp, ss};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::sockets::{Pair, listen, pair, read_eof, send_fin};
use crate::support::spoiled::{self, done_again};
use crate::support::states::STATES;
use crate::time_wait::client_first;

/// What is said of each topic of a kind.
fn pages(kind: &str) -> Vec<Value> {
    let finished = finish(&tcpwatch(&["explain", kind, "-o", "json"]));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{finished:?}");
    let lines = finished.stdout.lines();
    lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn states_have_the_names_that_ss_and_netstat_print() {
    let pages = pages("states");
    assert_eq!(pages.len(), STATES.len());
    for (page, state) in pages.iter().zip(STATES) {
        let names = [
            &page["names"]["number"],
            &page["names"]["ss"],
            &page["names"]["netstat"],
        ];
        let theirs: [Value; 3] = [state.number.into(), state.ss.into(), state.netstat.into()];
        assert_eq!(names, theirs.each_ref(), "{page}");
    }
}

/// What `stat` counts under `closed` can be asked about, and nothing else can.
#[test]
fn endings_are_those_that_stat_counts() {
    in_netns(|_| {
        let stat = finish(&tcpwatch(&["stat", "1", "1", "-o", "json"])).stdout;
        let row: Value = serde_json::from_str(&stat).expect("one row");
        let closed = row["closed"].as_object().expect("endings");
        let counted: BTreeSet<&str> = closed
            .keys()
            .map(String::as_str)
            .filter(|key| *key != "total")
            .collect();
        let pages = pages("endings");
        let explained = pages.iter().map(|page| page["ended"].as_str().expect("an ending"));
        assert_eq!(explained.collect::<BTreeSet<_>>(), counted);
    });
}

/// A namespace that was made a moment ago has the defaults of its kernel.
#[test]
fn defaults_are_those_of_a_new_namespace() {
    let mut compared = 0;
    in_netns(|_| {
        for page in pages("settings") {
            let setting = &page["setting"];
            let name = setting["sysctl"].as_str().expect("a name");
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            if setting["gone_since"].is_string() {
                assert!(!fs::exists(&path).expect("/proc/sys"), "{path} is there");
                continue;
            }
            if let Some(default) = setting["default"].as_str()
                && setting["namespaced"] == true
            {
                let value = fs::read_to_string(&path).expect("a setting");
                let value: Vec<&str> = value.split_whitespace().collect();
                assert_eq!(value.join(" "), default, "{name}");
                compared += 1;
            }
        }
    });
    assert!(compared > 12, "{compared} defaults were compared");
}

/// Counts with a label beside an arrow, as the diagram shows them, in the order of its rows.
fn beside<'a>(diagram: &'a str, label: &str) -> Vec<&'a str> {
    let lines = diagram.lines();
    lines
        .flat_map(|line| line.match_indices(label).map(move |(at, _)| &line[at + label.len()..]))
        .filter_map(|rest| rest.split_whitespace().next())
        .collect()
}

#[test]
fn arrows_have_what_happened_and_boxes_what_ss_counts() {
    done_again(arrows_and_boxes);
}

/// `tcpwatch explain states` at work, and what it writes when it is told to end.
struct Counting(Reaped);

impl Counting {
    fn start() -> Self {
        let mut command = tcpwatch(&["explain", "states", "-d", "1h", "--lang", "en"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let process = Reaped::spawn(&mut command);
        let wchan = format!("/proc/{}/wchan", process.pid());
        // From then on it counts.
        until("explain to wait for its end", || {
            fs::read_to_string(&wchan).is_ok_and(|place| place.contains("ep_poll") || place.contains("epoll_wait"))
        });
        Self(process)
    }

    /// The diagram, and the complaints.
    fn end(self) -> (String, String) {
        spoiled::note(self.0.pid());
        self.0.signal(Signal::INT);
        let (status, diagram, complaints) = self.0.output();
        assert!(status.success(), "{status}: {complaints}");
        (diagram, complaints)
    }
}

/// A connection that both sides close in order, the client first, and that its client holds until then.
fn both_in_turn(listener: &Socket) {
    let Pair { client, server } = pair(listener);
    send_fin(&client);
    read_eof(&server);
    drop(server);
    read_eof(&client);
}

/// A connection whose server closes first.
fn server_first(listener: &Socket) {
    let Pair { client, server } = pair(listener);
    drop(server);
    read_eof(&client);
}

fn arrows_and_boxes() {
    in_netns(|netns| {
        let held = Held::at(netns, LOOPBACK, FIRST);
        let counting = Counting::start();
        let before = snmp::read();
        let listener = listen((LOOPBACK, 0).into(), 16);
        for _ in 0..5 {
            client_first(&listener);
        }
        for _ in 0..3 {
            server_first(&listener);
        }
        for _ in 0..4 {
            both_in_turn(&listener);
        }
        // Those who wait for a FIN that never comes.
        let forgotten: Vec<Socket> = (0..2)
            .map(|_| {
                let Pair { client, server } = pair(&listener);
                drop(client);
                read_eof(&server);
                server
            })
            .collect();
        let after = snmp::read();
        let theirs = ss::counts();
        let (diagram, complaints) = counting.end();
        assert_eq!(complaints, "");
        let opened = |name: &str| (after.get(name) - before.get(name)).to_string();
        let (active, passive) = (opened("Tcp:ActiveOpens"), opened("Tcp:PassiveOpens"));
        // Both sides of each connection are here. `│` stands before what is written at the right of an arrow.
        for (label, times) in [
            ("listen()  ", &["1"][..]),
            ("connect(): SYN out  ", &[&active]),
            // Announced when the last ACK comes, and then it is no news.
            ("SYN in, SYN-ACK out  ", &["?"]),
            ("  SYN in  ", &["·"]),
            ("SYN-ACK in  ", &["14"]),
            ("│ ACK in  ", &[&passive]),
            ("close(): FIN out  ", &["14", "12"]),
            // ESTABLISHED > CLOSE_WAIT; and FIN_WAIT2 > TIME_WAIT, as seen by those who had not closed yet.
            ("│ FIN in  ", &["14", "4"]),
            // FIN_WAIT1 > FIN_WAIT2, CLOSING > TIME_WAIT, LAST_ACK > CLOSE.
            ("ACK of FIN in  ", &["14", "·", "12"]),
            ("gone in 60 s or less  ", &["·"]),
        ] {
            assert_eq!(beside(&diagram, label), times, "{label}: {diagram}");
        }
        let crossed = diagram.lines().skip_while(|line| !line.contains("├─────────►")).nth(1);
        assert!(
            crossed.is_some_and(|line| line.contains("┘ · ")),
            "FIN_WAIT1 > CLOSING: {diagram}"
        );
        // Of ten that were closed by their client two are in FIN_WAIT2 still; where the others went, nobody says.
        assert!(
            unwrapped(&diagram).contains("before the peer's FIN arrived: 10."),
            "{diagram}"
        );
        assert!(
            !diagram.contains("Not drawn"),
            "every transition has an arrow: {diagram}"
        );
        for state in STATES.iter().filter(|state| state.key != "close") {
            let figure = match theirs[state.key] {
                0 => "·".to_owned(),
                count => count.to_string(),
            };
            assert_eq!(
                beside(&diagram, &format!("│ {} ", state.netstat)),
                [figure],
                "{diagram}"
            );
        }
        drop((held, forgotten));
    });
}

/// `text` with all lines joined.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Without BTF no ending is known, and namespaces cannot be told apart: neither is told as something else.
#[test]
fn arrows_that_nobody_knows() {
    in_netns(|_| {
        let _neighbour = Neighbour::new();
        mount("none", "/sys/kernel/btf", "tmpfs", MountFlags::empty(), None).expect("hiding the kernel's BTF");
        let counting = Counting::start();
        let listener = listen((LOOPBACK, 0).into(), 16);
        for _ in 0..4 {
            both_in_turn(&listener);
        }
        let (diagram, complaints) = counting.end();
        assert!(complaints.contains("all network namespaces"), "{complaints}");
        assert!(diagram.contains("of all network namespaces"), "{diagram}");
        assert_eq!(beside(&diagram, "│ FIN in  ")[1], "?", "{diagram}");
        assert_eq!(beside(&diagram, "ACK of FIN in  ")[2], "?", "{diagram}");
        let ends = ["FIN_WAIT2 > CLOSE", "LAST_ACK > CLOSE"];
        assert!(
            !ends.iter().any(|end| diagram.contains(end)),
            "they are no aborts: {diagram}"
        );
        assert!(
            unwrapped(&diagram).contains("Connections with an unknown ending: "),
            "{diagram}"
        );
    });
}
