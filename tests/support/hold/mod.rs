//! Sockets held in every state one can hold, without a firewall: a drop-all filter makes a socket deaf.

use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

use super::netns::Netns;
use super::states::{Counts, none};

mod closing;
mod opening;

/// Sockets in known states, which stay so for half a minute at least.
pub(crate) struct Held {
    sockets: Vec<Socket>,
    /// How many are in each state, timewait and request sockets among them.
    pub(crate) counts: Counts,
}

/// How many of each to hold. Choose them so that no two states come out equal: a mix-up must show.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) established_pairs: i64,
    pub(crate) full_fin_wait2: i64,
    pub(crate) orphans_in_fin_wait2: i64,
    pub(crate) timewait_in_fin_wait2: i64,
    pub(crate) time_wait: i64,
    pub(crate) syn_sent: i64,
    pub(crate) half_open: i64,
    pub(crate) last_ack: i64,
    pub(crate) closing: i64,
    pub(crate) fin_wait1: i64,
    pub(crate) reuse_port: i64,
    pub(crate) listeners: i64,
}

/// For the first address.
pub(crate) const FIRST: Numbers = Numbers {
    established_pairs: 6,
    full_fin_wait2: 3,
    orphans_in_fin_wait2: 1,
    timewait_in_fin_wait2: 3,
    time_wait: 5,
    syn_sent: 2,
    half_open: 6,
    last_ack: 2,
    closing: 3,
    fin_wait1: 1,
    reuse_port: 4,
    listeners: 4,
};

/// For the second.
pub(crate) const SECOND: Numbers = Numbers {
    established_pairs: 7,
    full_fin_wait2: 4,
    orphans_in_fin_wait2: 2,
    timewait_in_fin_wait2: 6,
    time_wait: 9,
    syn_sent: 1,
    half_open: 13,
    last_ack: 3,
    closing: 5,
    fin_wait1: 2,
    reuse_port: 5,
    listeners: 4,
};

impl Held {
    /// `numbers` of each state at `address`. The listeners of all connections are on a port the kernel chooses.
    pub(crate) fn at(netns: &Netns, address: IpAddr, numbers: Numbers) -> Self {
        let mut held = Self {
            sockets: Vec::new(),
            counts: none(),
        };
        let listener = held.listener(SocketAddr::new(address, 0));
        held.established(&listener, numbers.established_pairs);
        held.full_fin_wait2(&listener, numbers.full_fin_wait2);
        held.orphans_in_fin_wait2(netns, &listener, numbers.orphans_in_fin_wait2);
        held.timewait_in_fin_wait2(&listener, numbers.timewait_in_fin_wait2);
        held.time_wait(&listener, numbers.time_wait);
        held.last_ack(&listener, numbers.last_ack);
        held.closing(&listener, numbers.closing);
        held.fin_wait1(&listener, numbers.fin_wait1);
        held.syn_sent(address, numbers.syn_sent);
        held.half_open(&listener, numbers.half_open);
        held.reuse_port(address, numbers.reuse_port);
        for _ in 0..numbers.listeners {
            drop(held.listener(SocketAddr::new(address, 0)));
        }
        held.bound_only(address);
        held.sockets.push(listener);
        held
    }

    /// Counts `count` more sockets in `state`.
    fn count(&mut self, state: &'static str, count: i64) {
        *self.counts.entry(state).or_default() += count;
    }

    /// Keeps `socket` open.
    fn keep(&mut self, socket: Socket) {
        self.sockets.push(socket);
    }
}
