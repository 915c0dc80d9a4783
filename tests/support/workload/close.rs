//! Connections that end as they should.

use std::net::SocketAddr;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::sockets::{Pair, listen, pair, read_eof};

pub(super) const WORKLOADS: [Workload; 2] = [
    exactly(
        "plain close by the client first",
        client_first,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
    exactly(
        "plain close by the server first",
        server_first,
        "7>10 7>2 2>1 10>3 3>1 1>4 4>5 5>7 1>8 8>9 9>7 10>7",
    ),
];

/// Client `7>2 2>1 1>4 4>5 5>7`, server `10>3 3>1 1>8 8>9 9>7`, listener `7>10 10>7`.
fn client_first(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    drop(client);
    read_eof(&server);
}

/// Client `7>2 2>1 1>8 8>9 9>7`, server `10>3 3>1 1>4 4>5 5>7`, listener `7>10 10>7`.
fn server_first(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    drop(server);
    read_eof(&client);
}
