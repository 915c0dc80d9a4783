//! Ephemeral ports: how many there are, how many are used, and when they are full.
//!
//! A connection opened from here takes a local port. Where connect(2) chose it, no other to the same destination may have it
//! meanwhile; where bind(2) took it before, no other of the same source address may, whatever the destination. Either is over
//! with TIME_WAIT, where this side closed first.
//!
//! The rule: ports are full when those taken at the rate of the last ten seconds, less those whose TIME_WAIT ends until then, use up
//! the free ones.

#[cfg(test)]
mod clients;
mod entry;
mod forecast;
pub mod row;
pub mod table;

const SECOND_NS: u64 = 1_000_000_000;
