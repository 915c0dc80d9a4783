//! `LISTEN`, `SYN_SENT`, `SYN_RECV`, `ESTABLISHED`.

use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

use super::Held;
use crate::support::proc_tcp::until_in;
use crate::support::sockets::{Pair, address, bound, deafen, listen, pair, socket, start_connect};

impl Held {
    /// One listener, kept open; what is given is a second descriptor of it.
    pub(super) fn listener(&mut self, at: SocketAddr) -> Socket {
        let listener = listen(at, 128);
        self.count("listen", 1);
        self.keep(listener.try_clone().expect("dup"));
        listener
    }

    /// `count` listeners on one port.
    pub(super) fn reuse_port(&mut self, at: IpAddr, count: i64) {
        let mut port = 0;
        for _ in 0..count {
            let listener = socket(SocketAddr::new(at, port));
            listener.set_reuse_port(true).expect("SO_REUSEPORT");
            listener.bind(&SocketAddr::new(at, port).into()).expect("bind");
            listener.listen(8).expect("listen");
            port = address(&listener).port();
            self.count("listen", 1);
            self.keep(listener);
        }
    }

    /// A socket that is bound and no more: in no state anybody counts.
    pub(super) fn bound_only(&mut self, at: IpAddr) {
        self.keep(bound(SocketAddr::new(at, 0)));
    }

    /// Both ends.
    pub(super) fn established(&mut self, listener: &Socket, pairs: i64) {
        for _ in 0..pairs {
            let Pair { client, server } = pair(listener);
            until_in(1, address(listener).port(), address(&client).port());
            self.keep(client);
            self.keep(server);
        }
        self.count("established", 2 * pairs);
    }

    /// Clients of a deaf listener: no SYN is answered.
    pub(super) fn syn_sent(&mut self, at: IpAddr, count: i64) {
        let deaf = self.listener(SocketAddr::new(at, 0));
        deafen(&deaf);
        for _ in 0..count {
            let client = socket(address(&deaf));
            start_connect(&client, address(&deaf));
            self.keep(client);
        }
        self.count("syn_sent", count);
    }

    /// Deaf clients: `SYN_SENT` here, a request socket (`SYN_RECV`) there.
    pub(super) fn half_open(&mut self, listener: &Socket, count: i64) {
        for _ in 0..count {
            let client = socket(address(listener));
            deafen(&client);
            start_connect(&client, address(listener));
            until_in(3, address(listener).port(), address(&client).port());
            self.keep(client);
        }
        self.count("syn_sent", count);
        self.count("syn_recv", count);
    }
}
