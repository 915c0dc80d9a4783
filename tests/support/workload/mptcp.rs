//! Multipath TCP: its connections (protocol 262) are no TCP sockets, their subflows are.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::LOOPBACK;
use crate::support::netns::Netns;
use crate::support::sockets::{accept, address};

/// Whether this kernel makes such sockets; else why not.
pub(crate) fn available() -> Result<(), String> {
    fs::write("/proc/sys/net/mptcp/enabled", "1").map_err(|error| format!("net.mptcp.enabled: {error}"))?;
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).map_err(|error| format!("socket: {error}"))?;
    Ok(())
}

/// A listener and one connection, which stay open as long as the sockets given back.
pub(crate) fn open(_: &Netns) -> [Socket; 3] {
    let new = || Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).expect("an MPTCP socket");
    let listener = new();
    listener.bind(&SocketAddr::new(LOOPBACK, 0).into()).expect("bind");
    listener.listen(8).expect("listen");
    let client = new();
    client.connect(&address(&listener).into()).expect("connect");
    let server = accept(&listener);
    [listener, client, server]
}

/// Closes them, the client first.
pub(crate) fn close([listener, client, mut server]: [Socket; 3]) {
    drop(client);
    assert_eq!(server.read(&mut [0; 64]).expect("the peer's end"), 0);
    drop((server, listener));
}
