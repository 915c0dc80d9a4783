//! The commands: each only wires source, model and view.

pub mod trace;

mod run;
