//! Connections that end by a reset.

use std::io::Write;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};

use socket2::Socket;

use super::{Kind, kind};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::proc_tcp::{until_in, until_orphan, until_state};
use crate::support::sockets::{Pair, address, listen, pair, read_eof, reset, send_fin, set_option, until_error};

pub(super) const KINDS: [Kind; 8] = [
    kind("linger 0", 3, linger, "active reset_linger, passive reset_by_peer"),
    kind(
        "linger 0 in CLOSE_WAIT",
        4,
        linger_in_close_wait,
        "passive reset_linger, active reset_by_peer",
    ),
    kind(
        "linger 0 after shutdown(), which a disconnect looks like",
        5,
        linger_in_fin_wait2,
        "active reset_by_us, passive reset_by_peer",
    ),
    kind("data unread", 2, unread, "passive reset_unread, active reset_by_peer"),
    kind(
        "data unread in CLOSE_WAIT",
        1,
        unread_in_close_wait,
        "passive reset_unread, active reset_by_peer",
    ),
    kind(
        "data for an orphan",
        6,
        data_for_an_orphan,
        "active reset_after_close, passive reset_by_peer",
    ),
    kind(
        "data after shutdown() both ways",
        7,
        data_after_shutdown,
        "active reset_after_close, passive reset_by_peer",
    ),
    kind(
        "a negative TCP_LINGER2",
        9,
        negative_linger2,
        "active reset_after_close, passive reset_by_peer",
    ),
];

fn listener() -> Socket {
    listen(SocketAddr::new(LOOPBACK, 0), 128)
}

/// A client in `FIN_WAIT2` and a server in `CLOSE_WAIT` that has read the FIN.
fn half_closed(listener: &Socket) -> Pair {
    let pair = pair(listener);
    send_fin(&pair.client);
    read_eof(&pair.server);
    until_state(&pair.client, 5);
    pair
}

fn linger(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = pair(&listener);
        reset(client);
        until_error(&server);
    }
}

fn linger_in_close_wait(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = half_closed(&listener);
        reset(server);
        until_error(&client);
    }
}

fn linger_in_fin_wait2(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = half_closed(&listener);
        reset(client);
        until_error(&server);
    }
}

/// Waits until something has come for `socket`, and leaves it there.
pub(crate) fn until_data(socket: &Socket) {
    let seen = socket
        .peek(&mut [MaybeUninit::uninit(); 64])
        .expect("the data's arrival");
    assert!(seen > 0, "a FIN instead of data");
}

fn unread(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { mut client, server } = pair(&listener);
        client.write_all(b"never read").expect("send");
        until_data(&server);
        drop(server);
        until_error(&client);
    }
}

fn unread_in_close_wait(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { mut client, server } = pair(&listener);
        client.write_all(b"never read").expect("send");
        until_data(&server);
        send_fin(&client);
        until_state(&server, 8);
        until_state(&client, 5);
        drop(server);
        until_error(&client);
    }
}

/// The orphan is a full socket in `FIN_WAIT2`: its timeout is beyond 60 s.
fn data_for_an_orphan(netns: &Netns, times: i64) {
    netns.set("ipv4/tcp_fin_timeout", "3600");
    let listener = listener();
    for _ in 0..times {
        let Pair { client, mut server } = half_closed(&listener);
        let ports = [address(&client).port(), address(&server).port()];
        drop(client);
        until_orphan(ports[0], ports[1]);
        server.write_all(b"never read").expect("send");
        until_error(&server);
    }
    netns.set("ipv4/tcp_fin_timeout", "60");
}

fn data_after_shutdown(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, mut server } = half_closed(&listener);
        client.shutdown(Shutdown::Both).expect("shutdown");
        server.write_all(b"never read").expect("send");
        until_error(&server);
    }
}

fn negative_linger2(_: &Netns, times: i64) {
    let listener = listener();
    for _ in 0..times {
        let Pair { client, server } = half_closed(&listener);
        set_option(&client, libc::IPPROTO_TCP, libc::TCP_LINGER2, -1);
        let (here, there) = (address(&client).port(), address(&server).port());
        until_in(5, here, there);
        drop(client);
        until_error(&server);
    }
}
