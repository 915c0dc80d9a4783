//! Connections of which one side has closed.

use std::io::{Read, Write};
use std::net::SocketAddr;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::until_state;
use crate::support::sockets::{Pair, deafen, listen, pair, read_eof, send_fin, undeafen};

pub(super) const WORKLOADS: [Workload; 6] = [
    exactly(
        "half-close, the server still sends",
        half_close,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "orphan in FIN_WAIT2",
        orphan,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "orphan in FIN_WAIT2 that stays a full socket",
        full_orphan,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "close() after shutdown() in FIN_WAIT2",
        close_after_shutdown,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "close() after shutdown() in FIN_WAIT1",
        close_in_fin_wait1,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "close() after shutdown() in LAST_ACK",
        close_in_last_ack,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>9 9>7 10>7",
    ),
];

/// Client `1>4 4>5`, then it reads on until the server's FIN: `5>7`. Server `1>8 8>9 9>7`.
fn half_close(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { mut client, mut server } = pair(&listener);
    send_fin(&client);
    read_eof(&server);
    server.write_all(b"after your FIN").expect("send");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("receive");
    assert_eq!(answer, b"after your FIN");
}

/// Client `1>4 4>5 5>7`: `close()`d while the server keeps open, it becomes a timewait socket in `FIN_WAIT2`.
fn orphan(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    drop(client);
    read_eof(&server);
}

/// Client `1>4 4>5 5>5`, an orphan with a timeout beyond 60 s, `5>7` at the server's FIN. Server `1>8 8>9 9>7`.
fn full_orphan(netns: &Netns) {
    netns.set("ipv4/tcp_fin_timeout", "3600");
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    send_fin(&client);
    read_eof(&server);
    until_state(&client, 5);
    drop(client);
    drop(server);
    netns.set("ipv4/tcp_fin_timeout", "60");
}

/// Client `1>4 4>5 5>5 5>7`, server `1>8 8>9 9>7`.
fn close_after_shutdown(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    send_fin(&client);
    read_eof(&server);
    until_state(&client, 5);
    drop(client);
}

/// Client `1>4 4>4`, its FIN unheard; when it is heard `4>5 5>7`. Server `1>8 8>9 9>7`.
fn close_in_fin_wait1(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    deafen(&server);
    send_fin(&client);
    drop(client);
    undeafen(&server);
    read_eof(&server);
}

/// Server `1>8 8>9 9>9`, its FIN unheard; when it is heard `9>7`. Client `1>4 4>5 5>7`.
fn close_in_last_ack(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    send_fin(&client);
    read_eof(&server);
    until_state(&client, 5);
    deafen(&client);
    send_fin(&server);
    drop(server);
    undeafen(&client);
    read_eof(&client);
}
