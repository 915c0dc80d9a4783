//! Connections that never come to be.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use super::{Kind, kind};
use crate::support::LOOPBACK;
use crate::support::netns::{Hop, Netns};
use crate::support::proc_tcp::until_in;
use crate::support::sockets::{accept, address, bound, deafen, listen, read_eof, send_fin, socket, start_connect};

pub(super) const KINDS: [Kind; 4] = [
    kind("nobody listens", 10, refused, "active refused"),
    kind(
        "no port is left",
        12,
        no_port,
        "active no_port, active graceful_active, passive graceful_passive",
    ),
    kind("given up", 13, abandoned, "active connect_abandoned"),
    kind("there is no way there", 4, unreachable, "active unreachable"),
];

fn refused(_: &Netns, times: i64) {
    let nobody = bound(SocketAddr::new(LOOPBACK, 0));
    for _ in 0..times {
        let client = socket(address(&nobody));
        let error = client.connect(&address(&nobody).into()).expect_err("nobody listens");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}

/// The next port for [`no_port`]: one it had before may be in TIME_WAIT, where it is done again. None is of those that are given
/// out otherwise: connect(2) takes no port that a listener has, to whatever address.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_001);

/// Another connection has the one port there is.
fn no_port(netns: &Netns, times: i64) {
    let listener = listen(SocketAddr::new(LOOPBACK, 2), 8);
    let to = address(&listener).into();
    for _ in 0..times {
        let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        netns.set("ipv4/ip_local_port_range", &format!("{port} {port}"));
        let client = socket(address(&listener));
        client.connect(&to).expect("the only port");
        let server = accept(&listener);
        let error = socket(address(&listener)).connect(&to).expect_err("no port is left");
        assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
        send_fin(&client);
        read_eof(&server);
        until_in(5, port, 2);
        drop(server);
        read_eof(&client);
    }
    netns.set("ipv4/ip_local_port_range", "32768 60999");
}

fn abandoned(_: &Netns, times: i64) {
    let deaf = listen(SocketAddr::new(LOOPBACK, 0), 8);
    deafen(&deaf);
    for _ in 0..times {
        let client = socket(address(&deaf));
        start_connect(&client, address(&deaf));
        until_in(2, address(&client).port(), address(&deaf).port());
    }
}

/// A router says so. It is told in `connect()`: a caller that does not wait is told at once, and itself closes a socket that
/// goes on trying.
fn unreachable(_: &Netns, times: i64) {
    let _hop = Hop::new();
    let nowhere = SocketAddr::new(Hop::NOWHERE, 80);
    thread::scope(|scope| {
        for _ in 0..times {
            scope.spawn(|| {
                let error = socket(nowhere).connect(&nowhere.into()).expect_err("no way there");
                assert_eq!(error.kind(), ErrorKind::HostUnreachable);
            });
        }
    });
}
