//! Connections that end by a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::until_state;
use crate::support::sockets::{Pair, address, bound, listen, pair, read_eof, reset, send_fin, socket};

pub(super) const WORKLOADS: [Workload; 4] = [
    exactly("reset by linger 0", linger, "7>10 7>2 2>1 10>3 3>1 1>7x2 10>7"),
    exactly(
        "reset because of unread data",
        unread,
        "7>10 7>2 2>1 10>3 3>1 1>7x2 10>7",
    ),
    exactly(
        "reset of a connection in CLOSE_WAIT",
        in_close_wait,
        "7>10 7>2 2>1 10>3 3>1 1>4 1>8 4>5 5>7 8>7 10>7",
    ),
    exactly("refused", refused, "7>2 2>7"),
];

/// Both sides `1>7`: the client resets, the server is told.
fn linger(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    reset(client);
    until_reset(&server);
}

/// Both sides `1>7`: the server closes without having read what came.
fn unread(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { mut client, server } = pair(&listener);
    client.write_all(b"never read").expect("send");
    server
        .peek(&mut [std::mem::MaybeUninit::uninit(); 64])
        .expect("the data's arrival");
    drop(server);
    until_reset(&client);
}

/// Client `1>4 4>5 5>7`, its last step by linger 0; server `1>8 8>7`.
fn in_close_wait(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    send_fin(&client);
    read_eof(&server);
    until_state(&client, 5);
    reset(client);
}

/// `7>2 2>7`: nobody listens there.
fn refused(_: &Netns) {
    let nobody = bound(SocketAddr::new(LOOPBACK, 0));
    let client = socket(address(&nobody));
    let error = client.connect(&address(&nobody).into()).expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Waits for the peer's reset.
fn until_reset(mut socket: &socket2::Socket) {
    let error = socket.read(&mut [0; 64]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
