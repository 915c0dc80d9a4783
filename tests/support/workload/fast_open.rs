//! TCP Fast Open: data in the SYN, a child born before the handshake is over.

use std::io::Read;
use std::net::SocketAddr;

use socket2::Socket;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::until_in;
use crate::support::sockets::{accept, address, deafen, listen, read_eof, socket, undeafen};

pub(super) const WORKLOADS: [Workload; 2] = [
    exactly(
        "Fast Open, the second connection with the cookie of the first",
        with_cookie,
        "7>10 7>2x2 2>1x2 10>3x2 3>1x2 1>4x2 4>5x2 5>7x2 1>8x2 8>9x2 9>7x2 10>7",
    ),
    exactly(
        "Fast Open, closed by the server in SYN_RECV",
        closed_in_syn_recv,
        "7>10 7>2x2 2>1x2 10>3x2 3>1 3>4 1>4 4>5x2 5>7x2 1>8x2 8>9x2 9>7x2 10>7",
    ),
];

/// `TFO_CLIENT_ENABLE | TFO_SERVER_ENABLE | TFO_SERVER_WO_SOCKOPT1`: every listener takes Fast Open.
const EVERYWHERE: &str = "1027";

/// Connects with five bytes, which go in the SYN where the cookie is known.
fn connect_with_data(client: &Socket, listener: &Socket) {
    const MSG_FASTOPEN: i32 = 0x2000_0000;
    let sent = client.send_to_with_flags(b"hello", &address(listener).into(), MSG_FASTOPEN);
    assert_eq!(sent.expect("MSG_FASTOPEN"), 5);
}

/// Accepts and takes the five bytes.
fn accept_data(listener: &Socket) -> Socket {
    let mut server = accept(listener);
    server.read_exact(&mut [0; 5]).expect("receive");
    server
}

fn exchange(listener: &Socket) {
    let client = socket(address(listener));
    connect_with_data(&client, listener);
    let server = accept_data(listener);
    drop(client);
    read_eof(&server);
}

/// Twice client `7>2 2>1 1>4 4>5 5>7`, server `10>3 3>1 1>8 8>9 9>7`; the second child is born at the SYN.
fn with_cookie(netns: &Netns) {
    netns.set("ipv4/tcp_fastopen", EVERYWHERE);
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    exchange(&listener);
    exchange(&listener);
    netns.set("ipv4/tcp_fastopen", "1");
}

/// The first connection gets the cookie. Of the second the client is deaf, so that the server can accept, read and
/// close in `SYN_RECV`: server `10>3 3>4 4>5 5>7`, client, once it hears, `7>2 2>1 1>8 8>9 9>7`.
fn closed_in_syn_recv(netns: &Netns) {
    netns.set("ipv4/tcp_fastopen", EVERYWHERE);
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    exchange(&listener);
    let client = socket(address(&listener));
    deafen(&client);
    // Blocking, it would wait for the SYN-ACK that it can't hear.
    client.set_nonblocking(true).expect("nonblocking");
    connect_with_data(&client, &listener);
    client.set_nonblocking(false).expect("blocking");
    let server = accept_data(&listener);
    until_in(3, address(&listener).port(), address(&client).port());
    drop(server);
    undeafen(&client);
    read_eof(&client);
    netns.set("ipv4/tcp_fastopen", "1");
}
