//! What is told of ports that are used up together.

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
    /// Ports there are; `None` where the settings are not known.
    pub range: Option<u32>,
    /// Those of them that these connections do not keep from being taken now; `None` likewise.
    pub free: Option<u64>,
    /// How long TIME_WAIT keeps a port from being taken, ms; `None` likewise.
    pub held_ms: Option<u32>,
    /// By which settings; `None` likewise.
    pub reuse: Option<TwReuse>,
    /// Connections opened a second in the last ten, or since the first.
    pub opened_per_s: f64,
    /// By how many fewer are free each second, likewise; `None` as `held_ms`.
    pub growth_per_s: Option<f64>,
    /// Seconds until none is free: those taken at the rate of the last ten seconds, less those whose TIME_WAIT ends until then, use
    /// up the free ones. `None` where that is not within half a minute, where the settings are not known, and for a destination to
    /// which bind(2) took the ports of all that was opened in the last minute: they run out when those of the source address do.
    pub exhausted_in_s: Option<f64>,
    /// Whether that is the earliest or the latest; `None` where it is neither, or nothing is foretold.
    pub limit: Option<Limit>,
}

/// What is not known of a forecast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Ports may last for longer: bind(2) takes them for a source address, but some of them may be shared, for connect(2) chose
    /// them, or because `ip_autobind_reuse` is on and their sockets may have `SO_REUSEADDR`, which nothing tells.
    Earliest,
    /// Ports may run out sooner: connect(2) chooses them, and takes none that bind(2) has given to another.
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
