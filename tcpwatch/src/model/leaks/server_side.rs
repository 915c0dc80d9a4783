//! Which end of its connection a socket shares with others: the one that is a service's.

use hashbrown::HashMap;

use super::Endpoints;
use crate::input::socket::Address;

/// How many of the sockets of a scan share each end.
#[derive(Debug, Default)]
pub(super) struct ServerSide {
    local: HashMap<(u32, u16), u32>,
    remote: HashMap<(u32, Address, u16), u32>,
}

impl ServerSide {
    /// Counts the sockets with these `endpoints`.
    pub(super) fn count(endpoints: impl Iterator<Item = Endpoints>) -> Self {
        let mut shared = Self::default();
        for ends in endpoints {
            *shared.local.entry((ends.netns, ends.lport)).or_default() += 1;
            *shared.remote.entry((ends.netns, ends.remote, ends.rport)).or_default() += 1;
        }
        shared
    }

    /// Whether the socket between `ends` shares its local end with more sockets than its remote end; of one that is alone, whether its
    /// local port is the smaller, as that of a service is.
    pub(super) fn is_local(&self, ends: &Endpoints) -> bool {
        let local = self.local.get(&(ends.netns, ends.lport));
        let remote = self.remote.get(&(ends.netns, ends.remote, ends.rport));
        match local.cmp(&remote) {
            std::cmp::Ordering::Equal => ends.lport < ends.rport,
            more => more.is_gt(),
        }
    }
}
