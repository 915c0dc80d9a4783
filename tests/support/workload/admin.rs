//! Sockets closed by the administrator's hand.

use std::net::SocketAddr;

use super::{Workload, exactly};
use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::peers::ss;
use crate::support::proc_tcp::state_between;
use crate::support::sockets::{Pair, address, listen, pair};

pub(super) const WORKLOADS: [Workload; 2] = [
    exactly(
        "ss -K of an established connection",
        kill_connection,
        "7>10 7>2 2>1 10>3 3>1 1>7x2 10>7",
    ),
    exactly("ss -K of a listener", kill_listener, "7>10 10>7 7>7"),
];

/// Both sides `1>7`: one is killed and resets the other.
fn kill_connection(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let Pair { client, server } = pair(&listener);
    let (from, to) = (address(&client).port(), address(&listener).port());
    ss::kill(&["state", "established", "dport", "=", &to.to_string()]);
    assert_eq!(
        state_between(from, to),
        None,
        "ss -K closed nothing: this kernel is built without INET_DIAG_DESTROY"
    );
    drop(server);
}

/// `10>7`, then `7>7`.
fn kill_listener(_: &Netns) {
    let listener = listen(SocketAddr::new(LOOPBACK, 0), 8);
    let port = address(&listener).port();
    ss::kill(&["state", "listening", "sport", "=", &port.to_string()]);
    assert_eq!(
        state_between(port, 0),
        None,
        "ss -K closed nothing: this kernel is built without INET_DIAG_DESTROY"
    );
}
