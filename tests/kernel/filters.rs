//! Filters choose what they say, and no more.

use std::net::{Shutdown, SocketAddr};

use socket2::Socket;
use tcpwatch_common::TcpState;

use crate::support::cells::Cells;
use crate::support::netns::in_netns;
use crate::support::peers::ss::{self, Row};
use crate::support::program::run::{finish, tcpwatch};
use crate::support::program::snapshot::{snapshot, states};
use crate::support::program::stat::Stat;
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, accept, connect, listen, read_eof};
use crate::support::states::equal;

on_both_hooks!(of_stat, of_stat_by_state);

/// A server, how a client reaches it, and how many do: no two numbers and no two sums of them are equal.
const SERVERS: [(&str, &str, i64); 5] = [
    ("127.0.0.1:8080", "127.0.0.1:8080", 1),
    ("127.0.0.5:8081", "127.0.0.5:8081", 2),
    ("127.0.0.1:9005", "127.0.0.1:9005", 4),
    ("[::1]:8080", "[::1]:8080", 8),
    ("[::]:9100", "[::ffff:127.0.0.6]:9100", 16),
];

/// One end of a connection, or a listener: what a filter looks at.
#[derive(Clone, Copy)]
struct End<'a> {
    ipv6: bool,
    local: (&'a str, u16),
    remote: (&'a str, u16),
}

type Chooses = fn(&End) -> bool;

/// Arguments, and the same in Rust.
const FILTERS: [(&[&str], Chooses); 14] = [
    (&[], |_| true),
    (&["--port", "8080"], |end| end.local.1 == 8080 || end.remote.1 == 8080),
    (&["--port", "8081,9000-9099"], |end| {
        [8081, 9005].contains(&end.local.1) || [8081, 9005].contains(&end.remote.1)
    }),
    (&["-L", "8080,9100"], |end| [8080, 9100].contains(&end.local.1)),
    (&["-R", "8000-8999"], |end| (8000..9000).contains(&end.remote.1)),
    (&["-L", "9005", "-4"], |end| end.local.1 == 9005 && !end.ipv6),
    (&["-4"], |end| !end.ipv6),
    (&["-6"], |end| end.ipv6),
    (&["--local", "127.0.0.4/30"], |end| {
        ["127.0.0.5", "127.0.0.6"].contains(&end.local.0)
    }),
    (&["--remote", "127.0.0.5"], |end| end.remote.0 == "127.0.0.5"),
    (&["--remote", "127.0.0.0/8", "-6"], |end| {
        end.ipv6 && end.remote.0.starts_with("127.")
    }),
    (&["--local", "::1/128"], |end| end.local.0 == "::1"),
    (&["--remote", "::/0"], |end| end.ipv6),
    (&["--local", "127.0.0.1", "--local", "::1"], |end| {
        ["127.0.0.1", "::1"].contains(&end.local.0)
    }),
];

fn listeners() -> Vec<Socket> {
    SERVERS
        .iter()
        .map(|(at, _, _)| listen(at.parse().expect("an address"), 64))
        .collect()
}

/// The connections of `SERVERS`, open.
fn pairs(listeners: &[Socket]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for ((_, to, count), listener) in SERVERS.iter().zip(listeners) {
        let to: SocketAddr = to.parse().expect("an address");
        pairs.extend((0..*count).map(|_| {
            let client = connect(to);
            Pair {
                client,
                server: accept(listener),
            }
        }));
    }
    pairs
}

/// A socket as `ss` shows it; an IPv4-mapped address by its IPv4 part, as a range matches it.
fn chosen(row: &Row, chooses: Chooses) -> bool {
    let (local, remote) = (
        row.local.0.to_canonical().to_string(),
        row.remote.0.to_canonical().to_string(),
    );
    chooses(&End {
        ipv6: row.ipv6,
        local: (&local, row.local.1),
        remote: (&remote, row.remote.1),
    })
}

#[test]
fn of_snapshot() {
    in_netns(|_| {
        let listeners = listeners();
        let mut pairs = pairs(&listeners);
        // Some TIME_WAIT too: timewait sockets have addresses and ports of their own to be filtered by.
        for Pair { client, server } in pairs.split_off(17) {
            drop(client);
            read_eof(&server);
        }
        let mut wrong = Vec::new();
        for source in ["auto", "iter", "sock_diag", "proc"] {
            for (filter, chooses) in FILTERS {
                for state in [None, Some("established"), Some("listen,time_wait")] {
                    let mut args = [&["--source", source], filter].concat();
                    args.extend(state.iter().flat_map(|state| ["--state", state]));
                    let wanted = |row: &Row| {
                        chosen(row, chooses) && state.is_none_or(|state| state.split(',').any(|one| one == row.state))
                    };
                    let how = equal(&states(&snapshot(&args)), &ss::counts_of(wanted));
                    wrong.extend(how.err().map(|how| format!("{args:?}: {how}")));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        drop(pairs);
    });
}

fn of_stat(hook: Hook) {
    in_netns(|_| {
        let mut stats: Vec<Stat> = FILTERS.iter().map(|(filter, _)| Stat::start(hook, filter)).collect();
        let mut by_state = Stat::start(hook, &["--state", "fin_wait2,syn_sent"]);
        let listeners = listeners();
        let pairs = pairs(&listeners);
        let mut wrong = Vec::new();
        for (stat, (filter, chooses)) in stats.iter_mut().zip(FILTERS) {
            let wanted = ss::counts_of(|row| chosen(row, chooses));
            let how = equal(&stat.counts(), &wanted);
            wrong.extend(how.err().map(|how| format!("connections of {filter:?}: {how}")));
        }
        for Pair { client, server } in pairs {
            drop(client);
            read_eof(&server);
        }
        drop(listeners);
        for (stat, (filter, chooses)) in stats.iter_mut().zip(FILTERS) {
            let how = stat.reaches(&Cells::default(), &expected(chooses));
            wrong.extend(how.err().map(|how| format!("transitions of {filter:?}: {how}")));
        }
        let n: i64 = SERVERS.iter().map(|(_, _, count)| count).sum();
        let wanted = Cells::of("7>2 2>1 4>5 5>7").times(n);
        assert_eq!(
            by_state.reaches(&Cells::default(), &wanted),
            Ok(()),
            "--state is from or to"
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

/// With `--state` all that is shown is of the state: the sockets that `ss` has in it, and the transitions from or to it.
fn of_stat_by_state(hook: Hook) {
    in_netns(|_| {
        let listeners = listeners();
        let pairs = pairs(&listeners);
        let args = ["--state", "close_wait"];
        let mut stat = Stat::start(hook, &args);
        let csv = finish(&tcpwatch(
            &[&["stat", "0.2", "1", "--hook", hook.name(), "-o", "csv"][..], &args].concat(),
        ));
        assert_eq!(csv.code, Some(0), "{}", csv.stderr);
        let mut lines = csv.stdout.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let (header, row) = (lines.next().expect("a header"), lines.next().expect("a row"));
        assert_eq!(header.len(), row.len());
        for (name, value) in header.iter().zip(row) {
            let is_of_others = |state: &TcpState| state.key() == *name && *state != TcpState::CloseWait;
            if TcpState::ALL.iter().any(is_of_others) || name.starts_with("time_wait") || name.starts_with("opened") {
                assert_eq!(value, "", "{name} is not of CLOSE_WAIT");
            }
        }
        for pair in &pairs {
            pair.client.shutdown(Shutdown::Write).expect("shutdown()");
        }
        let n: i64 = SERVERS.iter().map(|(_, _, count)| count).sum();
        let entered = Cells::of("1>8").times(n);
        assert_eq!(stat.reaches(&Cells::default(), &entered), Ok(()));
        stat.fresh();
        let ours = stat.last()["connections"].clone();
        let in_close_wait = ss::rows().iter().filter(|row| row.state == "close_wait").count();
        assert_eq!(ours["close_wait"].as_u64(), Some(in_close_wait as u64));
        for (state, count) in ours.as_object().expect("an object") {
            let expected = (state == "close_wait").then_some(in_close_wait);
            assert_eq!(count.as_u64(), expected.map(|count| count as u64), "{state} of {ours}");
        }
        drop(pairs);
        assert_eq!(stat.reaches(&entered, &Cells::of("8>9").times(n)), Ok(()));
    });
}

/// The transitions that the chosen ends make, from nothing to nothing.
fn expected(chooses: Chooses) -> Cells {
    let mut cells = Cells::default();
    for (at, to, n) in SERVERS {
        let (at, to): (SocketAddr, SocketAddr) = (at.parse().expect("an address"), to.parse().expect("an address"));
        let ipv6 = at.is_ipv6();
        let (listens, server) = (at.ip().to_canonical().to_string(), to.ip().to_canonical().to_string());
        let client = if server == "::1" { "::1" } else { "127.0.0.1" };
        let nowhere = if ipv6 { "::" } else { "0.0.0.0" };
        if chooses(&End {
            ipv6,
            local: (&listens, at.port()),
            remote: (nowhere, 0),
        }) {
            cells.add_all(&Cells::of("7>10 10>7"));
        }
        if chooses(&End {
            ipv6,
            local: (client, 0),
            remote: (&server, to.port()),
        }) {
            cells.add_all(&Cells::of("7>2 2>1 1>4 4>5 5>7").times(n));
        }
        if chooses(&End {
            ipv6,
            local: (&server, at.port()),
            remote: (client, 0),
        }) {
            cells.add_all(&Cells::of("10>3 3>1 1>8 8>9 9>7").times(n));
        }
    }
    cells
}
