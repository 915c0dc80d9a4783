//! The needs for the BPF programs, beyond counts.

use std::ops::BitOr;

use tcpwatch_common::params::{
    BEFORE_STATE, NEED_CONNECTIONS, NEED_ENDPOINTS, NEED_LATENCY, NEED_NAMESPACES, NEED_OPENINGS, NEED_OWNERS,
    NEED_TRANSITIONS,
};
use tcpwatch_common::{Filter, histogram, names};

use crate::input::latency::LatencyBy;
use crate::input::needs::Needs;

/// The needs for the BPF programs. Needs add up (`|`): one process can have all of them at once. The default is only counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the needs are independent switches")]
pub struct KernelNeeds {
    /// A record for every transition.
    pub transitions: bool,
    /// A record for every finished connection.
    pub connections: bool,
    /// A record for every transition to `ESTABLISHED`.
    pub openings: bool,
    /// The owner of each connection.
    pub owners: bool,
    /// Latency histograms of these groups.
    pub latency: Option<LatencyGroups>,
    /// The user stack that opened each socket.
    pub stacks: bool,
    /// The number of transitions of each network namespace.
    pub namespaces: bool,
}

/// The groups of latency histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LatencyGroups {
    /// What connections of a group have in common.
    pub by: LatencyBy,
    /// Whether that includes the process that owns them.
    pub owners: bool,
}

impl LatencyGroups {
    /// Groups by `by`, and by owner if that decides it, or `of_owners`.
    #[must_use]
    pub const fn new(by: LatencyBy, of_owners: bool) -> Self {
        Self {
            by,
            owners: of_owners || matches!(by, LatencyBy::Owner(_)),
        }
    }

    /// Whether there is more than one group.
    pub(super) fn are_several(self) -> bool {
        self.by != LatencyBy::All || self.owners
    }
}

impl From<LatencyBy> for LatencyGroups {
    fn from(by: LatencyBy) -> Self {
        Self::new(by, false)
    }
}

impl From<Needs> for KernelNeeds {
    fn from(needs: Needs) -> Self {
        Self {
            transitions: needs.transitions || needs.stuck.is_some(),
            connections: needs.connections || needs.churn.is_some(),
            openings: needs.churn.is_some(),
            owners: needs.owners(),
            latency: needs.latency.map(LatencyGroups::from),
            stacks: needs.stuck.is_some_and(|stuck| stuck.stacks),
            namespaces: false,
        }
    }
}

impl BitOr for KernelNeeds {
    type Output = Self;

    /// The union. If both have a latency grouping, the first wins.
    fn bitor(self, other: Self) -> Self {
        Self {
            transitions: self.transitions | other.transitions,
            connections: self.connections | other.connections,
            openings: self.openings | other.openings,
            owners: self.owners | other.owners,
            latency: self.latency.or(other.latency),
            stacks: self.stacks | other.stacks,
            namespaces: self.namespaces | other.namespaces,
        }
    }
}

impl KernelNeeds {
    /// Whether records are needed.
    #[must_use]
    pub fn records(self) -> bool {
        self.transitions || self.connections || self.openings
    }

    /// Whether data of single connections is needed, beyond counts.
    pub(super) fn connection_data(self) -> bool {
        self.records() || self.owners || self.latency.is_some()
    }

    /// The bits for [`tcpwatch_common::Params::needs`], including the needs of `filter`.
    pub(super) fn bits(self, filter: &Filter) -> u32 {
        let bit = |needed: bool, bit: u32| if needed { bit } else { 0 };
        bit(self.transitions, NEED_TRANSITIONS)
            | bit(self.connections, NEED_CONNECTIONS)
            | bit(self.openings, NEED_OPENINGS)
            | bit(self.owners, NEED_OWNERS)
            | bit(self.latency.is_some(), NEED_LATENCY)
            | bit(self.namespaces, NEED_NAMESPACES)
            | bit(filter.reads_endpoints(), NEED_ENDPOINTS)
    }

    /// The grouping: [`tcpwatch_common::Params::latency_by`] and [`tcpwatch_common::Params::latency_owners`].
    pub(super) fn latency_params(self) -> [u32; 2] {
        let by = match self.latency.map(|groups| groups.by) {
            None => histogram::BY_NONE,
            Some(LatencyBy::All | LatencyBy::Owner(_)) => histogram::BY_ALL,
            Some(LatencyBy::Lport) => histogram::BY_LPORT,
            Some(LatencyBy::Remote) => histogram::BY_REMOTE,
        };
        [by, self.latency.is_some_and(|groups| groups.owners).into()]
    }

    /// Whether the program at `stage` of [`names::STAGES`] is called. Other programs are not loaded.
    pub(super) fn calls(self, stage: u32, filter: &Filter) -> bool {
        match stage {
            names::STAGE_LISTENER => self.owners,
            names::STAGE_FILTER => filter.reads_endpoints(),
            // If no program runs before it, the entry program does its work.
            names::STAGE_STATE => self.bits(filter) & BEFORE_STATE != 0,
            names::STAGE_INFO => self.owners || self.connections,
            names::STAGE_LATENCY => self.latency.is_some(),
            names::STAGE_HELD | names::STAGE_RECORD => self.transitions || self.openings,
            names::STAGE_CONNECTION => self.connections,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_add_up() {
        let trace = KernelNeeds {
            transitions: true,
            owners: true,
            ..KernelNeeds::default()
        };
        let latency = KernelNeeds {
            latency: Some(LatencyBy::Lport.into()),
            ..KernelNeeds::default()
        };
        let both = trace | latency;
        let filter = Filter::ALL;
        assert_eq!(both.bits(&filter), NEED_TRANSITIONS | NEED_OWNERS | NEED_LATENCY);
        assert_eq!(both.latency_params(), [histogram::BY_LPORT, 0]);
        let called = |needs: KernelNeeds| -> Vec<&str> {
            (0..)
                .zip(names::STAGES)
                .filter(|(stage, _)| needs.calls(*stage, &filter))
                .map(|(_, name)| name)
                .collect()
        };
        assert_eq!(called(KernelNeeds::default()), ["close"]);
        assert_eq!(
            called(both),
            ["listen", "state", "close", "info", "latency", "held", "record"]
        );
    }
}
