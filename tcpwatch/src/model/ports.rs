//! Ephemeral ports: how many there are, who holds them, and when they run out.
//!
//! A connection opened from here takes a local port. Where connect(2) chose it, no other to the same destination may have it
//! meanwhile; where bind(2) took it before, no other of the same source address may, whatever the destination. Either is over
//! with TIME_WAIT, where this side closed first.

#[cfg(test)]
mod clients;
mod entry;
pub mod forecast;
mod rates;
pub mod row;
pub mod table;
mod time_wait_ages;

use super::time_buckets::TimeBuckets;
use crate::input::ports::TIME_WAIT_S;

const SECOND_NS: u64 = 1_000_000_000;

/// Events in each of the last seconds: a minute, the one under way, and what a clock is late by.
type Seconds = TimeBuckets<SECOND_NS, 64>;
