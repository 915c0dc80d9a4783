//! For programs: one JSON object a line.

pub mod churn;
mod container;
pub mod explain;
pub mod finding;
pub mod latency;
pub mod leaks;
pub mod life;
pub(crate) mod line;
pub mod snapshot;
pub mod stat;
pub mod states;
pub mod trace;
