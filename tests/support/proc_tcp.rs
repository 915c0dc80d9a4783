//! The state of one socket, from `/proc/net/tcp{,6}`: what a workload waits for before its next step.

use std::fs;

use socket2::Socket;

use super::clock::eventually;
use super::sockets::address;

/// Waits until the connection from `local` to `remote` is in the state numbered `state`.
pub(crate) fn until_in(state: u8, local: u16, remote: u16) {
    eventually(&format!("{local}>{remote} to be in state {state}"), || {
        let seen = look(local, remote);
        if seen == Some(state) {
            Ok(())
        } else {
            Err(format!("it is in {seen:?}"))
        }
    });
}

/// Waits until `socket`, which is connected, is in the state numbered `state`.
pub(crate) fn until_state(socket: &Socket, state: u8) {
    let peer = socket
        .peer_addr()
        .expect("getpeername")
        .as_socket()
        .expect("an internet socket");
    until_in(state, address(socket).port(), peer.port());
}

/// The state of the socket between two ports of this namespace; a timewait socket shows its substate.
pub(crate) fn look(local: u16, remote: u16) -> Option<u8> {
    row(local, remote, |columns| u8::from_str_radix(columns.get(3)?, 16).ok())
}

/// The timer of window probes (`tr` of `proc_net_tcp.txt`).
pub(crate) const PROBE: u8 = 4;

/// The timer that runs for the socket between two ports of this namespace.
pub(crate) fn timer(local: u16, remote: u16) -> Option<u8> {
    row(local, remote, |columns| columns.get(5)?.split(':').next()?.parse().ok())
}

/// What `read` finds in the columns of the socket between two ports.
fn row<T>(local: u16, remote: u16, read: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"]
        .iter()
        .find_map(|file| {
            let text = fs::read_to_string(file).ok()?;
            text.lines().skip(1).find_map(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                let ends = (port(columns.get(1)?)?, port(columns.get(2)?)?);
                if ends == (local, remote) { read(&columns) } else { None }
            })
        })
}

/// The port of `0100007F:1F90`.
fn port(endpoint: &str) -> Option<u16> {
    u16::from_str_radix(endpoint.rsplit(':').next()?, 16).ok()
}
