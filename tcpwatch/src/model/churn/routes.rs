//! The openers and destinations of an interval, as many as there is room for: those that are active stay.

use hashbrown::HashMap;

use super::{Destination, Opener, Route, Tally};

/// Pairs of opener and destination with a tally of their own, at most. One takes about 900 bytes; 16 KB more if its lifetimes are in
/// all buckets of the histogram, and 17 KB more if [`super::served`] counts as many processes as it may.
///
/// If one more comes, the quarter that has been idle longest is evicted, and counted together: the routes of processes that exited make
/// room for those of processes that live. All expire with the interval.
const MOST: usize = 4096;

/// What each opener did with each destination in this interval: [`MOST`] at most.
#[derive(Debug, Default)]
pub(super) struct Routes {
    all: HashMap<(Opener, Destination), Active>,
    /// The sum of the evicted ones.
    other: Tally,
    /// How many were evicted.
    evicted: u64,
}

/// What one opener did with one destination, and when last, ns.
#[derive(Debug, Default)]
struct Active {
    tally: Tally,
    last_ns: u64,
}

impl Routes {
    /// The tally of `opener` and `destination`, which are active at `monotonic_ns`.
    pub(super) fn active(&mut self, opener: Opener, destination: Destination, monotonic_ns: u64) -> &mut Tally {
        let key = (opener, destination);
        if self.all.len() >= MOST && !self.all.contains_key(&key) {
            self.evict();
        }
        let active = self.all.entry(key).or_default();
        active.last_ns = active.last_ns.max(monotonic_ns);
        &mut active.tally
    }

    /// Evicts a quarter.
    fn evict(&mut self) {
        let mut idle: Vec<_> = self
            .all
            .iter()
            .map(|(key, active)| (active.last_ns, key.clone()))
            .collect();
        let (idlest, _, _) = idle.select_nth_unstable(MOST / 4);
        for (_, key) in &*idlest {
            if let Some(active) = self.all.remove(key) {
                self.other.merge(&active.tally);
                self.evicted += 1;
            }
        }
    }

    /// Takes all routes out, in no order, and how many were evicted. The sum of these is a route without a destination.
    pub(super) fn take(&mut self) -> (Vec<Route>, u64) {
        let Self { all, other, evicted } = std::mem::take(self);
        let routes = all.into_iter().map(|((opener, destination), active)| Route {
            opener,
            destination: Some(destination),
            tally: active.tally,
        });
        let other = (evicted > 0).then_some(Route {
            opener: Opener::Here(None),
            destination: None,
            tally: other,
        });
        (routes.chain(other).collect(), evicted)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::{Comm, Process};
    use crate::input::socket::Address;

    fn opens(routes: &mut Routes, pid: u32, monotonic_ns: u64) {
        let opener = Opener::from(Process {
            pid: NonZeroU32::new(pid),
            comm: Comm::new(b"app"),
        });
        let destination = Destination {
            netns: None,
            address: Address::new("10.0.0.9".parse().unwrap(), 0),
            port: 80,
        };
        routes.active(opener, destination, monotonic_ns).opened += 1;
    }

    fn opened(routes: &[Route], pid: u32) -> Option<u64> {
        let is_of = |route: &&Route| route.opener.process().and_then(|process| process.pid) == NonZeroU32::new(pid);
        routes.iter().find(is_of).map(|route| route.tally.opened)
    }

    /// A loop of commands, each a process that opens one connection and exits; among them a server that was there all the time, and one
    /// that comes when there is no room.
    #[test]
    fn who_lives_is_not_pushed_off_by_those_that_have_exited() {
        let mut routes = Routes::default();
        let (server, late) = (1, 2);
        let loops = 3 * u32::try_from(MOST).unwrap();
        for number in 0..loops {
            opens(&mut routes, 10 + number, u64::from(number));
            if number % 100 == 0 {
                opens(&mut routes, server, u64::from(number));
            }
            if number >= loops - 50 {
                opens(&mut routes, late, u64::from(number));
            }
        }
        let (all, evicted) = routes.take();
        assert_eq!(opened(&all, server), Some(u64::from(loops).div_ceil(100)));
        assert_eq!(opened(&all, late), Some(50));
        assert_eq!(opened(&all, 10), None, "it was idle longest");
        let other = all.last().unwrap();
        assert_eq!((other.destination, other.tally.opened), (None, evicted));
        let total: u64 = all.iter().map(|route| route.tally.opened).sum();
        assert_eq!(
            total,
            u64::from(loops) + u64::from(loops).div_ceil(100) + 50,
            "none is lost"
        );
        assert!(all.len() <= MOST + 1 && evicted > 0);
        assert_eq!(routes.take(), (Vec::new(), 0), "all expire with the interval");
    }
}
