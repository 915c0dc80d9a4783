//! Listeners that go away.

use std::net::SocketAddr;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::until_in;
use crate::support::sockets::{address, bound, connect, listen, socket, start_connect};

pub(super) const WORKLOADS: [Workload; 2] = [
    exactly(
        "a listener closed with a full queue",
        full_queue,
        "7>10 7>2x3 2>1x2 10>3x2 3>1x2 10>7 1>7x4 2>7",
    ),
    exactly("a listen() that fails", listen_fails, "7>10x2 10>7x2"),
];

/// Two children wait in the queue of one, a third SYN finds no room: `10>7`, the children `1>7`, their clients `1>7`
/// by the resets, the third client `2>7`.
fn full_queue(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 1);
    let queued = [connect(address(&listener)), connect(address(&listener))];
    for client in &queued {
        until_in(1, address(&listener).port(), address(client).port());
    }
    let turned_away = socket(address(&listener));
    start_connect(&turned_away, address(&listener));
    until_in(2, address(&turned_away).port(), address(&listener).port());
    drop(listener);
    drop(turned_away);
    drop(queued);
}

/// Two sockets with `SO_REUSEADDR` bind to one port; the second `listen()` fails: `7>10 10>7`, as the first's life.
fn listen_fails(_: &Netns) {
    let first = bound(SocketAddr::new(LOOPBACK, 0));
    let second = bound(address(&first));
    first.listen(8).expect("listen");
    second.listen(8).expect_err("the port is taken");
}
