//! `RLIMIT_MEMLOCK` (getrlimit(2)): before Linux 5.11 it limits the memory of BPF maps.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the kernel permits. Later kernels charge maps to the cgroup, and this has no effect.
///
/// Returns the remaining limit in bytes; `None` if there is none.
#[must_use]
pub fn raise() -> Option<u64> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if setrlimit(Resource::Memlock, unlimited).is_err() {
        // Without CAP_SYS_RESOURCE the soft limit can be raised to the hard limit.
        let maximum = getrlimit(Resource::Memlock).maximum;
        let highest = Rlimit {
            current: maximum,
            maximum,
        };
        // If the kernel refuses this too, the returned limit shows it.
        let _ = setrlimit(Resource::Memlock, highest);
    }
    getrlimit(Resource::Memlock).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_the_highest_limit_there_may_be() {
        let before = getrlimit(Resource::Memlock);
        let remains = raise();
        let after = getrlimit(Resource::Memlock);
        assert_eq!(remains, after.current);
        assert_eq!(remains, after.maximum, "the soft limit is as high as the hard one");
        assert!(remains.is_none() || remains == before.maximum, "{before:?}, {after:?}");
    }
}
