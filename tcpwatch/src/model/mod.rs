//! The pure middle: what is known of connections. Reads no clock, file or terminal.

pub mod filter;
pub mod socket;
pub mod trace;
