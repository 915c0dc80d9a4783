//! The processes here that serve a peer.

use hashbrown::HashMap;

use crate::input::owner::Comm;
use crate::model::owner_group::OwnerGroup;

/// Processes of one peer and destination with a count of their own, at most: a server that forks has one for each connection. The
/// connections of more processes are counted together. All expire with the interval.
const PROCESSES_MAX: usize = 256;

/// The connections that ended in the interval, and left a timewait socket, by process: [`PROCESSES_MAX`] at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    time_wait: HashMap<Option<OwnerGroup>, u64>,
    beyond: u64,
    listener: Option<OwnerGroup>,
}

impl Served {
    /// A connection was established at a listener of this process, if it is known.
    pub(super) fn opened(&mut self, listener: Option<OwnerGroup>) {
        if listener.is_some() {
            self.listener = listener;
        }
    }

    /// A connection of `process` ended, and `timewait` is whether it left a timewait socket. `None` is an unknown process.
    pub(super) fn ended(&mut self, process: Option<OwnerGroup>, timewait: bool) {
        let is_listed = self.time_wait.len() < PROCESSES_MAX || self.time_wait.contains_key(&process);
        let count = if is_listed {
            self.time_wait.entry(process).or_default()
        } else {
            &mut self.beyond
        };
        *count += u64::from(timewait);
    }

    /// The processes and the number of timewait sockets of each, the most first; `None` is an unknown process.
    #[must_use]
    pub fn processes(&self) -> Vec<(Option<&OwnerGroup>, u64)> {
        let mut all: Vec<_> = self
            .time_wait
            .iter()
            .map(|(process, &count)| (process.as_ref(), count))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    /// Timewait sockets of processes that have no count of their own.
    #[must_use]
    pub const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// The process that listens, by the latest connection; `None` if it is unknown, or if no connection was opened in the interval.
    #[must_use]
    pub const fn listener(&self) -> Option<&OwnerGroup> {
        self.listener.as_ref()
    }

    /// The process of all connections that ended, or the one that listens if none ended; `None` if there are several, or if it is
    /// unknown.
    #[must_use]
    pub fn one(&self) -> Option<&OwnerGroup> {
        match self.processes().as_slice() {
            [] => self.listener(),
            [(process, _)] => *process,
            _ => None,
        }
    }

    /// The name that the processes of all connections that ended share; `None` if there are several, or if one is unknown.
    #[must_use]
    pub fn comm(&self) -> Option<Comm> {
        let process = |group: &Option<OwnerGroup>| group.as_ref().and_then(OwnerGroup::process);
        let mut names = self
            .time_wait
            .keys()
            .map(|group| process(group).map(|process| process.comm));
        let first = names.next().flatten().filter(|_| self.beyond == 0);
        first.filter(|first| names.all(|name| name == Some(*first)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::input::owner::Process;

    fn process(pid: u32, comm: &str) -> Option<OwnerGroup> {
        let pid = NonZeroU32::new(pid);
        let comm = Comm::new(comm.as_bytes());
        pid.is_some().then_some(Process { pid, comm }.into())
    }

    #[test]
    fn one_is_named_and_several_of_a_name_share_it() {
        let mut served = Served::default();
        assert_eq!((served.one(), served.comm()), (None, None));
        served.opened(process(1, "nginx"));
        served.opened(None);
        assert_eq!(
            served.one(),
            process(1, "nginx").as_ref(),
            "who listens, while none has ended"
        );
        served.ended(process(2, "nginx"), false);
        assert_eq!(served.one(), process(2, "nginx").as_ref(), "who had the one that ended");
        served.ended(process(3, "nginx"), true);
        assert_eq!((served.one(), served.comm()), (None, Some(Comm::new(b"nginx"))));
        assert_eq!(
            served.processes(),
            [(process(3, "nginx").as_ref(), 1), (process(2, "nginx").as_ref(), 0)]
        );
        served.ended(None, true);
        assert_eq!((served.one(), served.comm()), (None, None), "one of them is not known");
    }

    #[test]
    fn processes_are_bounded_and_none_of_their_sockets_is_lost() {
        let mut served = Served::default();
        for pid in (1..).take(PROCESSES_MAX + 10) {
            served.ended(process(pid, "sshd"), true);
        }
        served.ended(process(1, "sshd"), true);
        let counted: u64 = served.processes().iter().map(|(_, count)| count).sum();
        assert_eq!((counted, served.beyond()), (PROCESSES_MAX as u64 + 1, 10));
        assert_eq!((served.one(), served.comm()), (None, None));
    }
}
