//! Whose a socket is, where several processes hold it: the one they all come from, or nobody's we can name.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::container::Cgroup;
use super::owner::{Owner, Process};

/// Parents looked at on the way up, at most: what /proc says at different moments may run in a circle.
const DEPTH: usize = 256;

/// The owner of a socket, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// The process to name.
    pub process: Option<Arc<Owner>>,
    /// The cgroup.
    pub cgroup: Option<Arc<Cgroup>>,
}

/// Which owners of sockets could not be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unseen {
    /// Sockets with a file that no process seen holds. Some may be held by the kernel itself, or be on their way from one
    /// process to another.
    pub sockets: u64,
    /// Processes whose descriptors could not be read.
    pub processes: usize,
    /// Whether the processes of other users are hidden, however many there are.
    pub hidden: bool,
    /// Descriptors left out, for there were too many.
    pub descriptors: u64,
    /// Whether root would see more.
    #[serde(skip)]
    pub root_sees_more: bool,
}

/// A process that holds a socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Process,
    /// The descriptors by which it does, in order.
    pub fds: Vec<u32>,
}

/// Which of the processes that hold a socket to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrimaryHolder {
    /// None is seen to hold it.
    Nobody,
    /// The only one, or the one that all others descend from: nginx's master, and not its workers.
    One(NonZeroU32),
    /// So many hold it, none of whom all others descend from.
    Shared(usize),
}

/// Which of `holders`, each there once, to name; `parent` gives a process's parent, `None` for none or unknown.
pub fn primary_holder(
    holders: &[NonZeroU32],
    mut parent: impl FnMut(NonZeroU32) -> Option<NonZeroU32>,
) -> PrimaryHolder {
    let &[first, ref others @ ..] = holders else {
        return PrimaryHolder::Nobody;
    };
    // Whom all others descend from, the first does too: it is the first itself, or the uppermost holder above it.
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

    /// 1 > 10 > 11, 12 > 13; 1 > 20 > 21; 90 and 91 are each other's parents; of 70 nothing is known.
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
