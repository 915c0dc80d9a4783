//! `-L` and `-R` show whole connections, the opening too, though ports are not chosen yet when it happens.

use std::net::{IpAddr, SocketAddr};

use crate::support::netns::in_netns;
use crate::support::program::event::{Event, lives, path};
use crate::support::program::trace::{Probe, Trace};
use crate::support::program::{Hook, on_both_hooks};
use crate::support::sockets::{Pair, accept, address, bound, listen, pair, read_eof, socket};
use crate::support::{LOOPBACK, LOOPBACK_V6};

const CLIENT: &str = "7>2 2>1 1>4 4>5 5>7";
const SERVER: &str = "10>3 3>1 1>8 8>9 9>7";
/// The port of the server.
const PORT: u16 = 8080;
/// One port outside of what an ephemeral port can be here.
const SPARE: u16 = 50_010;

on_both_hooks!(
    local_port_of_a_server,
    local_port_of_a_client,
    local_port_of_a_client_that_is_refused,
    remote_port_of_a_client,
    remote_port_of_a_server,
);

/// One connection closed by the client, over IPv4 and over IPv6.
fn both_families(mut connect: impl FnMut(IpAddr)) {
    connect(LOOPBACK);
    connect(LOOPBACK_V6);
}

fn one_connection(at: IpAddr) {
    let listener = listen(SocketAddr::new(at, PORT), 8);
    let Pair { client, server } = pair(&listener);
    drop(client);
    read_eof(&server);
}

fn probe(port: u16) -> Probe {
    Probe { port, ipv6: false }
}

/// The trace must end having shown exactly these lives, each with every transition on record once.
fn shows(trace: Trace, wanted: &[&str]) -> Vec<Vec<Event>> {
    let steps: usize = wanted.iter().map(|path| path.split(' ').count()).sum();
    trace.until_events(steps);
    let mut lives = lives(&trace.finish().events);
    // An opening that had to wait for its port is printed late, with its own time.
    for life in &mut lives {
        life.sort_by_key(|event| event.time);
    }
    let mut shown: Vec<String> = lives.iter().map(|life| path(life)).collect();
    shown.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(shown, wanted, "{lives:#?}");
    lives
}

fn local_port_of_a_server(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::probed(hook, &["-L", "8080"], probe(PORT));
        both_families(one_connection);
        for life in shows(trace, &["7>10 10>7", SERVER, "7>10 10>7", SERVER]) {
            for event in life {
                assert_eq!(event.lport, Some(PORT.into()), "{event:?}");
            }
        }
    });
}

fn local_port_of_a_client(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/ip_local_port_range", "50000 50009");
        let trace = Trace::probed(hook, &["--lport", "50000-50010"], probe(SPARE));
        both_families(one_connection);
        for life in shows(trace, &[CLIENT, CLIENT]) {
            for event in &life[1..] {
                assert!(
                    event.lport.is_some_and(|port| (50_000..50_010).contains(&port)),
                    "{event:?}"
                );
                assert_eq!(event.rport, Some(PORT.into()), "{event:?}");
            }
        }
    });
}

fn local_port_of_a_client_that_is_refused(hook: Hook) {
    in_netns(|netns| {
        netns.set("ipv4/ip_local_port_range", "50000 50009");
        let trace = Trace::probed(hook, &["-L", "50000-50010"], probe(SPARE));
        both_families(|at| {
            let nobody = bound(SocketAddr::new(at, PORT));
            socket(address(&nobody))
                .connect(&address(&nobody).into())
                .expect_err("nobody listens");
        });
        shows(trace, &["7>2 2>7", "7>2 2>7"]);
    });
}

fn remote_port_of_a_client(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::probed(hook, &["-R", "8080"], probe(PORT));
        both_families(one_connection);
        for life in shows(trace, &[CLIENT, CLIENT]) {
            for event in life {
                assert_eq!(event.rport, Some(PORT.into()), "{event:?}");
            }
        }
    });
}

fn remote_port_of_a_server(hook: Hook) {
    in_netns(|_| {
        let trace = Trace::probed(hook, &["--rport", "8080,45001"], probe(PORT));
        both_families(|at| {
            let listener = listen(SocketAddr::new(at, 0), 8);
            let client = bound(SocketAddr::new(at, 45_001));
            client.connect(&address(&listener).into()).expect("connect");
            let server = accept(&listener);
            drop(client);
            read_eof(&server);
        });
        shows(trace, &[SERVER, SERVER]);
    });
}
