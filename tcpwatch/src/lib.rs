//! Shows what the TCP connections of a host do, and why.
//!
//! Data flows one way: [`source`] reads the kernel and emits [`input`]s, [`model`] keeps the state, [`detect`] finds problems,
//! and [`view`] prints. [`record`] keeps the inputs in files. [`engine`] runs the loop. [`commands`] choose the needs and the view.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod detect;
pub mod doctor;
pub mod engine;
pub mod explain;
pub mod input;
pub mod model;
pub mod record;
pub mod source;
pub mod symboliser;
pub mod sys;
pub mod view;
