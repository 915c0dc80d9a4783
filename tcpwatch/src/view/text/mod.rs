//! For people.

pub mod bars;
pub mod churn;
mod ends;
pub mod finding;
pub mod histogram;
pub mod latency;
pub mod life;
pub mod snapshot;
pub mod stat;
pub mod table;
pub mod trace;
mod whose;
