//! The states on the way out.

use socket2::Socket;

use super::Held;
use crate::support::netns::Netns;
use crate::support::proc_tcp::{until_in, until_state};
use crate::support::sockets::{Pair, address, deafen, pair, read_eof, send_fin};

impl Held {
    /// Clients in `FIN_WAIT2` by `shutdown()`, full sockets; servers in `CLOSE_WAIT`.
    pub(super) fn full_fin_wait2(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = half_closed(listener);
            self.keep(client);
            self.keep(server);
        }
        self.count("fin_wait2", count);
        self.count("close_wait", count);
    }

    /// Clients `close()`d while `tcp_fin_timeout` is beyond 60 s: orphans, still full sockets, in `FIN_WAIT2`.
    pub(super) fn orphans_in_fin_wait2(&mut self, netns: &Netns, listener: &Socket, count: i64) {
        netns.set("ipv4/tcp_fin_timeout", "3600");
        self.close_half_closed(listener, count);
        netns.set("ipv4/tcp_fin_timeout", "60");
    }

    /// Clients `close()`d: timewait sockets in the substate `FIN_WAIT2`, for 60 s.
    pub(super) fn timewait_in_fin_wait2(&mut self, listener: &Socket, count: i64) {
        self.close_half_closed(listener, count);
    }

    fn close_half_closed(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = half_closed(listener);
            let (here, there) = (address(&client).port(), address(listener).port());
            drop(client);
            until_in(5, here, there);
            self.keep(server);
        }
        self.count("fin_wait2", count);
        self.count("close_wait", count);
    }

    /// Clients in `TIME_WAIT`, for 60 s; their servers are gone.
    pub(super) fn time_wait(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = half_closed(listener);
            let (here, there) = (address(&client).port(), address(listener).port());
            drop(server);
            read_eof(&client);
            drop(client);
            until_in(6, here, there);
        }
        self.count("time_wait", count);
    }

    /// Clients in `FIN_WAIT2`, deaf; servers in `LAST_ACK`, their FIN unheard.
    pub(super) fn last_ack(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = half_closed(listener);
            deafen(&client);
            send_fin(&server);
            until_state(&server, 9);
            self.keep(client);
            self.keep(server);
        }
        self.count("fin_wait2", count);
        self.count("last_ack", count);
    }

    /// Servers deaf, in `FIN_WAIT1`; clients, whose FIN they did not hear, in `CLOSING`.
    pub(super) fn closing(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = pair(listener);
            deafen(&server);
            send_fin(&client);
            send_fin(&server);
            until_state(&client, 11);
            until_state(&server, 4);
            self.keep(client);
            self.keep(server);
        }
        self.count("closing", count);
        self.count("fin_wait1", count);
    }

    /// Clients in `FIN_WAIT1`; servers deaf, in `ESTABLISHED`.
    pub(super) fn fin_wait1(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let Pair { client, server } = pair(listener);
            deafen(&server);
            send_fin(&client);
            until_state(&client, 4);
            self.keep(client);
            self.keep(server);
        }
        self.count("fin_wait1", count);
        self.count("established", count);
    }
}

/// A client in `FIN_WAIT2` and a server in `CLOSE_WAIT` that has read the FIN.
fn half_closed(listener: &Socket) -> Pair {
    let pair = pair(listener);
    send_fin(&pair.client);
    read_eof(&pair.server);
    until_state(&pair.client, 5);
    pair
}
