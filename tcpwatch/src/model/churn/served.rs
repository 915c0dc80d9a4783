//! The processes here that have the connections which a peer opened.

use hashbrown::HashMap;

use crate::input::owner::{Comm, Process};

/// Processes of one peer and destination told apart at most: a server that forks has one a connection.
const PROCESSES_MAX: usize = 256;

/// How many of the connections of each process left a timewait socket, of those that ended in the interval.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    time_wait: HashMap<Option<Process>, u64>,
    beyond: u64,
    listener: Option<Process>,
}

impl Served {
    /// A connection was established at a socket of `listener`, if it is known whose.
    pub(super) fn opened(&mut self, listener: Option<Process>) {
        self.listener = listener.or(self.listener);
    }

    /// A connection of `process`, `None` where nobody knows whose, ended, in a timewait socket or not.
    pub(super) fn ended(&mut self, process: Option<Process>, timewait: bool) {
        let is_listed = self.time_wait.len() < PROCESSES_MAX || self.time_wait.contains_key(&process);
        let count = if is_listed {
            self.time_wait.entry(process).or_default()
        } else {
            &mut self.beyond
        };
        *count += u64::from(timewait);
    }

    /// The processes, `None` where nobody knows which, and how many timewait sockets each left; most first.
    #[must_use]
    pub fn processes(&self) -> Vec<(Option<Process>, u64)> {
        let mut all: Vec<_> = self
            .time_wait
            .iter()
            .map(|(&process, &count)| (process, count))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        all
    }

    /// Timewait sockets of processes that were too many to tell apart.
    #[must_use]
    pub const fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Who listens, as the latest connection has it; `None` where nobody knows, or none was opened in the interval.
    #[must_use]
    pub const fn listener(&self) -> Option<Process> {
        self.listener
    }

    /// The one process that all are of which ended, or who listens where none did; `None` where there are several, or none
    /// is known.
    #[must_use]
    pub fn one(&self) -> Option<Process> {
        match self.processes().as_slice() {
            [] => self.listener,
            [(process, _)] => *process,
            _ => None,
        }
    }

    /// The name that all of them have; `None` where there are several, or one is not known.
    #[must_use]
    pub fn comm(&self) -> Option<Comm> {
        let mut names = self.time_wait.keys().map(|process| process.map(|process| process.comm));
        let first = names.next().flatten().filter(|_| self.beyond == 0);
        first.filter(|first| names.all(|name| name == Some(*first)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn process(pid: u32, comm: &str) -> Option<Process> {
        let pid = NonZeroU32::new(pid);
        let comm = Comm::new(comm.as_bytes());
        pid.is_some().then_some(Process { pid, comm })
    }

    #[test]
    fn one_is_named_and_several_of_a_name_share_it() {
        let mut served = Served::default();
        assert_eq!((served.one(), served.comm()), (None, None));
        served.opened(process(1, "nginx"));
        served.opened(None);
        assert_eq!(served.one(), process(1, "nginx"), "who listens, while none has ended");
        served.ended(process(2, "nginx"), false);
        assert_eq!(served.one(), process(2, "nginx"), "who had the one that ended");
        served.ended(process(3, "nginx"), true);
        assert_eq!((served.one(), served.comm()), (None, Some(Comm::new(b"nginx"))));
        assert_eq!(served.processes(), [(process(3, "nginx"), 1), (process(2, "nginx"), 0)]);
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
        let told: u64 = served.processes().iter().map(|(_, count)| count).sum();
        assert_eq!((told, served.beyond()), (PROCESSES_MAX as u64 + 1, 10));
        assert_eq!((served.one(), served.comm()), (None, None));
    }
}
