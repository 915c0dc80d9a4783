//! The states of sockets, from `/proc/net/tcp{,6}`: a workload waits for one before its next step.

use std::fs;

use socket2::Socket;

use super::clock::eventually;
use super::sockets::address;
use super::states::{Counts, STATES, none};

/// The tables of this thread's namespace.
const FILES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// Waits until the connection from `local` to `remote` is in the state numbered `state`.
pub(crate) fn until_in(state: u8, local: u16, remote: u16) {
    eventually(&format!("{local}>{remote} to be in state {state}"), || {
        let seen = state_between(local, remote);
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
pub(crate) fn state_between(local: u16, remote: u16) -> Option<u8> {
    row(local, remote, |columns| u8::from_str_radix(columns.get(3)?, 16).ok())
}

/// Waits until no process holds the socket between two ports of this namespace any more: a child that another thread makes holds it
/// until it has become another program.
pub(crate) fn until_orphan(local: u16, remote: u16) {
    eventually(&format!("{local}>{remote} to be held by nobody"), || {
        let inode = row(local, remote, |columns| columns.get(9)?.parse::<u64>().ok());
        if inode == Some(0) {
            Ok(())
        } else {
            Err(format!("its inode is {inode:?}"))
        }
    });
}

/// How many sockets are in each state, by the tables of this namespace.
pub(crate) fn counts() -> Counts {
    let mut counts = none();
    for file in FILES {
        let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
        for line in text.lines().skip(1) {
            let number = line.split_whitespace().nth(3).expect("a state");
            let number = u8::from_str_radix(number, 16).expect("the number of a state");
            let state = STATES.iter().find(|state| state.number == number);
            let state = state.unwrap_or_else(|| panic!("no state has the number {number}"));
            *counts.entry(state.key).or_default() += 1;
        }
    }
    counts
}

/// The timer of window probes (`tr` of `proc_net_tcp.txt`).
pub(crate) const PROBE: u8 = 4;

/// The timer that runs for the socket between two ports of this namespace.
pub(crate) fn timer(local: u16, remote: u16) -> Option<u8> {
    row(local, remote, |columns| columns.get(5)?.split(':').next()?.parse().ok())
}

/// What `read` finds in the columns of the socket between two ports.
fn row<T>(local: u16, remote: u16, read: impl Fn(&[&str]) -> Option<T>) -> Option<T> {
    FILES.iter().find_map(|file| {
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
