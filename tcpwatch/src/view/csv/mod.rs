//! For spreadsheets: one header line, then one line a row.

pub mod churn;
mod container;
pub mod latency;
pub mod life;
pub mod snapshot;
pub mod stat;
mod text;
pub mod trace;
