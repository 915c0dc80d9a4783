//! IPv6, and IPv4 in IPv6's clothes.

use std::net::{Ipv6Addr, SocketAddr};

use super::{Workload, exactly};
use crate::support::netns::Netns;
use crate::support::sockets::{Pair, accept, address, connect, listen, pair, read_eof};
use crate::support::{LOOPBACK, LOOPBACK_MAPPED, LOOPBACK_V6};

const ONE_CONNECTION: &str = "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7";

pub(super) const WORKLOADS: [Workload; 3] = [
    exactly("IPv6", ipv6, ONE_CONNECTION),
    exactly(
        "an IPv6 socket connects to an IPv4-mapped address",
        mapped_client,
        ONE_CONNECTION,
    ),
    exactly("an IPv6 listener accepts IPv4", mapped_server, ONE_CONNECTION),
];

/// Client `7>2 2>1 1>4 4>5 5>7`, server `10>3 3>1 1>8 8>9 9>7`, as over IPv4.
fn ipv6(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK_V6, 0), 8);
    let Pair { client, server } = pair(&listener);
    drop(client);
    read_eof(&server);
}

/// The same; the client is `AF_INET6` at `::ffff:127.0.0.1`, the listener `AF_INET`.
fn mapped_client(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let client = connect(SocketAddr::new(LOOPBACK_MAPPED, address(&listener).port()));
    let server = accept(&listener);
    drop(client);
    read_eof(&server);
}

/// The same; the listener is `AF_INET6` at `::` and takes a client of `AF_INET`.
fn mapped_server(_: &Netns) {
    let listener = listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0), 8);
    let client = connect(SocketAddr::new(LOOPBACK, address(&listener).port()));
    let server = accept(&listener);
    drop(client);
    read_eof(&server);
}
