//! Who listens, what waits there to be accepted, and what was dropped there.

use std::cmp::Reverse;
use std::fmt;
use std::num::NonZeroU64;

use hashbrown::HashMap;

use super::owner::Owner;
use super::socket::Address;

/// A listener and its accept queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Which socket it is; `None` where the source does not tell.
    pub cookie: Option<NonZeroU64>,
    /// Where it listens.
    pub address: Address,
    /// At which port.
    pub port: u16,
    /// Connections that wait to be accepted (`sk_ack_backlog`).
    pub queued: u64,
    /// How many may: the backlog given to listen(2), `somaxconn` at most (`sk_max_ack_backlog`). One more finds room.
    pub limit: Option<u64>,
    /// Packets it dropped (`sk_drops`), which counts all of its `TcpExt:ListenDrops`, overflows of the accept queue among them, and
    /// little else.
    pub drops: Option<u64>,
    /// Who holds it.
    pub owner: Option<Owner>,
}

impl Listener {
    /// Whether the next connection finds no room (`sk_acceptq_is_full`).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.queued > limit)
    }

    /// `0.0.0.0:80`, `[::]:80`.
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
    /// `0.0.0.0:80 nginx[812]`, `[::]:80`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())?;
        self.owner.map_or(Ok(()), |owner| write!(f, " {owner}"))
    }
}

/// Those of `listeners` at which an accept queue overflowed, where of all `drops` of listeners so many were `overflows`: what they
/// dropped is more than was dropped for any other reason. None, where the kernel does not say how many that is.
pub fn overflowed(
    listeners: &[Listener],
    overflows: Option<u64>,
    drops: Option<u64>,
) -> impl Iterator<Item = &Listener> {
    let others = overflows
        .zip(drops)
        .map(|(overflows, drops)| drops.saturating_sub(overflows));
    listeners
        .iter()
        .filter(move |listener| listener.drops.zip(others).is_some_and(|(drops, others)| drops > others))
}

/// `listeners`, those of one owner at one place (`SO_REUSEPORT`) added up; what dropped most comes first.
#[must_use]
pub fn by_place(listeners: impl IntoIterator<Item = Listener>) -> Vec<Listener> {
    let mut places: Vec<Listener> = Vec::new();
    for listener in listeners {
        let is_there = |place: &&mut Listener| {
            (place.address, place.port, place.owner) == (listener.address, listener.port, listener.owner)
        };
        let Some(place) = places.iter_mut().find(is_there) else {
            places.push(listener);
            continue;
        };
        let sum = |a: Option<u64>, b: Option<u64>| a.zip(b).map(|(a, b)| a.saturating_add(b));
        place.cookie = None;
        place.queued = place.queued.saturating_add(listener.queued);
        place.limit = sum(place.limit, listener.limit);
        place.drops = sum(place.drops, listener.drops);
    }
    places.sort_by_key(|place| Reverse(place.drops));
    places
}

/// What listeners drop between one look and the next.
#[derive(Debug, Default)]
pub struct Drops {
    /// What each had dropped at the last look, by its namespace.
    before: HashMap<u32, HashMap<NonZeroU64, u64>>,
    since: Vec<Listener>,
}

impl Drops {
    /// Takes all `listeners` that there are now in the namespace `netns`. At its first look nothing is known to be new; later, one
    /// that was not there before has dropped all it did since.
    pub fn look(&mut self, netns: u32, listeners: Vec<Listener>) {
        let known = listeners
            .iter()
            .filter_map(|listener| listener.cookie.zip(listener.drops));
        let now: HashMap<_, _> = known.collect();
        let Some(before) = self.before.insert(netns, now) else {
            return;
        };
        for mut listener in listeners {
            let Some((cookie, drops)) = listener.cookie.zip(listener.drops) else {
                continue;
            };
            // The kernel counts to 2^32, and goes on at 0.
            let more = drops.wrapping_sub(before.get(&cookie).copied().unwrap_or(0)) & u64::from(u32::MAX);
            if more > 0 {
                listener.drops = Some(more);
                self.since.push(listener);
            }
        }
    }

    /// What was dropped since this was asked last, by those that are `owner`'s; see [`by_place`].
    pub fn take(&mut self, mut owner: impl FnMut(&Listener) -> Option<Owner>) -> Vec<Listener> {
        let since = std::mem::take(&mut self.since).into_iter();
        by_place(since.map(|listener| Listener {
            owner: owner(&listener),
            ..listener
        }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;
    use std::num::NonZeroU32;

    use super::*;
    use crate::model::owner::{Comm, How};

    /// One of `nginx[7]`, so long and full.
    pub(crate) fn listener(port: u16, queued: u64, limit: u64) -> Listener {
        Listener {
            cookie: None,
            address: Address::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            port,
            queued,
            limit: Some(limit),
            drops: Some(0),
            owner: Some(Owner {
                pid: NonZeroU32::new(7),
                comm: Comm::new(b"nginx"),
                how: How::Scan,
                cgroup: None,
            }),
        }
    }

    /// One that has dropped so many.
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
        drops.look(1, vec![dropping(80, 1, 1000), dropping(81, 2, 5)]);
        assert_eq!(drops.take(|listener| listener.owner), [], "a history is no event");
        drops.look(1, vec![dropping(80, 1, 1003), dropping(81, 2, 5), dropping(82, 3, 9)]);
        assert_eq!(
            drops.take(|listener| listener.owner),
            [dropping(82, 3, 9), dropping(80, 1, 3)]
        );
        assert_eq!(drops.take(|listener| listener.owner), []);
        // The same cookie in another namespace is another socket.
        drops.look(2, vec![dropping(80, 1, 4)]);
        drops.look(1, vec![dropping(80, 1, 1003)]);
        assert_eq!(drops.take(|listener| listener.owner), []);
    }

    #[test]
    fn a_count_that_went_round_is_no_large_one() {
        let mut drops = Drops::default();
        drops.look(1, vec![dropping(80, 1, u64::from(u32::MAX))]);
        drops.look(1, vec![dropping(80, 1, 1)]);
        assert_eq!(drops.take(|listener| listener.owner), [dropping(80, 1, 2)]);
    }

    #[test]
    fn sockets_that_share_a_port_are_one() {
        let mut other = dropping(80, 2, 4);
        other.owner = None;
        let places = by_place([dropping(80, 1, 3), other.clone(), dropping(80, 3, 2)]);
        let both = Listener {
            cookie: None,
            queued: 6,
            limit: Some(4),
            ..dropping(80, 1, 5)
        };
        assert_eq!(places, [both, other]);
    }

    #[test]
    fn who_dropped_less_than_what_is_no_overflow_may_have_had_none() {
        let listeners = [dropping(80, 1, 10), dropping(81, 2, 3)];
        let ports = |overflows, drops| -> Vec<u16> {
            let found = overflowed(&listeners, overflows, drops);
            found.map(|listener| listener.port).collect()
        };
        assert_eq!(ports(Some(13), Some(13)), [80, 81]);
        assert_eq!(ports(Some(10), Some(13)), [80]);
        assert_eq!(ports(Some(3), Some(13)), [0_u16; 0]);
        assert_eq!(ports(Some(13), None), [0_u16; 0]);
        assert_eq!(ports(None, Some(13)), [0_u16; 0]);
        let silent = Listener {
            drops: None,
            ..listener(80, 0, 5)
        };
        assert_eq!(overflowed(&[silent], Some(1), Some(1)).count(), 0);
    }
}
