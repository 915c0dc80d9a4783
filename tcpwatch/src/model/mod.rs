//! The pure middle: what is known of connections. Reads no clock, file or terminal.

pub mod burst;
pub mod container;
pub mod counts;
#[cfg(test)]
mod dice;
pub mod ending;
pub mod escaped;
pub mod filter;
pub mod histogram;
pub mod owner;
pub mod pending;
pub mod ports;
pub mod slots;
pub mod snapshot;
pub mod socket;
pub mod stat;
pub mod trace;
pub mod whose;
