//! The facts that a view needs.

use std::ops::BitOr;

use tcpwatch_common::StateSet;

use super::latency::LatencyBy;
use super::owner::OwnerBy;

/// The needs of one or more views. Needs add up (`|`): one process can have all of them at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Connections in each state, their rates, and the host's counters.
    pub counts: bool,
    /// Every transition.
    pub transitions: bool,
    /// Every finished connection.
    pub connections: bool,
    /// The processes that open connections, in these groups; the ephemeral ports, drops of listeners, and `counts`.
    pub churn: Option<OwnerBy>,
    /// Latency histograms with this grouping.
    pub latency: Option<LatencyBy>,
    /// Stuck sockets: sockets in transient states.
    pub stuck: Option<StuckNeeds>,
}

/// The needs for stuck sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StuckNeeds {
    /// The states.
    pub states: StateSet,
    /// Minimum time in the state for a stuck socket, ns.
    pub older_ns: u64,
    /// The user stacks that opened the sockets.
    pub stacks: bool,
}

impl BitOr for StuckNeeds {
    type Output = Self;

    /// The union: all states of both, from the lower age on.
    fn bitor(self, other: Self) -> Self {
        Self {
            states: StateSet(self.states.0 | other.states.0),
            older_ns: self.older_ns.min(other.older_ns),
            stacks: self.stacks | other.stacks,
        }
    }
}

impl BitOr for Needs {
    type Output = Self;

    /// The union. If both have a grouping, the first wins.
    fn bitor(self, other: Self) -> Self {
        Self {
            counts: self.counts | other.counts,
            transitions: self.transitions | other.transitions,
            connections: self.connections | other.connections,
            churn: self.churn.or(other.churn),
            latency: self.latency.or(other.latency),
            stuck: match (self.stuck, other.stuck) {
                (Some(one), Some(other)) => Some(one | other),
                (one, other) => one.or(other),
            },
        }
    }
}

impl Needs {
    /// Whether a run with these needs reads all that one with `other` needs does.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        let counted = |needs: Self| Self {
            counts: needs.reads_counts(),
            // Its records name the processes, whatever these are grouped by.
            churn: needs.churn.map(|_| OwnerBy::default()),
            ..needs
        };
        let has_cgroups = self.has_cgroups() || !other.groups_by_cgroup();
        let (all, other) = (counted(self), counted(other));
        has_cgroups && all | other == all && (other.latency.is_none() || other.latency == all.latency)
    }

    /// Whether the cgroups of the processes that own connections are read.
    #[must_use]
    pub fn has_cgroups(self) -> bool {
        self.rows() || self.groups_by_cgroup()
    }

    /// Whether a view groups processes by their cgroups.
    #[must_use]
    pub fn groups_by_cgroup(self) -> bool {
        let latency = match self.latency {
            Some(LatencyBy::Owner(by)) => Some(by),
            _ => None,
        };
        self.churn.into_iter().chain(latency).any(OwnerBy::needs_cgroup)
    }

    /// Whether the ring buffer of records is read.
    #[must_use]
    pub const fn records(self) -> bool {
        self.rows() || self.churn.is_some() || self.stuck.is_some()
    }

    /// Whether single transitions or connections are shown, with their owners.
    #[must_use]
    pub const fn rows(self) -> bool {
        self.transitions || self.connections
    }

    /// Whether nothing but single transitions or connections is needed.
    #[must_use]
    pub fn only_rows(self) -> bool {
        let (transitions, connections) = (self.transitions, self.connections);
        self.rows()
            && self
                == Self {
                    transitions,
                    connections,
                    ..Self::default()
                }
    }

    /// Whether nothing but sockets in states that should pass is needed.
    #[must_use]
    pub fn only_stuck(self) -> bool {
        let stuck = self.stuck;
        stuck.is_some()
            && self
                == Self {
                    stuck,
                    ..Self::default()
                }
    }

    /// Whether the host's counts are read at the end of each interval.
    #[must_use]
    pub const fn reads_counts(self) -> bool {
        self.counts || self.churn.is_some()
    }

    /// Whether the kernel side must know the owners of the sockets that already listen.
    #[must_use]
    pub const fn seeds_listeners(self) -> bool {
        self.rows() || self.churn.is_some() || self.latency.is_some()
    }

    /// Whether the owners of connections are needed.
    #[must_use]
    pub const fn owners(self) -> bool {
        self.records() || self.latency.is_some()
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;

    #[test]
    fn needs_of_stuck_sockets_add_up() {
        let stuck = |state, older_ns, stacks| Needs {
            stuck: Some(StuckNeeds {
                states: StateSet::NONE.with(state),
                older_ns,
                stacks,
            }),
            ..Needs::default()
        };
        let one = stuck(TcpState::CloseWait, 30, false);
        let other = stuck(TcpState::LastAck, 10, true);
        let both = Some(StuckNeeds {
            states: StateSet::NONE.with(TcpState::CloseWait).with(TcpState::LastAck),
            older_ns: 10,
            stacks: true,
        });
        assert_eq!([(one | other).stuck, (other | one).stuck], [both, both]);
        assert_eq!((one | Needs::default()).stuck, one.stuck);
    }

    #[test]
    fn what_was_read_for_more_is_enough_for_less() {
        let churn = Needs {
            churn: Some(OwnerBy::Process),
            ..Needs::default()
        };
        let counts = Needs {
            counts: true,
            ..Needs::default()
        };
        let latency = |by| Needs {
            latency: Some(by),
            ..Needs::default()
        };
        assert!(churn.covers(counts) && !counts.covers(churn));
        assert!((latency(LatencyBy::All) | counts).covers(latency(LatencyBy::All)));
        assert!(!latency(LatencyBy::All).covers(latency(LatencyBy::Lport)));
        assert!(!churn.covers(latency(LatencyBy::All)));
    }

    #[test]
    fn what_is_needed_beside_stuck_sockets_does_not_wait_for_a_scan() {
        let stuck = Needs {
            stuck: Some(StuckNeeds {
                states: StateSet::NONE,
                older_ns: 0,
                stacks: false,
            }),
            ..Needs::default()
        };
        assert!(stuck.only_stuck());
        let counts = Needs {
            counts: true,
            ..Needs::default()
        };
        let latency = Needs {
            latency: Some(LatencyBy::default()),
            ..Needs::default()
        };
        assert!(
            ![Needs::default(), counts, stuck | counts, latency | stuck]
                .into_iter()
                .any(Needs::only_stuck)
        );
    }
}
