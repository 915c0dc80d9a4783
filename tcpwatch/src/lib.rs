//! What a host's TCP connections are doing, and why.
//!
//! Data flows one way: [`source`] reads the kernel, [`model`] knows, [`view`] prints; [`cmd`] wires them.

pub mod cli;
pub mod model;
