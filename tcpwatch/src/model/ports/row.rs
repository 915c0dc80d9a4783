//! What is told of one destination.

use super::ends::Ends;

/// One destination.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// From where to where.
    pub ends: Ends,
    /// Ports held: as the last walk found them, and as they moved since.
    pub used: u64,
    /// Those of them held by TIME_WAIT.
    pub time_wait: u64,
    /// Ports connect(2) may take; `None` where the settings are not known.
    pub range: Option<u32>,
    /// Connections opened a second, of late.
    pub opened_per_s: f64,
    /// See [`super::forecast::Forecast::exhausted_in_s`]; `None` too where the settings are not known.
    pub exhausted_in_s: Option<f64>,
}
