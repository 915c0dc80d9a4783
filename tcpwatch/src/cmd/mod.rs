//! The commands: each only wires source, model and view.

pub mod churn;
pub mod explain;
pub mod latency;
pub mod snapshot;
pub mod stat;
pub mod trace;
pub mod version;

mod run;
mod screen;

/// What fails when the output takes no more.
const OUTPUT: &str = "cannot write the output";
