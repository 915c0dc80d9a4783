//! Reads the watched network namespaces. What a reading opens is closed at its end, so that none keeps a namespace alive.

use std::path::Path;

use anyhow::{Context, Result};
use hashbrown::HashSet;

use super::sockets::Sockets;
use crate::input::namespace::{self, Scope};
use crate::sys::counters::Counters;
use crate::sys::descriptor_limit;
use crate::sys::netns::{Gone, Namespace, run_in_each};
use crate::sys::sockstat::{self, Sockstat, TcpSockets};
use crate::sys::sysctl::{OF_THE_FIRST, Sysctl};

/// Reads one network namespace, on a thread that is inside.
pub struct NamespaceReader<'a> {
    root: &'a Path,
    namespace: &'a Namespace,
    sockets: Option<Sockets>,
}

impl<'a> NamespaceReader<'a> {
    /// A reader of `namespace`, which the calling thread is in; `root` is `/`.
    #[must_use]
    pub const fn new(root: &'a Path, namespace: &'a Namespace) -> Self {
        Self {
            root,
            namespace,
            sockets: None,
        }
    }

    /// Inode number of the namespace.
    #[must_use]
    pub const fn inode(&self) -> u32 {
        self.namespace.inode
    }

    /// The sockets, opened at the first call.
    ///
    /// # Errors
    /// One line, if the kernel refuses both netlink and /proc.
    pub fn sockets(&mut self) -> Result<&mut Sockets> {
        if self.sockets.is_none() {
            self.sockets = Some(Sockets::open(self.root, self.inode())?);
        }
        self.sockets.as_mut().context("no reader of sockets")
    }

    /// The counters of `Tcp` and `TcpExt`.
    ///
    /// # Errors
    /// The path and the error of open(2).
    pub fn counters(&self) -> Result<Counters> {
        Counters::open(self.root)
    }

    /// The numbers of sockets (/proc/net/sockstat).
    ///
    /// # Errors
    /// The path, and the error of open(2) or pread(2).
    pub fn sockstat(&self) -> Result<TcpSockets> {
        Sockstat::open(self.root)?.read()
    }

    /// The number of full sockets of both families, where sockstat shows `sockets`; `None` if the kernel does not show it. Much cheaper
    /// than a walk, which passes over the table of the whole host.
    ///
    /// # Errors
    /// The path, and the error of open(2) or pread(2).
    pub fn full_sockets(&self, sockets: TcpSockets) -> Result<Option<u64>> {
        let inuse6 = sockstat::inuse6(self.root)?;
        Ok(sockets.inuse.map(|inuse| inuse + inuse6))
    }

    /// The value of the setting `name`; `None` if this kernel or namespace does not show it, or if it is no number.
    ///
    /// # Errors
    /// The path and the error of pread(2).
    pub fn setting(&self, name: &str) -> Result<Option<u64>> {
        match Sysctl::open_if_any(self.root, name)? {
            Some(mut setting) => Ok(setting.read()?.and_then(|value| u64::try_from(value).ok())),
            None => Ok(None),
        }
    }

    /// The namespace, for advice on its settings.
    #[must_use]
    pub fn namespace(&self) -> namespace::Namespace {
        let path = || self.namespace.path().map(|path| path.display().to_string());
        namespace::Namespace {
            inode: self.inode(),
            scope: if self.namespace.is_own() {
                Scope::Own
            } else {
                Scope::Other(path())
            },
            first: Sysctl::open(self.root, OF_THE_FIRST).is_ok(),
        }
    }
}

/// The watched namespaces.
pub struct WatchedNamespaces {
    namespaces: Vec<Namespace>,
    /// Whether they were found (`--netns all`), not named: then one that fails costs its own rows only.
    found: bool,
    /// Inode numbers of the namespaces that cannot be read. A warning was printed for each.
    unreadable: HashSet<u32>,
    /// Whether one was gone at a reading, so that a new search is due.
    misses: bool,
}

impl WatchedNamespaces {
    /// Watches `namespaces`, which were `found` by `--netns all` or named.
    #[must_use]
    pub fn new(namespaces: Vec<Namespace>, found: bool) -> Self {
        Self {
            namespaces,
            found,
            unreadable: HashSet::new(),
            misses: false,
        }
    }

    /// Watches `namespaces` from now on. Returns their inode numbers.
    pub fn update(&mut self, namespaces: Vec<Namespace>) -> HashSet<u32> {
        let there: HashSet<u32> = namespaces.iter().map(|namespace| namespace.inode).collect();
        self.unreadable.retain(|inode| there.contains(inode));
        self.namespaces = namespaces;
        self.misses = false;
        there
    }

    /// The namespaces.
    #[must_use]
    pub fn all(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// Whether one was gone at a reading since the last search. Other processes may still be in it.
    #[must_use]
    pub const fn misses_one(&self) -> bool {
        self.misses
    }

    /// Reads the namespaces in the order of `key` from now on.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&Namespace) -> K) {
        self.namespaces.sort_by_key(key);
    }

    /// Calls `read` in each namespace. If a namespace cannot be read, a warning names it once, and it is left out.
    ///
    /// # Errors
    /// As of `read`, if the namespace was named.
    pub fn read_each<T: Send>(
        &mut self,
        read: impl FnMut(&mut NamespaceReader<'_>) -> Result<T> + Send,
    ) -> Result<Vec<T>> {
        self.read_some(|_| true, read)
    }

    /// As [`Self::read_each`], in the namespaces that are wanted.
    ///
    /// # Errors
    /// As [`Self::read_each`].
    pub fn read_some<T: Send>(
        &mut self,
        is_wanted: impl Fn(&Namespace) -> bool,
        read: impl FnMut(&mut NamespaceReader<'_>) -> Result<T> + Send,
    ) -> Result<Vec<T>> {
        let wanted: Vec<&Namespace> = self
            .namespaces
            .iter()
            .filter(|namespace| is_wanted(namespace))
            .collect();
        read_each_of(wanted.iter().copied(), read)?
            .into_iter()
            .zip(wanted)
            .filter_map(|(seen, namespace)| match seen {
                Ok(seen) => Some(Ok(seen)),
                // What cannot be opened for want of a descriptor is there, and must not be left out.
                Err(why) if !self.found || descriptor_limit::is_reached(&why) => Some(Err(why)),
                Err(why) => {
                    if why.is::<Gone>() {
                        self.misses = true;
                    } else if self.unreadable.insert(namespace.inode) {
                        log::warn!("cannot watch network namespace {}: {why:#}", namespace.inode);
                    }
                    None
                }
            })
            .collect()
    }
}

/// Calls `read` in each of `namespaces`. Returns the results in the same order.
///
/// # Errors
/// There can be no thread.
pub fn read_each_of<'a, T: Send>(
    namespaces: impl IntoIterator<Item = &'a Namespace>,
    mut read: impl FnMut(&mut NamespaceReader<'_>) -> Result<T> + Send,
) -> Result<Vec<Result<T>>> {
    run_in_each(namespaces, |namespace| {
        read(&mut NamespaceReader::new(Path::new("/"), namespace))
    })
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::StateSet;

    use super::*;
    use crate::input::netns_selector::NetnsSelector;
    use crate::sys::netns::resolve;
    use crate::sys::sysctl::TCP_MAX_TW_BUCKETS;

    #[test]
    fn our_own_namespace_needs_no_privilege() {
        let own = resolve(Path::new("/"), &NetnsSelector::Own).unwrap();
        let mut watched = WatchedNamespaces::new(own, false);
        let seen = watched.read_each(|reader| {
            reader.sockets()?.count(StateSet::ALL)?;
            assert!(reader.counters()?.read()?.get("Tcp", "ActiveOpens").is_some());
            assert!(reader.sockstat()?.tw.is_some());
            reader.setting(TCP_MAX_TW_BUCKETS)
        });
        assert_eq!(seen.unwrap().len(), 1);
    }

    #[test]
    fn a_namespace_that_fails_costs_its_own_rows_only_where_all_are_watched() {
        let own = resolve(Path::new("/"), &NetnsSelector::Own).unwrap().remove(0);
        let twice = || vec![own.clone(), own.clone()];
        let mut calls = 0;
        let mut fails_first = |watched: &mut WatchedNamespaces| {
            watched.read_each(|_| {
                calls += 1;
                anyhow::ensure!(calls % 2 == 0, "broken");
                Ok(calls)
            })
        };
        assert_eq!(fails_first(&mut WatchedNamespaces::new(twice(), true)).unwrap(), [2]);
        let error = fails_first(&mut WatchedNamespaces::new(twice(), false)).unwrap_err();
        assert_eq!(error.to_string(), "broken");
    }
}
