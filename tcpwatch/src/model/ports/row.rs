//! The ports that run out together, as views show them.

use crate::input::ports::ends::Ends;
use crate::input::ports::reuse::TwReuse;

/// The ports to one destination, or those of one source address.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// From where to where.
    pub ends: Ends,
    /// Ports held: as the last walk found them, and as they moved since.
    pub used: u64,
    /// Those of them held by TIME_WAIT.
    pub time_wait: u64,
    /// Ports in the range; `None` if the settings are unknown.
    pub range: Option<u32>,
    /// Ports of the range that a new connection can take, as far as these connections decide; `None` if the settings are unknown.
    pub free: Option<u64>,
    /// How long TIME_WAIT keeps a port from a new connection, ms; `None` if the settings are unknown.
    pub held_ms: Option<u32>,
    /// The settings that decide `held_ms`; `None` if they are unknown.
    pub reuse: Option<TwReuse>,
    /// Connections opened per second, in the last ten seconds or since the first connection.
    pub opened_per_s: f64,
    /// Decrease of `free` per second, in the same time; `None` as `held_ms`.
    pub growth_per_s: Option<f64>,
    /// Seconds until no port is free. Connections take ports at the rate of the last ten seconds, and ports come back where their
    /// TIME_WAIT ends.
    ///
    /// `None` if that is not within half a minute, or if the settings are unknown. Also `None` for a destination if bind(2) took the
    /// ports of all connections of the last minute: they run out when the ports of the source address do.
    pub exhausted_in_s: Option<f64>,
    /// Whether `exhausted_in_s` is the earliest or the latest time; `None` if it is neither, or if there is no forecast.
    pub limit: Option<Limit>,
}

/// In which direction a forecast may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Ports may last longer. bind(2) takes them for a source address, but may share some: connect(2) chose them, or
    /// `ip_autobind_reuse` is on and their sockets have `SO_REUSEADDR`, which is not known here.
    Earliest,
    /// Ports may run out sooner: connect(2) chooses them, and takes none that bind(2) took for another destination.
    Latest,
}

impl Limit {
    /// The word in machine output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}
