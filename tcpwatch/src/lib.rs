//! What a host's TCP connections are doing, and why.
//!
//! Data flows one way: [`source`] reads the kernel, [`model`] knows, [`diagnose`] judges, [`view`] prints; [`cmd`] wires them.

pub mod cli;
pub mod clock;
pub mod cmd;
pub mod diagnose;
pub mod engine;
pub mod event;
pub mod explain;
pub mod model;
pub mod source;
pub mod sys;
pub mod view;
