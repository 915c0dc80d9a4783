//! Both sides at once.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;

use super::{Workload, at_least, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::{until_in, until_state};
use crate::support::sockets::{
    Pair, address, bound, deafen, listen, pair, read_eof, reset, send_fin, start_connect, undeafen,
};

pub(super) const WORKLOADS: [Workload; 5] = [
    exactly("simultaneous open with itself", open_with_itself, "7>2 2>3 3>1 1>7"),
    at_least("simultaneous open of two sockets", open, "7>2x2 2>3 3>1 1>7x2"),
    exactly(
        "simultaneous close, one FIN unheard",
        close_unheard,
        "7>10 7>2 2>1 10>3 3>1 1>4x2 4>11 11>7 4>5 5>7 10>7",
    ),
    exactly(
        "close() after shutdown() in CLOSING",
        close_in_closing,
        "7>10 7>2 2>1 10>3 3>1 1>4x2 4>11 11>11 11>7 4>5 5>7 10>7",
    ),
    at_least(
        "simultaneous close of 200 connections",
        close,
        "7>2x200 3>1x200 1>4x200",
    ),
];

/// `7>2 2>3 3>1`: a socket that connects to itself; then `1>7`, a reset.
fn open_with_itself(_: &Netns) {
    let socket = bound(SocketAddr::new(LOOPBACK, 0));
    socket.connect(&address(&socket).into()).expect("connect to itself");
    reset(socket);
}

/// Two sockets connect to each other, each SYN lost once: `7>2` twice, `2>3 3>1` on one at least, the other may go
/// `2>1`; then `1>7` twice, a reset.
fn open(_: &Netns) {
    let one = bound(SocketAddr::new(LOOPBACK, 0));
    let other = bound(SocketAddr::new(LOOPBACK, 0));
    deafen(&one);
    deafen(&other);
    start_connect(&one, address(&other));
    start_connect(&other, address(&one));
    undeafen(&one);
    undeafen(&other);
    let (here, there) = (address(&one).port(), address(&other).port());
    until_in(1, here, there);
    until_in(1, there, here);
    reset(one);
}

/// Client `1>4 4>11 11>7`, server `1>4 4>5 5>7`: the server hears the client's FIN after having sent its own.
fn close_unheard(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair {
        client: _client,
        server,
    } = unheard(&listener);
    undeafen(&server);
    read_eof(&server);
}

/// As above, with `11>11` by the client's `close()` while it is in `CLOSING`.
fn close_in_closing(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = unheard(&listener);
    drop(client);
    undeafen(&server);
    read_eof(&server);
}

/// A client in `CLOSING` and a deaf server in `FIN_WAIT1`.
fn unheard(listener: &socket2::Socket) -> Pair {
    let pair = pair(listener);
    deafen(&pair.server);
    send_fin(&pair.client);
    send_fin(&pair.server);
    until_state(&pair.client, 11);
    pair
}

/// Both sides `1>4`, then whatever the race gives: `4>11 11>7` on both, or an ordinary close.
fn close(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let start = Barrier::new(2);
    for _ in 0..200 {
        let Pair { client, server } = pair(&listener);
        thread::scope(|scope| {
            for socket in [&client, &server] {
                scope.spawn(|| {
                    start.wait();
                    send_fin(socket);
                    read_eof(socket);
                });
            }
        });
    }
}
