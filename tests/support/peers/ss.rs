//! `ss`, from iproute2: what is open now.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::run;
use crate::support::states::{Counts, STATES, none};

/// One line of `ss -tan`.
#[derive(Debug)]
pub(crate) struct Row {
    /// tcpwatch's key of the state.
    pub(crate) state: &'static str,
    /// An `AF_INET6` socket.
    pub(crate) ipv6: bool,
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    /// The socket's cookie as `-e` shows it after `sk:`, in hex.
    pub(crate) cookie: Option<String>,
}

/// Every TCP socket of this network namespace.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = family("-4");
    rows.extend(family("-6"));
    rows
}

/// The sockets of one address family, `-4` or `-6`.
fn family(flag: &str) -> Vec<Row> {
    let text = run("ss", &[flag, "-tanHeO"]);
    text.lines().map(|line| parse(line, flag == "-6")).collect()
}

/// What the listener at `place`, `127.0.0.1:80`, has dropped: `d` at the end of `-m`'s skmem.
pub(crate) fn dropped_by(place: &str) -> i64 {
    let text = run("ss", &["-HltnmO", "src", place]);
    let dropped = text
        .rsplit_once(",d")
        .and_then(|(_, dropped)| dropped.split(')').next()?.parse().ok());
    dropped.unwrap_or_else(|| panic!("ss tells no drops: {text:?}"))
}

/// The accept queue of the listener at `place`: `Recv-Q`, and `Send-Q`, which is how many may wait.
pub(crate) fn accept_queue(place: &str) -> [i64; 2] {
    let text = run("ss", &["-HltnO", "src", place]);
    let columns: Vec<&str> = text.split_whitespace().collect();
    [1, 2].map(|column| columns[column].parse().expect("a number"))
}

fn parse(line: &str, ipv6: bool) -> Row {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let state = STATES.iter().find(|state| state.ss == columns[0]);
    let cookie = columns.iter().find_map(|column| column.strip_prefix("sk:"));
    Row {
        state: state
            .unwrap_or_else(|| panic!("ss prints a state not known: {line:?}"))
            .key,
        ipv6,
        local: endpoint(columns[3], ipv6),
        remote: endpoint(columns[4], ipv6),
        cookie: cookie.map(str::to_owned),
    }
}

/// `127.0.0.1:80`, `[::1]:80`, `[fe80::1%lo]:80`, `0.0.0.0:*`, `*:80`.
fn endpoint(text: &str, ipv6: bool) -> (IpAddr, u16) {
    let (address, port) = text
        .rsplit_once(':')
        .unwrap_or_else(|| panic!("{text:?} is no endpoint"));
    let address = address.trim_matches(['[', ']']);
    let address = address.split('%').next().unwrap_or(address);
    let address = match address {
        "*" if ipv6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        "*" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => address.parse().unwrap_or_else(|_| panic!("{text:?} is no endpoint")),
    };
    (address, if port == "*" { 0 } else { port.parse().expect("a port") })
}

/// How many sockets of this namespace are in each state.
pub(crate) fn counts() -> Counts {
    counts_of(|_| true)
}

/// How many of those that `wanted` chooses are in each state. `CLOSE` is 0: `ss -t` has no connection there.
pub(crate) fn counts_of(wanted: impl Fn(&Row) -> bool) -> Counts {
    let mut counts = none();
    for row in rows().iter().filter(|row| wanted(row)) {
        *counts.entry(row.state).or_default() += 1;
    }
    assert_eq!(counts["close"], 0, "ss -t shows a closed socket");
    counts
}

/// The processes that hold each TCP socket of this network namespace, by number, each once.
pub(crate) fn holders() -> Vec<Vec<u32>> {
    let text = run("ss", &["-tanHpO"]);
    // Names are printed as they are: a line goes on where one has a newline, and `pid=` is what no name here has.
    let starts_a_row = |line: &&str| STATES.iter().any(|state| line.starts_with(state.ss));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for line in text.lines() {
        if starts_a_row(&line) {
            rows.push(Vec::new());
        }
        let pids = line
            .split("pid=")
            .skip(1)
            .filter_map(|rest| rest.split(',').next()?.parse::<u32>().ok());
        rows.last_mut().expect("a row").extend(pids);
    }
    for pids in &mut rows {
        pids.sort_unstable();
        pids.dedup();
    }
    rows
}

/// One line of `ss -tanp`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    /// tcpwatch's key of the state.
    pub(crate) state: String,
    /// `Recv-Q` and `Send-Q`.
    pub(crate) queues: [Option<u32>; 2],
    pub(crate) local: (IpAddr, u16),
    pub(crate) remote: (IpAddr, u16),
    /// `uid` and `ino` of `-e`; 0 where they are not shown.
    pub(crate) uid: u32,
    pub(crate) inode: u32,
    /// Process and descriptor of everybody who holds it.
    pub(crate) holders: Vec<(u32, u32)>,
}

/// Every TCP socket of this network namespace with its holders, in order.
pub(crate) fn listed() -> Vec<Listed> {
    let mut rows = Vec::new();
    for flag in ["-4", "-6"] {
        let text = run("ss", &[flag, "-tanHpeO"]);
        rows.extend(text.lines().map(|line| {
            let Row {
                state, local, remote, ..
            } = parse(line, flag == "-6");
            let columns: Vec<&str> = line.split_whitespace().collect();
            let number = |text: &str| text.split([',', ')']).next().and_then(|number| number.parse().ok());
            let named = |name: &str| {
                columns
                    .iter()
                    .find_map(|column| column.strip_prefix(name)?.parse().ok())
            };
            let mut holders: Vec<(u32, u32)> = line
                .split("pid=")
                .skip(1)
                .filter_map(|rest| Some((number(rest)?, number(rest.split_once("fd=")?.1)?)))
                .collect();
            holders.sort_unstable();
            Listed {
                state: state.to_owned(),
                queues: [1, 2].map(|column| columns[column].parse().ok()),
                local,
                remote,
                uid: named("uid:").unwrap_or(0),
                inode: named("ino:").unwrap_or(0),
                holders,
            }
        }));
    }
    rows.sort_unstable();
    rows
}

/// Closes by the administrator's hand (`ss -K`) the sockets `filter` describes.
pub(crate) fn kill(filter: &[&str]) {
    run("ss", &[&["-K"], filter].concat());
}
