//! Sockets with more than one life.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::net::connect_unspec;
use socket2::Socket;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::sockets::{accept, address, bound, listen, read_eof, socket};

pub(super) const WORKLOADS: [Workload; 4] = [
    exactly(
        "a socket that connects twice, with a disconnect between",
        disconnect_between,
        "7>10 7>2x2 2>1x2 10>3x2 3>1x2 1>7x2 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "a socket that is refused, then connects",
        refused_first,
        "7>2x2 2>7 7>10 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly("a socket that listens twice", listens_twice, "7>10x2 10>7x2"),
    exactly(
        "no port left",
        no_port_left,
        "7>10 7>2x2 2>1 10>3 3>1 2>7 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
];

fn disconnect_between(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let client = socket(address(&listener));
    two_lives(&listener, &client);
}

/// One socket, two connections. Client `7>2 2>1 1>7`, then `7>2 2>1 1>4 4>5 5>7`; servers `10>3 3>1 1>7`, then
/// `10>3 3>1 1>8 8>9 9>7`.
pub(crate) fn two_lives(listener: &Socket, client: &Socket) {
    client.connect(&address(listener).into()).expect("connect");
    let first = accept(listener);
    connect_unspec(client).expect("disconnect by AF_UNSPEC");
    drop(first);
    client.connect(&address(listener).into()).expect("connect again");
    let second = accept(listener);
    client.shutdown(std::net::Shutdown::Write).expect("shutdown");
    read_eof(&second);
    drop(second);
    read_eof(client);
}

/// `7>2 2>7`, then on the same socket `7>2 2>1 1>4 4>5 5>7`; server `10>3 3>1 1>8 8>9 9>7`.
fn refused_first(_: &Netns) {
    let place = bound(SocketAddr::new(LOOPBACK, 0));
    let client = socket(address(&place));
    client.connect(&address(&place).into()).expect_err("nobody listens");
    place.listen(8).expect("listen");
    client.connect(&address(&place).into()).expect("connect again");
    let server = accept(&place);
    drop(client);
    read_eof(&server);
}

/// `7>10 10>7` twice on one socket.
fn listens_twice(_: &Netns) {
    let socket = listen(SocketAddr::new(LOOPBACK, 0), 8);
    socket
        .shutdown(std::net::Shutdown::Read)
        .expect("a listener stops by shutdown");
    socket.listen(8).expect("listen again");
}

/// `7>2 2>7` on the connect that finds no port (EADDRNOTAVAIL); before it a whole connection takes the only one.
fn no_port_left(netns: &Netns) {
    // To another port each time: in the first second of TIME_WAIT nobody may connect from the only one to the same again.
    static TO: AtomicU16 = AtomicU16::new(2);
    netns.set("ipv4/ip_local_port_range", "40001 40001");
    let listener = listen(SocketAddr::new(LOOPBACK, TO.fetch_add(1, Ordering::Relaxed)), 8);
    let client = socket(address(&listener));
    client.connect(&address(&listener).into()).expect("the only port");
    let server = accept(&listener);
    let unlucky = socket(address(&listener));
    let error = unlucky
        .connect(&address(&listener).into())
        .expect_err("no port is left");
    assert_eq!(error.kind(), std::io::ErrorKind::AddrNotAvailable);
    drop(client);
    read_eof(&server);
    netns.set("ipv4/ip_local_port_range", "32768 60999");
}
