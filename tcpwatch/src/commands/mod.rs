//! The commands. Each only connects source, model and view.

pub mod churn;
pub mod doctor;
pub mod explain;
pub mod latency;
pub mod leaks;
pub mod life;
pub mod snapshot;
pub mod stat;
pub mod trace;
pub mod version;

mod run;
mod screen;

/// How a command that succeeded ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Done,
    /// The command found a problem, and `--strict` or `--fail-if-leak` was given: exit code 3.
    Found,
}

use crate::engine::OUTPUT;
