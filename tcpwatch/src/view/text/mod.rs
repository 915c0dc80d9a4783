//! Output as text for people.

pub mod bars;
mod canvas;
pub mod churn;
mod descriptors;
pub mod diagram;
pub mod doctor;
mod endpoints;
pub mod explain;
pub mod finding;
pub(super) mod fit;
pub mod group_table;
pub mod histogram;
pub mod latency;
pub mod leaks;
pub mod life;
mod opened_by;
mod owner;
pub mod snapshot;
pub mod socket_list;
pub mod stat;
pub mod trace;
pub mod trace_groups;
mod wrap;
