//! `explain`: the names, defaults and counts it tells are those of this kernel and its tools.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::LOOPBACK;
use crate::support::child::Reaped;
use crate::support::clock::until;
use crate::support::hold::{FIRST, Held};
use crate::support::netns::in_netns;
use crate::support::peers::{snmp, ss};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::skipped::{self, done_again};
use crate::support::sockets::{listen, pair, read_eof};
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

fn arrows_and_boxes() {
    in_netns(|netns| {
        let held = Held::at(netns, LOOPBACK, FIRST);
        let mut command = tcpwatch(&["explain", "states", "-d", "1h", "--lang", "en"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Reaped::spawn(&mut command);
        let wchan = format!("/proc/{}/wchan", process.pid());
        // From then on it counts.
        until("explain to wait for its end", || {
            fs::read_to_string(&wchan).is_ok_and(|place| place.contains("ep_poll") || place.contains("epoll_wait"))
        });
        let before = snmp::read();
        let listener = listen((LOOPBACK, 0).into(), 16);
        for _ in 0..5 {
            client_first(&listener);
        }
        for _ in 0..3 {
            let ends = pair(&listener);
            drop(ends.server);
            read_eof(&ends.client);
        }
        let after = snmp::read();
        let theirs = ss::counts();
        skipped::note(process.pid());
        process.signal(Signal::INT);
        assert!(process.wait().success());
        let (mut diagram, mut complaints) = (String::new(), String::new());
        let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
        stdout.expect("piped").read_to_string(&mut diagram).expect("UTF-8");
        stderr.expect("piped").read_to_string(&mut complaints).expect("UTF-8");
        assert_eq!(complaints, "");
        let opened = |name: &str| (after.get(name) - before.get(name)).to_string();
        assert_eq!(
            beside(&diagram, "connect(): SYN out  "),
            [opened("Tcp:ActiveOpens")],
            "{diagram}"
        );
        assert_eq!(
            beside(&diagram, "SYN in, SYN-ACK out  "),
            [opened("Tcp:PassiveOpens")],
            "{diagram}"
        );
        assert_eq!(beside(&diagram, "SYN-ACK in  "), ["8"], "{diagram}");
        // Eight were closed here first, and eight on the other side, which is here too.
        assert_eq!(beside(&diagram, "close(): FIN out  "), ["8", "8"], "{diagram}");
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
        drop(held);
    });
}
