//! What a host's TCP connections are doing, and why.
//!
//! Data flows one way: [`source`] reads the kernel and gives [`input`]s, [`model`] keeps what is known, [`detect`] judges, [`view`]
//! prints. [`engine`] is the loop, and [`commands`] choose what is needed and how it is shown.

pub mod cli;
pub mod clock;
pub mod commands;
pub mod detect;
pub mod doctor;
pub mod engine;
pub mod explain;
pub mod input;
pub mod model;
pub mod source;
pub mod sys;
pub mod view;
