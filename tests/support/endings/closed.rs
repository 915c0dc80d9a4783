//! Connections that end by two FINs, and those whose application or administrator ends them otherwise.

use std::io::{Read, Write};
use std::net::SocketAddr;

use rustix::net::connect_unspec;
use socket2::Socket;

use super::{Kind, kind};
use crate::support::LOOPBACK;
use crate::support::clock::until;
use crate::support::netns::{Hop, Netns};
use crate::support::peers::ss;
use crate::support::proc_tcp::{state_between, until_in, until_state};
use crate::support::sockets::{
    Pair, accept, address, connect, deafen, listen, pair, read_eof, send_fin, set_option, undeafen, until_error,
};

pub(super) const KINDS: [Kind; 10] = [
    kind(
        "the client closes first",
        7,
        client_first,
        "active graceful_active, passive graceful_passive",
    ),
    kind(
        "the server closes first",
        5,
        server_first,
        "passive graceful_active, active graceful_passive",
    ),
    kind(
        "both close, the client hears of it first",
        3,
        client_hears_first,
        "active simultaneous, passive graceful_active",
    ),
    kind(
        "both close, the server hears of it first",
        2,
        server_hears_first,
        "passive simultaneous, active graceful_active",
    ),
    kind(
        "the client is gone before the server closes",
        4,
        client_gone,
        "active closed_first, passive graceful_passive",
    ),
    kind(
        "the server is gone before the client closes",
        6,
        server_gone,
        "passive closed_first, active graceful_passive",
    ),
    kind(
        "a connection that has an old error",
        1,
        old_error,
        "active graceful_active",
    ),
    kind("ss -K", 8, killed, "active killed, passive reset_by_peer"),
    kind(
        "a listener is closed before it accepts",
        9,
        never_accepted,
        "passive listener_closed, active reset_by_peer",
    ),
    kind(
        "connect() to AF_UNSPEC",
        11,
        disconnected,
        "active disconnected, passive reset_by_peer",
    ),
];

fn listener() -> Socket {
    listen(SocketAddr::new(LOOPBACK, 0), 128)
}

/// `first` sends its FIN and waits for the other's.
pub(crate) fn close_in_order(first: &Socket, second: Socket) {
    send_fin(first);
    read_eof(&second);
    until_state(first, 5);
    drop(second);
    read_eof(first);
}

fn client_first(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_in_order(&client, server);
    }
}

fn server_first(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_in_order(&server, client);
    }
}

/// Both send a FIN, that of `first` unheard until the other's has come.
fn close_at_once(first: &Socket, second: &Socket) {
    deafen(second);
    send_fin(first);
    send_fin(second);
    until_state(first, 11);
    undeafen(second);
    read_eof(second);
}

fn client_hears_first(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_at_once(&client, &server);
    }
}

fn server_hears_first(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_at_once(&server, &client);
    }
}

/// `first` is `close()`d and becomes a timewait socket in `FIN_WAIT2`; then `second` closes.
///
/// `second` hears of it by the second FIN. An ACK that comes while `close()` goes on may leave `first` a full socket (`sock_owned_by_user`
/// in `tcp_rcv_state_process`, `net/ipv4/tcp_input.c`), whose end is another.
fn close_after(first: Socket, second: Socket) {
    let (here, there) = (address(&first).port(), address(&second).port());
    deafen(&second);
    drop(first);
    undeafen(&second);
    read_eof(&second);
    until_in(5, here, there);
    drop(second);
}

fn client_gone(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_after(client, server);
    }
}

fn server_gone(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        close_after(server, client);
    }
}

/// The client is told of an error that passes (`IP_RECVERR`), and closes in order with the error still there. The server is
/// in another namespace.
fn old_error(_: &Netns, times: i64) {
    let hop = Hop::new();
    let listener = hop.neighbour.run(|_| listen(SocketAddr::new(Hop::THERE, 80), 8));
    for _ in 0..times {
        let Pair { mut client, mut server } = pair(&listener);
        set_option(&client, libc::IPPROTO_IP, libc::IP_RECVERR, 1);
        let (here, there) = (address(&client).port(), address(&listener).port());
        hop.is_there(false);
        client.write_all(b"x").expect("send");
        until_error(&client);
        hop.is_there(true);
        server.read_exact(&mut [0; 1]).expect("receive");
        send_fin(&client);
        read_eof(&server);
        until_in(5, here, there);
        drop(server);
        until_in(6, here, there);
        assert!(
            client.take_error().expect("SO_ERROR").is_some(),
            "the error was there to the end"
        );
    }
}

fn killed(_: &Netns, times: i64) {
    let listener = listener();
    let pairs: Vec<Pair> = (0..times).map(|_| pair(&listener)).collect();
    let port = address(&listener).port();
    ss::kill(&["state", "established", "dport", "=", &port.to_string()]);
    for Pair { client, .. } in &pairs {
        assert_eq!(
            state_between(address(client).port(), port),
            None,
            "ss -K closed nothing: this kernel is built without INET_DIAG_DESTROY"
        );
    }
}

fn never_accepted(_: &Netns, times: i64) {
    let listener = listener();
    let clients: Vec<Socket> = (0..times).map(|_| connect(address(&listener))).collect();
    let port = address(&listener).port();
    for client in &clients {
        until_in(1, port, address(client).port());
    }
    drop(listener);
    until("the clients to be reset", || {
        clients.iter().all(|client| client.peer_addr().is_err())
    });
}

fn disconnected(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let client = connect(address(&listener));
        let server = accept(&listener);
        connect_unspec(&client).expect("disconnect by AF_UNSPEC");
        until_error(&server);
    }
}
