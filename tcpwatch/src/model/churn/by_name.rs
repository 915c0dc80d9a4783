//! Groups openers for text output: many processes of one name with connections to one destination are one opener. Such are a pool of
//! workers, or a command in a loop.

use hashbrown::HashMap;

use super::{Opener, Route, busiest_first};
use crate::model::owner_group::OwnerGroup;

/// Processes of one name that are shown apart, at most: the workers of a small server.
const APART: usize = 4;

/// Merges the `routes` that more than [`APART`] processes of one name have to one destination. The result has the busiest first.
#[must_use]
pub(super) fn by_name(routes: &[Route]) -> Vec<Route> {
    let key = |route: &Route| match route.opener {
        Opener::Here(Some(OwnerGroup::Process(process))) => Some((process.comm, route.destination?)),
        _ => None,
    };
    let mut processes = HashMap::new();
    for key in routes.iter().filter_map(key) {
        *processes.entry(key).or_insert(0) += 1;
    }
    let mut together: HashMap<_, Route> = HashMap::new();
    let mut named = Vec::new();
    for route in routes {
        match key(route).filter(|key| processes.get(key).is_some_and(|&processes| processes > APART)) {
            Some(key) => together
                .entry(key)
                .or_insert_with(|| Route {
                    opener: Opener::Here(Some(OwnerGroup::Comm(key.0))),
                    destination: route.destination,
                    tally: super::Tally::default(),
                })
                .tally
                .merge(&route.tally),
            None => named.push(route.clone()),
        }
    }
    named.extend(together.into_values());
    named.sort_by(busiest_first);
    named
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::{Comm, Process};
    use crate::input::socket::Address;
    use crate::model::churn::{Destination, Tally};
    use crate::model::ending::Ending;

    fn route(pid: u32, comm: &str, port: u16, opened: u64) -> Route {
        let mut tally = Tally {
            opened,
            time_wait: opened,
            ..Tally::default()
        };
        tally.lifetime.record(1000);
        tally.failed.add(Ending::Refused, 1);
        Route {
            opener: Opener::from(Process {
                pid: NonZeroU32::new(pid),
                comm: Comm::new(comm.as_bytes()),
            }),
            destination: Some(Destination {
                netns: None,
                address: Address::new("10.0.0.9".parse().unwrap(), 0),
                port,
            }),
            tally,
        }
    }

    #[test]
    fn many_of_one_name_are_one_opener() {
        let mut routes = vec![route(1, "redis-cli", 6379, 40)];
        routes.extend((10..15).map(|pid| route(pid, "php-fpm", 6379, 20)));
        let named = by_name(&routes);
        assert_eq!(named.len(), 2);
        assert_eq!(
            named[0].opener,
            Opener::Here(Some(OwnerGroup::Comm(Comm::new(b"php-fpm"))))
        );
        assert_eq!(named[0].opener.to_string(), "php-fpm[*]");
        let tally = &named[0].tally;
        let counts = (
            tally.opened,
            tally.time_wait,
            tally.lifetime.count(),
            tally.failed.total(),
        );
        assert_eq!(counts, (100, 100, 5, 5));
        assert_eq!(named[1], routes[0]);
    }

    #[test]
    fn few_are_shown_apart_and_so_are_destinations() {
        let mut routes: Vec<Route> = (10..14).map(|pid| route(pid, "php-fpm", 6379, 20)).collect();
        routes.push(route(14, "php-fpm", 3306, 20));
        let mut named = by_name(&routes);
        named.sort_by_key(|route| route.opener.clone());
        assert_eq!(named, routes);
    }

    #[test]
    fn unknown_openers_and_evicted_ones_stay() {
        let unknown = |destination| Route {
            opener: Opener::Here(None),
            destination,
            tally: Tally::default(),
        };
        let routes = vec![unknown(route(1, "a", 1, 1).destination), unknown(None)];
        assert_eq!(by_name(&routes), routes);
    }
}
