//! Output as JSON: one object per line (JSON Lines).

pub mod churn;
mod container;
pub mod explain;
pub mod finding;
pub mod latency;
pub mod leaks;
pub mod life;
mod lifetime;
pub(crate) mod line;
mod owner_group;
pub mod snapshot;
pub mod socket_list;
pub mod stat;
pub mod trace;
pub mod trace_groups;
