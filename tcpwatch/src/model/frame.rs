//! What there is to show at one moment, of all that is known.

use super::churn::ChurnFrame;
use super::latency::LatencyFrame;
use super::leaks::LeaksFrame;
use super::stat::StatFrame;
use super::trace::Shown;
use crate::input::{Connection, Event};

/// What there is to show at one moment. It has what the views need, and nothing else.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Transitions since the last frame.
    pub transitions: Shown<Event>,
    /// Connections that finished since the last frame.
    pub connections: Shown<Connection>,
    /// The host's counts, of an interval that ended.
    pub counts: Option<StatFrame>,
    /// Who opened connections in it.
    pub churn: Option<ChurnFrame>,
    /// What was measured in it.
    pub latency: Option<LatencyFrame>,
    /// Sockets in states that should pass, by a scan.
    pub leaks: Option<LeaksFrame>,
}

impl Frame {
    /// The host's counts of the interval, whoever needs them.
    #[must_use]
    pub fn counts(&self) -> Option<&StatFrame> {
        self.counts.as_ref().or(self.churn.as_ref().map(|churn| &churn.stat))
    }

    /// Whether it is of an interval that ended.
    #[must_use]
    pub const fn is_interval(&self) -> bool {
        self.counts.is_some() || self.churn.is_some() || self.latency.is_some() || self.leaks.is_some()
    }

    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let has_rows = !self.transitions.rows.is_empty() || !self.connections.rows.is_empty();
        let has_totals = self.transitions.totals.is_some() || self.connections.totals.is_some();
        !(has_rows || has_totals || self.is_interval())
    }

    /// Makes room for the next.
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
