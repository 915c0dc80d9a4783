//! Ephemeral ports: how many there are, how many are used, and when they are full.
//!
//! A connection opened here takes a local port, until it ends, or until its TIME_WAIT ends if this side closed first. If connect(2)
//! chose the port, no other connection to the same destination can have it. If bind(2) took it before, no other connection from the same
//! source address can, whatever the destination.
//!
//! The rule: connections take ports at the rate of the last ten seconds, and TIME_WAIT gives ports back when it ends. Ports are full
//! when no free one is left.

#[cfg(test)]
mod clients;
mod entry;
mod forecast;
pub mod row;
pub mod table;

const SECOND_NS: u64 = 1_000_000_000;
