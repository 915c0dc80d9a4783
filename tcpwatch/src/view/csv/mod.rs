//! Output as CSV (RFC 4180): a header line, then one line per row.

pub mod churn;
mod container;
mod field;
pub mod latency;
pub mod leaks;
pub mod life;
mod owner_group;
pub mod snapshot;
pub mod socket_list;
pub mod stat;
pub mod trace;
pub mod trace_groups;
