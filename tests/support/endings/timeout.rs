//! Connections that end because nobody answers any more. Each kind waits for a timer once, however many there are.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Socket, TcpKeepalive};

use super::{Kind, kind};
use crate::support::LOOPBACK;
use crate::support::clock::until;
use crate::support::netns::{Hop, Netns};
use crate::support::proc_tcp::{PROBE, state_between, timer, until_state};
use crate::support::sockets::{
    Pair, address, deafen, listen, pair, read_eof, reset, send_fin, socket, start_connect, until_error, until_failed,
};

pub(super) const KINDS: [Kind; 8] = [
    kind("no answer to the SYN", 3, connecting, "active timeout_connect"),
    kind(
        "no answer to data",
        5,
        sending,
        "active timeout_retransmit, passive reset_linger",
    ),
    kind(
        "no answer to an orphan's FIN",
        4,
        closing,
        "active timeout_retransmit, passive reset_linger",
    ),
    kind(
        "no answer to window probes",
        2,
        probing,
        "active timeout_retransmit, passive reset_unread",
    ),
    kind(
        "no answer to keepalive probes",
        6,
        idle,
        "active timeout_keepalive, passive reset_linger",
    ),
    kind("the way there is gone", 1, no_way_any_more, "active unreachable"),
    kind(
        "an orphan waits in vain for a FIN",
        7,
        no_fin,
        "active timeout_fin_wait2, passive reset_by_peer",
    ),
    kind(
        "an orphan becomes a timewait socket when it has waited",
        3,
        late_timewait,
        "active closed_first, passive reset_linger",
    ),
];

/// What is not acknowledged for so long ends the connection: less than the first retransmission takes.
const USER_TIMEOUT: Duration = Duration::from_millis(100);

fn pairs(times: i64) -> Vec<Pair> {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 128);
    (0..times).map(|_| pair(&listener)).collect()
}

/// The same, the servers deaf.
fn unheard(times: i64) -> Vec<Pair> {
    let pairs = pairs(times);
    for Pair { server, .. } in &pairs {
        deafen(server);
    }
    pairs
}

fn impatient(socket: &Socket) {
    socket
        .set_tcp_user_timeout(Some(USER_TIMEOUT))
        .expect("TCP_USER_TIMEOUT");
}

/// Ends them, whose clients have timed out.
fn all_time_out(pairs: Vec<Pair>) {
    for Pair { client, server } in pairs {
        until_failed(&client, Errno::TIMEDOUT);
        reset(server);
    }
}

fn connecting(_: &Netns, times: i64) {
    let deaf = listen(SocketAddr::new(LOOPBACK, 0), 8);
    deafen(&deaf);
    let clients: Vec<Socket> = (0..times).map(|_| socket(address(&deaf))).collect();
    for client in &clients {
        impatient(client);
        start_connect(client, address(&deaf));
    }
    for client in &clients {
        until_failed(client, Errno::TIMEDOUT);
    }
}

fn sending(_: &Netns, times: i64) {
    let mut pairs = unheard(times);
    for Pair { client, .. } in &mut pairs {
        impatient(client);
        client.write_all(b"unheard").expect("send");
    }
    all_time_out(pairs);
}

fn closing(_: &Netns, times: i64) {
    let mut orphans = Vec::new();
    for Pair { client, server } in unheard(times) {
        impatient(&client);
        orphans.push((address(&client).port(), server));
    }
    for (here, server) in orphans {
        let there = address(&server).port();
        until("the orphan to be gone", || state_between(here, there).is_none());
        reset(server);
    }
}

/// The server's window is shut before it goes deaf; that it has not read what came counts for more than its linger 0.
fn probing(_: &Netns, times: i64) {
    let mut pairs = pairs(times);
    for Pair { client, server } in &mut pairs {
        client.set_nonblocking(true).expect("nonblocking");
        until("the window to be shut", || {
            loop {
                match client.write(&[0; 16_384]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break is_probing(client, server),
                    Err(error) => panic!("send: {error}"),
                }
            }
        });
        deafen(server);
        impatient(client);
    }
    all_time_out(pairs);
}

/// Whether `client` has all it sent acknowledged, has more, and waits for `server` to open its window.
fn is_probing(client: &Socket, server: &Socket) -> bool {
    let (here, there) = (address(client).port(), address(server).port());
    timer(here, there) == Some(PROBE)
}

fn idle(_: &Netns, times: i64) {
    let pairs = unheard(times);
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second)
        .with_interval(second)
        .with_retries(1);
    for Pair { client, .. } in &pairs {
        client.set_tcp_keepalive(&keepalive).expect("SO_KEEPALIVE");
    }
    all_time_out(pairs);
}

/// The server is in another namespace; a router says that it is not there, which an open connection takes for a reason only
/// when its time is over.
fn no_way_any_more(_: &Netns, times: i64) {
    let hop = Hop::new();
    let listener = hop.neighbour.run(|_| listen(SocketAddr::new(Hop::THERE, 80), 8));
    let mut pairs: Vec<Pair> = (0..times).map(|_| pair(&listener)).collect();
    hop.is_there(false);
    for Pair { client, .. } in &mut pairs {
        impatient(client);
        client.write_all(b"lost").expect("send");
    }
    for Pair { client, .. } in &pairs {
        until_failed(client, Errno::HOSTUNREACH);
    }
}

/// Clients in `FIN_WAIT2`, which wait there for a second once they are `close()`d, and their servers.
fn orphans(netns: &Netns, times: i64) -> Vec<Pair> {
    netns.set("ipv4/tcp_fin_timeout", "61");
    let pairs = pairs(times);
    for Pair { client, server } in &pairs {
        send_fin(client);
        read_eof(server);
        until_state(client, 5);
    }
    pairs
}

/// The sysctl changes while they wait, so that no time is left for a timewait socket.
fn no_fin(netns: &Netns, times: i64) {
    let servers: Vec<Socket> = orphans(netns, times).into_iter().map(|pair| pair.server).collect();
    netns.set("ipv4/tcp_fin_timeout", "60");
    for server in &servers {
        until_error(server);
    }
}

fn late_timewait(netns: &Netns, times: i64) {
    let waiting: Vec<_> = orphans(netns, times)
        .into_iter()
        .map(|Pair { client, server }| (address(&client).port(), server))
        .collect();
    for (here, server) in waiting {
        let there = address(&server).port();
        until("the timewait socket's time to be over", || {
            state_between(here, there).is_none()
        });
        reset(server);
    }
    netns.set("ipv4/tcp_fin_timeout", "60");
}
