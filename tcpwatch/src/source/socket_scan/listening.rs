//! Finds listeners as the kernel does: by address and port, then by port alone (`inet_lookup_listener()`,
//! `net/ipv4/inet_hashtables.c`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};

use crate::input::listener::Listener;
use crate::input::socket::{Address, Detail, Family, Socket};
use crate::source::listeners::listener;

/// The local address of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place {
    netns: u32,
    family: Family,
    address: Address,
    port: u16,
}

/// All listeners. Several can have the same address (`SO_REUSEPORT`).
#[derive(Debug, Default)]
pub(super) struct Listening {
    places: HashMap<Place, Vec<Listener>>,
}

impl Listening {
    /// Adds a socket in `LISTEN`.
    pub(super) fn add(&mut self, detail: &Detail) {
        let socket = &detail.socket;
        let place = Place {
            netns: socket.netns,
            family: socket.family,
            address: socket.local,
            port: socket.lport,
        };
        self.places.entry(place).or_default().push(listener(detail));
    }

    /// The network namespaces and ports of all listeners.
    pub(super) fn ports(&self) -> HashSet<(u32, u16)> {
        self.places.keys().map(|place| (place.netns, place.port)).collect()
    }

    /// Inode numbers of the listeners that may have created `socket`, which is not accepted yet. Socket and listener have the
    /// same family, also for IPv4 connections of an IPv6 listener.
    pub(super) fn possible_listeners(&self, socket: &Socket) -> impl Iterator<Item = NonZeroU32> {
        let exact = Place {
            netns: socket.netns,
            family: socket.family,
            address: socket.local,
            port: socket.lport,
        };
        let found = self.at(&[
            exact,
            Place {
                address: any(socket.family),
                ..exact
            },
        ]);
        found.iter().filter_map(|listener| listener.inode)
    }

    /// The listener that `socket`, in `SYN_SENT`, connects to, if it is in the same network namespace. `None` if several
    /// listeners have the same address.
    pub(super) fn awaited(&self, socket: &Socket) -> Option<&Listener> {
        let (ip, zone) = (socket.remote.ip.to_canonical(), socket.remote.zone);
        let place = |family, address| Place {
            netns: socket.netns,
            family,
            address,
            port: socket.rport,
        };
        let mut places = Vec::new();
        if let IpAddr::V4(v4) = ip {
            places.push(place(Family::Ipv4, Address { ip, zone }));
            places.push(place(
                Family::Ipv6,
                Address {
                    ip: v4.to_ipv6_mapped().into(),
                    zone,
                },
            ));
        } else {
            places.push(place(Family::Ipv6, Address { ip, zone }));
        }
        // A connection to an address of this host has the same local address, except for loopback.
        if ip.is_loopback() || socket.remote == socket.local {
            if ip.is_ipv4() {
                places.push(place(Family::Ipv4, any(Family::Ipv4)));
            }
            places.push(place(Family::Ipv6, any(Family::Ipv6)));
        }
        match self.at(&places) {
            [one] => Some(one),
            _ => None,
        }
    }

    /// The listeners at the first of `places` that has any.
    fn at(&self, places: &[Place]) -> &[Listener] {
        let mut found = places.iter().filter_map(|place| self.places.get(place));
        found.next().map_or(&[], Vec::as_slice)
    }
}

/// The unspecified address of `family`.
fn any(family: Family) -> Address {
    let ip = match family {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    Address { ip, zone: 0 }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::socket::Kind;

    /// Local and remote, of the family of the former.
    fn socket(state: TcpState, local: &str, remote: &str) -> Socket {
        let end = |text: &str| text.parse::<std::net::SocketAddr>().unwrap();
        let (local, remote) = (end(local), end(remote));
        Socket {
            family: if local.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 },
            state,
            kind: Some(Kind::Full),
            local: Address::new(local.ip(), 0),
            lport: local.port(),
            remote: Address::new(remote.ip(), 0),
            rport: remote.port(),
            uid: None,
            inode: None,
            netns: 7,
        }
    }

    /// Each with its place in `places` as inode, and as many in its queue of two at most.
    fn listening(places: &[&str]) -> Listening {
        let mut all = Listening::default();
        for (number, place) in (1..).zip(places) {
            let mut socket = socket(TcpState::Listen, place, "0.0.0.0:0");
            socket.inode = NonZeroU32::new(number);
            all.add(&Detail {
                receive_queue: Some(number),
                send_queue: Some(2),
                ..Detail::from_socket(socket)
            });
        }
        all
    }

    #[test]
    fn what_waits_is_of_the_nearest_listener_of_its_family() {
        let all = listening(&[
            "0.0.0.0:80",
            "10.0.0.1:80",
            "[::]:80",
            "[::ffff:10.0.0.2]:80",
            "0.0.0.0:81",
            "0.0.0.0:81",
        ]);
        let of = |local: &str| -> Vec<u32> {
            let waits = socket(TcpState::CloseWait, local, "10.0.0.9:999");
            all.possible_listeners(&waits).map(NonZeroU32::get).collect()
        };
        assert_eq!(of("10.0.0.1:80"), [2]);
        assert_eq!(of("10.0.0.3:80"), [1]);
        assert_eq!(of("[::ffff:10.0.0.1]:80"), [3], "one of IPv4 makes no such sockets");
        assert_eq!((of("[::ffff:10.0.0.2]:80"), of("[fd00::1]:80")), (vec![4], vec![3]));
        assert_eq!(of("10.0.0.1:81"), [5, 6], "either");
        assert_eq!((of("[::1]:81"), of("10.0.0.1:82")), (vec![], vec![]));
        let elsewhere = Socket {
            netns: 8,
            ..socket(TcpState::CloseWait, "10.0.0.1:80", "10.0.0.9:999")
        };
        assert_eq!(all.possible_listeners(&elsewhere).count(), 0);
        assert_eq!(all.ports(), HashSet::from_iter([(7, 80), (7, 81)]));
    }

    #[test]
    fn whom_a_connect_waits_for_is_known_where_that_is_this_host() {
        let all = listening(&["0.0.0.0:80", "10.0.0.1:80", "[::]:82", "0.0.0.0:81", "0.0.0.0:81"]);
        let of = |local: &str, remote: &str| {
            let listener = all.awaited(&socket(TcpState::SynSent, local, remote))?;
            assert_eq!(listener.inode.map(|inode| inode.get().into()), Some(listener.queued));
            Some((listener.queued, listener.is_full()))
        };
        assert_eq!(of("10.0.0.5:9", "10.0.0.1:80"), Some((2, false)), "by its own address");
        assert_eq!(of("127.0.0.1:9", "127.0.0.1:80"), Some((1, false)));
        assert_eq!(of("10.0.0.5:9", "10.0.0.5:80"), Some((1, false)));
        assert_eq!(of("[::ffff:127.0.0.1]:9", "[::ffff:127.0.0.1]:80"), Some((1, false)));
        assert_eq!(of("10.0.0.5:9", "10.0.0.6:80"), None, "another host");
        assert_eq!(
            (of("127.0.0.1:9", "127.0.0.1:82"), of("[::1]:9", "[::1]:82")),
            (Some((3, true)), Some((3, true)))
        );
        assert_eq!(of("127.0.0.1:9", "127.0.0.1:81"), None, "either");
        assert_eq!(
            (of("[::1]:9", "[::1]:80"), of("127.0.0.1:9", "127.0.0.1:83")),
            (None, None)
        );
    }
}
