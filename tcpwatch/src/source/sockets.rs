//! Reads the sockets of one network namespace, over netlink or from /proc.

use std::ops::RangeInclusive;
use std::path::Path;

use anyhow::Context;
use tcpwatch_common::StateSet;
use tcpwatch_common::ledger::Pass;

use super::procnet::ProcNet;
use super::sockdiag::SockDiag;
use crate::input::socket::{Detail, Socket};
use crate::model::filter::Filter;
use crate::model::snapshot::Origin;

/// An open reader of sockets.
pub enum Sockets {
    /// Reads over netlink.
    SockDiag(SockDiag),
    /// Reads /proc/net/tcp and tcp6.
    Proc {
        /// The tables.
        tables: ProcNet,
        /// Why the kernel refused netlink; `None` if the user chose /proc.
        refused: Option<String>,
    },
}

impl Sockets {
    /// Opens netlink in the namespace of the calling thread, whose inode number is `netns`.
    ///
    /// # Errors
    /// Why the kernel refuses netlink.
    pub fn sock_diag(netns: u32) -> anyhow::Result<Self> {
        SockDiag::open(netns)
            .map(Self::SockDiag)
            .context("the kernel refuses netlink; try --source proc")
    }

    /// Opens netlink for the sockets with a local port in `ports`. A walk stops at `deadline_ns` (`CLOCK_MONOTONIC`).
    ///
    /// # Errors
    /// Why the kernel refuses netlink.
    pub fn of_local_ports(netns: u32, ports: RangeInclusive<u16>, deadline_ns: u64) -> anyhow::Result<Self> {
        let reader = SockDiag::open(netns).context("the kernel refuses netlink")?;
        let filter = Filter {
            lport: ports.into(),
            ..Filter::default()
        };
        Ok(Self::SockDiag(reader.of(&filter).until(deadline_ns)))
    }

    /// Opens /proc/net/tcp and tcp6 under `root` in the namespace of the calling thread.
    ///
    /// # Errors
    /// The error of open(2).
    pub fn proc(root: &Path, netns: u32) -> anyhow::Result<Self> {
        Ok(Self::Proc {
            tables: ProcNet::open(root, netns).context("/proc/thread-self/net/tcp")?,
            refused: None,
        })
    }

    /// Opens netlink, or /proc if the kernel refuses netlink.
    ///
    /// # Errors
    /// One line, if the kernel refuses both.
    pub fn open(root: &Path, netns: u32) -> anyhow::Result<Self> {
        let why = match SockDiag::open(netns) {
            Ok(reader) => return Ok(Self::SockDiag(reader)),
            Err(why) => why,
        };
        Ok(Self::Proc {
            tables: ProcNet::open(root, netns)
                .with_context(|| format!("netlink is refused ({why}), and /proc/thread-self/net/tcp"))?,
            refused: Some(why.to_string()),
        })
    }

    /// Restricts what is read to the sockets of `filter`, as far as the kernel can select them.
    #[must_use]
    pub fn of(self, filter: &Filter) -> Self {
        match self {
            Self::SockDiag(reader) => Self::SockDiag(reader.of(filter)),
            tables @ Self::Proc { .. } => tables,
        }
    }

    /// Whether all that is read of a reader of `filter` ([`Self::of`]) matches it.
    #[must_use]
    pub fn selects_all_of(&self, filter: &Filter) -> bool {
        let Self::SockDiag(reader) = self else {
            return filter.is_any_socket();
        };
        filter.uid.is_none() && filter.owner.is_any() && reader.selects_ends()
    }

    /// Calls `visit` for every socket in `states`, of both families, in any order.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn walk(&mut self, states: StateSet, visit: impl FnMut(&Socket)) -> anyhow::Result<()> {
        match self {
            Self::SockDiag(reader) => reader
                .walk(states, visit)
                .context("cannot dump the sockets over netlink"),
            Self::Proc { tables, .. } => tables.walk(states, visit).context("cannot read /proc/net/tcp"),
        }
    }

    /// Calls `visit` for every socket in `states`, of both families, in any order, with its queues.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn walk_with_queues(&mut self, states: StateSet, visit: impl FnMut(&Detail)) -> anyhow::Result<()> {
        match self {
            Self::SockDiag(reader) => reader
                .walk_with_queues(states, visit)
                .context("cannot dump the sockets over netlink"),
            Self::Proc { tables, .. } => tables
                .walk_with_queues(states, visit)
                .context("cannot read /proc/net/tcp"),
        }
    }

    /// Calls `visit` for every socket in `states`, of both families, in any order, with all details that this reader has.
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn walk_in_detail(&mut self, states: StateSet, mut visit: impl FnMut(&Detail)) -> anyhow::Result<()> {
        match self {
            Self::SockDiag(reader) => reader
                .walk_in_detail(states, visit)
                .context("cannot dump the sockets over netlink"),
            Self::Proc { .. } => self.walk(states, |socket| visit(&Detail::from_socket(*socket))),
        }
    }

    /// Counts the sockets in `states`, of both families, by state and kind. Faster than [`Self::walk`].
    ///
    /// # Errors
    /// The error of the kernel.
    pub fn count(&mut self, states: StateSet) -> anyhow::Result<Pass> {
        match self {
            Self::SockDiag(reader) => reader.count(states).context("cannot dump the sockets over netlink"),
            Self::Proc { tables, .. } => tables.count(states).context("cannot read /proc/net/tcp"),
        }
    }

    /// The way of reading, for the output.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::SockDiag(_) => Origin::SockDiag,
            Self::Proc { refused, .. } => Origin::Proc {
                refused: refused.clone(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn both_ways_find_the_same_listeners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for mut sockets in [
            Sockets::sock_diag(3).unwrap(),
            Sockets::proc(Path::new("/"), 3).unwrap(),
        ] {
            let mut found = Vec::new();
            sockets
                .walk(StateSet::ALL, |socket| {
                    if socket.lport == port {
                        found.push(*socket);
                    }
                })
                .unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].local.to_string(), "127.0.0.1");
        }
    }
}
