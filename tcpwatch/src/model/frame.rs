//! What the views show of one moment.

use super::churn::ChurnFrame;
use super::format::several;
use super::latency::LatencyFrame;
use super::leaks::LeaksFrame;
use super::stat::StatFrame;
use super::trace::TraceRows;
use crate::input::namespace::NamespaceNames;
use crate::input::{Connection, Transition};

/// What the views show of one moment. Parts that no view needs are empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Transitions since the last frame.
    pub transitions: TraceRows<Transition>,
    /// Connections that finished since the last frame.
    pub connections: TraceRows<Connection>,
    /// Counts of an interval that just ended.
    pub counts: Option<StatFrame>,
    /// Who opened connections in that interval.
    pub churn: Option<ChurnFrame>,
    /// Latencies measured in that interval.
    pub latency: Option<LatencyFrame>,
    /// Stuck sockets, by a scan that just ended.
    pub leaks: Option<LeaksFrame>,
    /// What people call the network namespaces.
    pub namespace_names: NamespaceNames,
}

impl Frame {
    /// Counts of the interval, from whichever part has them.
    #[must_use]
    pub fn counts(&self) -> Option<&StatFrame> {
        self.counts.as_ref().or(self.churn.as_ref().map(|churn| &churn.stat))
    }

    /// Whether the frame belongs to the end of an interval or of a scan.
    #[must_use]
    pub const fn is_interval(&self) -> bool {
        self.counts.is_some() || self.churn.is_some() || self.latency.is_some() || self.leaks.is_some()
    }

    /// How many single transitions and connections the frame has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        (self.transitions.rows.len() + self.connections.rows.len()) as u64
    }

    /// Whether the frame shows anything of an owner that the filter selects.
    #[must_use]
    pub fn has_match(&self) -> bool {
        let [leaks, churn, latency] = [
            self.leaks.as_ref().is_some_and(|leaks| !leaks.groups.is_empty()),
            self.churn.as_ref().is_some_and(|churn| !churn.routes.is_empty()),
            self.latency
                .as_ref()
                .is_some_and(|latency| !latency.measured.is_empty()),
        ];
        self.rows() > 0 || leaks || churn || latency
    }

    /// Number of transitions or connections that the run left out for their owners, in words; `None` before its end.
    #[must_use]
    pub fn unmatched(&self) -> Option<String> {
        let transitions = self
            .transitions
            .totals
            .map(|totals| (totals.unmatched, ["transition", "transitions"]));
        let connections = self
            .connections
            .totals
            .map(|totals| (totals.unmatched, ["connection", "connections"]));
        let (count, [singular, plural]) = transitions.or(connections)?;
        Some(several(count, singular, plural))
    }

    /// Whether the frame has nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_totals = self.transitions.totals.is_some() || self.connections.totals.is_some();
        !(self.rows() > 0 || has_totals || self.is_interval())
    }

    /// Empties the frame, but keeps the memory of its rows.
    pub(super) fn clear(&mut self) {
        self.transitions.rows.clear();
        self.connections.rows.clear();
        (self.counts, self.churn, self.latency, self.leaks) = (None, None, None, None);
    }
}

#[cfg(test)]
impl From<&StatFrame> for Frame {
    fn from(counts: &StatFrame) -> Self {
        Self {
            counts: Some(counts.clone()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl From<&ChurnFrame> for Frame {
    fn from(churn: &ChurnFrame) -> Self {
        Self {
            churn: Some(churn.clone()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl From<&LatencyFrame> for Frame {
    fn from(latency: &LatencyFrame) -> Self {
        Self {
            latency: Some(latency.clone()),
            ..Self::default()
        }
    }
}

#[cfg(test)]
impl From<&LeaksFrame> for Frame {
    fn from(leaks: &LeaksFrame) -> Self {
        Self {
            leaks: Some(leaks.clone()),
            ..Self::default()
        }
    }
}
