//! The owner of an open socket, also if several processes hold it.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::container::Cgroup;
use super::owner::{Owner, Process};

/// The maximum number of parents to follow. Parents read at different moments may form a cycle.
const DEPTH: usize = 256;

/// The known owner of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// The process to show.
    pub process: Option<Arc<Owner>>,
    /// The cgroup.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// Owners of sockets that could not be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Sockets with a file that no visible process holds. The kernel may hold some of them, and some may be in transit between
    /// processes (`SCM_RIGHTS`).
    pub sockets: u64,
    /// Processes whose descriptors could not be read.
    pub processes: usize,
    /// Whether processes of other users are hidden (`hidepid`).
    pub hidden: bool,
    /// Descriptors left out because there were too many.
    pub descriptors: u64,
    /// Whether root would see more processes.
    #[serde(skip)]
    pub root_sees_more: bool,
}

/// A process that holds a socket open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// The process.
    #[serde(flatten)]
    pub process: Process,
    /// Its descriptors of the socket, in ascending order.
    pub fds: Vec<u32>,
}

impl fmt::Display for Holder {
    /// `nginx[812]:6,7`: the process and its descriptors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.process)?;
        for (index, fd) in self.fds.iter().enumerate() {
            let before = if index == 0 { ':' } else { ',' };
            write!(f, "{before}{fd}")?;
        }
        Ok(())
    }
}

/// Which of the processes that hold a socket to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryHolder {
    /// No visible process holds the socket.
    Nobody,
    /// The only holder, or the common ancestor of all other holders: nginx's master, not its workers.
    One(NonZeroU32),
    /// This number of processes hold it, and none is an ancestor of all others.
    Shared(usize),
}

/// Chooses which of `holders` (without duplicates) to show. `parent` returns the parent of a process; `None` if it has none or
/// is unknown.
pub fn primary_holder(
    holders: &[NonZeroU32],
    mut parent: impl FnMut(NonZeroU32) -> Option<NonZeroU32>,
) -> PrimaryHolder {
    let &[first, ref others @ ..] = holders else {
        return PrimaryHolder::Nobody;
    };
    // A common ancestor is also an ancestor of the first holder: it is the first itself or the topmost holder above it.
    let mut uppermost = first;
    let mut at = first;
    for _ in 0..DEPTH {
        let Some(above) = parent(at).filter(|_| !others.is_empty()) else {
            break;
        };
        if holders.contains(&above) {
            uppermost = above;
        }
        at = above;
    }
    let mut descends = |mut from: NonZeroU32| {
        for _ in 0..DEPTH {
            if from == uppermost {
                return true;
            }
            match parent(from) {
                Some(above) => from = above,
                None => return false,
            }
        }
        false
    };
    if others.iter().all(|&holder| descends(holder)) {
        PrimaryHolder::One(uppermost)
    } else {
        PrimaryHolder::Shared(holders.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parents: 1 > 10 > 11, 12 > 13; 1 > 20 > 21; 90 and 91 are each other's parents; 70 has no known parent.
    fn parent(pid: NonZeroU32) -> Option<NonZeroU32> {
        NonZeroU32::new(match pid.get() {
            10 | 20 => 1,
            11 | 12 => 10,
            13 => 12,
            21 => 20,
            90 => 91,
            91 => 90,
            _ => 0,
        })
    }

    fn of(holders: &[u32]) -> PrimaryHolder {
        let holders: Vec<_> = holders.iter().filter_map(|&pid| NonZeroU32::new(pid)).collect();
        primary_holder(&holders, parent)
    }

    fn one(pid: u32) -> PrimaryHolder {
        PrimaryHolder::One(NonZeroU32::new(pid).unwrap())
    }

    #[test]
    fn a_master_is_named_whoever_comes_first() {
        for holders in [&[10, 11, 12][..], &[12, 11, 10], &[11, 10], &[13, 10, 11], &[13, 10]] {
            assert_eq!(of(holders), one(10), "{holders:?}");
        }
        assert_eq!(of(&[13, 12]), one(12));
        assert_eq!(of(&[1, 11, 21]), one(1));
        assert_eq!(of(&[11]), one(11));
        assert_eq!(of(&[70]), one(70));
    }

    #[test]
    fn the_unrelated_have_no_foremost() {
        assert_eq!(of(&[]), PrimaryHolder::Nobody);
        assert_eq!(
            of(&[11, 12]),
            PrimaryHolder::Shared(2),
            "brothers, whose parent holds nothing"
        );
        assert_eq!(of(&[10, 11, 21]), PrimaryHolder::Shared(3));
        assert_eq!(of(&[70, 11]), PrimaryHolder::Shared(2));
    }

    #[test]
    fn a_circle_ends() {
        assert_eq!(of(&[90, 10]), PrimaryHolder::Shared(2));
        of(&[90, 91]);
    }
}
