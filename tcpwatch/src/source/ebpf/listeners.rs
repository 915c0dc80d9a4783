//! Gives the BPF programs the owners of preexisting listeners. The programs see only later calls of `listen()`.

use std::num::{NonZeroU32, NonZeroU64};

use anyhow::{Context, Result};
use aya::maps::HashMap;
use hashbrown::HashMap as Table;
use tcpwatch_common::owner::{HOW_LISTEN, Name, PortListeners, listener_key};
use tcpwatch_common::{Owner, names};

use super::Kernel;
use crate::input::owner;

/// The kernel's flag for an entry that must not be there yet (`BPF_NOEXIST`, linux/bpf.h).
const BPF_NOEXIST: u64 = 1;

/// Sizes of the map values, in words of 8 bytes.
const NAME: usize = size_of::<Name>() / 8;
const LISTENER: usize = size_of::<PortListeners>() / 8;

/// Listeners, counted by namespace and port.
#[derive(Default)]
pub struct Listeners(Table<u64, PortListeners>);

impl Listeners {
    /// Adds a listener on `port` of the namespace `netns`. `owner` is `None` if unknown.
    pub fn add(&mut self, netns: u32, port: u16, owner: Option<&owner::Owner>) {
        let owner = owner.map_or(Owner::UNKNOWN, |owner| {
            let mut comm = [0; 16];
            for (to, from) in comm.iter_mut().zip(owner.comm.as_bytes()) {
                *to = *from;
            }
            Owner {
                pid: owner.pid.map_or(0, Into::into),
                how: HOW_LISTEN,
                comm,
                ..Owner::UNKNOWN
            }
        });
        let listener = self.0.entry(listener_key(netns, port)).or_insert(PortListeners {
            owner,
            sockets: 0,
            shared: u32::from(owner.pid == 0),
            since: 0,
        });
        listener.sockets += 1;
        if listener.owner.pid != owner.pid {
            listener.shared = 1;
        }
    }
}

impl Kernel {
    /// The process that listens on `port` of the namespace `netns`, by the kernel side's map. `None` if none listens any more, or if
    /// several do.
    pub fn listener(&self, netns: u32, port: u16) -> Option<owner::Owner> {
        let map = self.ebpf.map(names::MAP_LISTENERS)?;
        let map: HashMap<_, u64, [u64; LISTENER]> = HashMap::try_from(map).ok()?;
        let found: PortListeners = bytemuck::cast(map.get(&listener_key(netns, port), 0).ok()?);
        (found.shared == 0 && found.sockets != 0).then_some(owner::Owner {
            pid: Some(NonZeroU32::new(found.owner.pid)?),
            comm: owner::Comm::new(&found.owner.comm),
            how: owner::How::Listen,
            cgroup: NonZeroU64::new(found.owner.cgroup),
        })
    }

    /// Writes `listeners` into the maps. Entries that the BPF programs made themselves stay.
    ///
    /// # Errors
    /// A map does not exist.
    pub fn seed_listeners(&mut self, mut listeners: Listeners) -> Result<()> {
        let comms = self
            .ebpf
            .map_mut(names::MAP_COMMS)
            .context("the BPF object has no names")?;
        let mut comms: HashMap<_, u32, [u64; NAME]> = HashMap::try_from(comms)?;
        for listener in listeners.0.values_mut().filter(|listener| listener.owner.pid != 0) {
            let name = Name {
                comm: listener.owner.comm,
                since: 0,
            };
            // An existing entry is newer. If the map is full, the owner stays unknown.
            let _ = comms.insert(listener.owner.pid, bytemuck::cast::<_, [u64; NAME]>(name), BPF_NOEXIST);
            if let Ok(name) = comms.get(&listener.owner.pid, 0) {
                listener.since = bytemuck::cast::<_, Name>(name).since;
            }
        }
        let map = self
            .ebpf
            .map_mut(names::MAP_LISTENERS)
            .context("the BPF object has no listeners")?;
        let mut map: HashMap<_, u64, [u64; LISTENER]> = HashMap::try_from(map)?;
        for (key, listener) in &listeners.0 {
            if map
                .insert(key, bytemuck::cast::<_, [u64; LISTENER]>(*listener), BPF_NOEXIST)
                .is_ok()
            {
                continue;
            }
            // A process called listen() on this port meanwhile: either the same process, whose socket is already counted, or
            // another one. A change by the BPF programs between the read and the write is lost, so nothing else is changed
            // here. A listener that closes in that moment stays counted, and the owner of the port stays unknown. A listener
            // that opens in that moment is not counted: once the others close, its port may be attributed to the next listener
            // alone.
            if let Ok(found) = map.get(key, 0) {
                let mut found: PortListeners = bytemuck::cast(found);
                if found.owner.pid != listener.owner.pid {
                    found.shared = 1;
                    found.sockets = found.sockets.saturating_add(listener.sockets);
                    let _ = map.insert(key, bytemuck::cast::<_, [u64; LISTENER]>(found), 0);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::{Comm, How};

    fn process(pid: u32) -> owner::Owner {
        owner::Owner {
            pid: std::num::NonZeroU32::new(pid),
            comm: Comm::new(b"nginx"),
            how: How::Scan,
            cgroup: None,
        }
    }

    #[test]
    fn a_port_of_two_processes_is_shared() {
        let mut listeners = Listeners::default();
        for (port, pid) in [(80, 7), (80, 7), (81, 7), (81, 8)] {
            listeners.add(1, port, Some(&process(pid)));
        }
        listeners.add(1, 82, None);
        let of = |port| listeners.0[&listener_key(1, port)];
        assert_eq!((of(80).owner.pid, of(80).sockets, of(80).shared), (7, 2, 0));
        assert_eq!((of(81).sockets, of(81).shared), (2, 1));
        assert_eq!((of(82).sockets, of(82).shared), (1, 1));
        assert_eq!(of(80).owner.comm[..6], *b"nginx\0");
    }
}
