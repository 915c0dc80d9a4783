//! Listeners, their accept queues and their drops.

use std::cmp::Reverse;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use hashbrown::HashMap;

use super::owner::Owner;
use super::socket::Address;

/// A listener and its accept queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Cookie of the socket; `None` if the source does not show it.
    pub cookie: Option<NonZeroU64>,
    /// Inode number of the socket; `None` if the source does not show it.
    pub inode: Option<NonZeroU32>,
    /// Inode number of its network namespace; `None` if unknown.
    pub netns: Option<NonZeroU32>,
    /// Local address.
    pub address: Address,
    /// Local port.
    pub port: u16,
    /// Connections in the accept queue (`sk_ack_backlog`).
    pub queued: u64,
    /// Limit of the accept queue (`sk_max_ack_backlog`): the backlog given to listen(2), at most `somaxconn`. The kernel
    /// accepts one more.
    pub limit: Option<u64>,
    /// Dropped packets (`sk_drops`): its part of `TcpExt:ListenDrops`, including accept queue overflows. Also packets that no
    /// handshake has (RST, SYN with FIN, no flags), which a port scan sends.
    pub drops: Option<u64>,
    /// The process that holds it.
    pub owner: Option<Owner>,
    /// Number of sockets of this owner at this address and port (`SO_REUSEPORT`), shown as one.
    pub sockets: u64,
}

impl Listener {
    /// The inode number of its socket, if its owner is unknown: /proc may show the process that holds it.
    #[must_use]
    pub fn asks_owner(&self) -> Option<NonZeroU32> {
        self.inode.filter(|_| self.owner.is_none())
    }

    /// Whether the accept queue is full (`sk_acceptq_is_full`).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.queued > limit)
    }

    /// Address and port: `0.0.0.0:80`, `[::]:80`.
    #[must_use]
    pub fn place(&self) -> String {
        if self.address.ip.is_ipv6() {
            format!("[{}]:{}", self.address, self.port)
        } else {
            format!("{}:{}", self.address, self.port)
        }
    }
}

impl fmt::Display for Listener {
    /// `0.0.0.0:80 nginx[812]`, `[::]:80`, `0.0.0.0:80 nginx[812] (8 sockets)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        if let Some(owner) = self.owner {
            write!(f, " {owner}")?;
        }
        match self.sockets {
            0 | 1 => Ok(()),
            sockets => write!(f, " ({sockets} sockets)"),
        }
    }
}

/// The listeners whose accept queue overflowed. `drops` is `TcpExt:ListenDrops` and `overflows` is `TcpExt:ListenOverflows` of
/// the same time. Empty if either is unknown.
///
/// The drops of all listeners must add up to `drops`, within a tenth. If not, a closed listener dropped the rest, or a port
/// scan hit some. A listener is returned only if it dropped more than all other reasons together can explain.
#[must_use]
pub fn overflowed(listeners: &[Listener], overflows: Option<u64>, drops: Option<u64>) -> Vec<&Listener> {
    let Some((overflows, drops)) = overflows.zip(drops) else {
        return Vec::new();
    };
    let of_all = listeners
        .iter()
        .filter_map(|listener| listener.drops)
        .fold(0, u64::saturating_add);
    let doubt = drops / 10;
    if of_all.abs_diff(drops) > doubt {
        return Vec::new();
    }
    let otherwise = drops.saturating_sub(overflows).saturating_add(doubt);
    listeners
        .iter()
        .filter(|listener| listener.drops.is_some_and(|drops| drops > otherwise))
        .collect()
}

/// The owner of all `listeners`; `None` if there are several owners or an unknown one.
#[must_use]
pub fn owner_of_all(listeners: &[&Listener]) -> Option<Owner> {
    let owner = listeners.first()?.owner;
    owner.filter(|_| listeners.iter().all(|listener| listener.owner == owner))
}

/// Merges listeners of one owner at the same address and port of a network namespace, and adds up their drops. The listener with the most
/// drops comes first.
#[must_use]
pub fn by_place(listeners: impl IntoIterator<Item = Listener>) -> Vec<Listener> {
    let mut places: Vec<Listener> = Vec::new();
    for listener in listeners {
        let key = |listener: &Listener| (listener.netns, listener.address, listener.port, listener.owner);
        let is_there = |place: &&mut Listener| key(place) == key(&listener);
        let Some(place) = places.iter_mut().find(is_there) else {
            places.push(listener);
            continue;
        };
        let drops = place.drops.zip(listener.drops);
        place.drops = drops.map(|(all, more)| all.saturating_add(more));
        place.sockets = place.sockets.saturating_add(listener.sockets);
    }
    places.sort_by_key(|place| Reverse(place.drops));
    places
}

/// Counts the drops of listeners between two reads. It keeps the listeners of the last read, and none of a namespace that is gone.
#[derive(Debug, Default)]
pub struct Drops {
    /// Drops of each listener at the last read, by namespace.
    before: HashMap<u32, HashMap<NonZeroU64, u64>>,
}

impl Drops {
    /// Takes the current `listeners` of the namespace `netns`. Returns those with drops since the last read, and these drops. The
    /// first read is the base. A listener that is new in a later read has dropped all its packets since.
    pub fn update(&mut self, netns: u32, listeners: Vec<Listener>) -> Vec<Listener> {
        let known = listeners
            .iter()
            .filter_map(|listener| listener.cookie.zip(listener.drops));
        let now: HashMap<_, _> = known.collect();
        let Some(before) = self.before.insert(netns, now) else {
            return Vec::new();
        };
        let since = listeners.into_iter().filter_map(|listener| {
            let (cookie, drops) = listener.cookie.zip(listener.drops)?;
            // The kernel's counter wraps at 2^32.
            let more = drops.wrapping_sub(before.get(&cookie).copied().unwrap_or(0)) & u64::from(u32::MAX);
            (more > 0).then_some(Listener {
                drops: Some(more),
                ..listener
            })
        });
        since.collect()
    }

    /// Forgets the namespaces for which `exists` is false.
    pub fn retain(&mut self, exists: impl Fn(u32) -> bool) {
        self.before.retain(|&netns, _| exists(netns));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::input::owner::{Comm, How};
    use std::net::Ipv4Addr;

    /// A listener of `nginx[7]` with this queue and limit.
    pub(crate) fn listener(port: u16, queued: u64, limit: u64) -> Listener {
        Listener {
            cookie: None,
            inode: None,
            netns: None,
            address: Address::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            port,
            queued,
            limit: Some(limit),
            drops: Some(0),
            sockets: 1,
            owner: Some(Owner {
                pid: NonZeroU32::new(7),
                comm: Comm::new(b"nginx"),
                how: How::Scan,
                cgroup: None,
            }),
        }
    }

    /// A listener with this number of drops.
    pub(crate) fn dropping(port: u16, cookie: u64, drops: u64) -> Listener {
        Listener {
            cookie: NonZeroU64::new(cookie),
            drops: Some(drops),
            ..listener(port, 3, 2)
        }
    }

    #[test]
    fn what_was_dropped_is_told_once_and_of_whom() {
        let mut drops = Drops::default();
        let first = drops.update(1, vec![dropping(80, 1, 1000), dropping(81, 2, 5)]);
        assert_eq!(first, [], "a history is no event");
        let all = vec![dropping(80, 1, 1003), dropping(81, 2, 5), dropping(82, 3, 9)];
        assert_eq!(drops.update(1, all.clone()), [dropping(80, 1, 3), dropping(82, 3, 9)]);
        assert_eq!(drops.update(1, all), []);
        // The same cookie in another namespace is another socket.
        assert_eq!(drops.update(2, vec![dropping(80, 1, 4)]), []);
        assert_eq!(drops.update(1, vec![dropping(80, 1, 1003)]), []);
        drops.retain(|netns| netns == 2);
        assert_eq!(drops.update(1, vec![dropping(80, 1, 1003)]), []);
        let since = drops.update(2, vec![dropping(80, 1, 6)]);
        assert_eq!(since, [dropping(80, 1, 2)], "one that is gone is forgotten");
    }

    #[test]
    fn a_count_that_went_round_is_no_large_one() {
        let mut drops = Drops::default();
        assert_eq!(drops.update(1, vec![dropping(80, 1, u64::from(u32::MAX))]), []);
        assert_eq!(drops.update(1, vec![dropping(80, 1, 1)]), [dropping(80, 1, 2)]);
    }

    #[test]
    fn sockets_that_share_a_port_are_one() {
        let mut other = dropping(80, 2, 4);
        other.owner = None;
        let places = by_place([dropping(80, 1, 3), other.clone(), dropping(80, 3, 2)]);
        let both = Listener {
            sockets: 2,
            ..dropping(80, 1, 5)
        };
        assert_eq!(both.to_string(), "0.0.0.0:80 nginx[7] (2 sockets)");
        assert_eq!(places, [both, other]);
    }

    #[test]
    fn equal_ports_of_two_namespaces_are_two_listeners() {
        let [here, there] = [1, 2].map(|netns| Listener {
            netns: NonZeroU32::new(netns),
            ..dropping(80, netns.into(), 3)
        });
        assert_eq!(by_place([here.clone(), there.clone()]), [here, there]);
    }

    #[test]
    fn who_may_have_dropped_for_another_reason_is_not_named() {
        let listeners = [dropping(80, 1, 100), dropping(81, 2, 30)];
        let ports = |overflows, drops| -> Vec<u16> {
            let found = overflowed(&listeners, overflows, drops);
            found.iter().map(|listener| listener.port).collect()
        };
        assert_eq!(ports(Some(130), Some(130)), [80, 81]);
        assert_eq!(
            ports(Some(113), Some(130)),
            [80],
            "17 had another reason, and 13 are in doubt"
        );
        assert_eq!(ports(Some(30), Some(130)), [0_u16; 0]);
        assert_eq!(
            ports(Some(1), Some(1)),
            [0_u16; 0],
            "a scan: more than what the kernel counts as dropped"
        );
        assert_eq!(ports(Some(1_000), Some(1_000)), [0_u16; 0], "it was one that is gone");
        assert_eq!(ports(Some(140), Some(140)), [80, 81]);
        assert_eq!(ports(Some(130), None), [0_u16; 0]);
        assert_eq!(ports(None, Some(130)), [0_u16; 0]);
        let silent = Listener {
            drops: None,
            ..listener(80, 0, 5)
        };
        assert_eq!(overflowed(&[silent], Some(1), Some(1)), [&listeners[0]; 0]);
    }
}
