//! The commands: each only wires source, model and view.

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

/// How a command ended that did what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing more to say.
    Done,
    /// It found what `--strict` or `--fail-if-leak` asks for: exit code 3.
    Found,
}

use crate::engine::OUTPUT;
