//! Ephemeral ports: how many there are, who holds them, and when they run out.
//!
//! A connection opened from here takes a local port. Where connect(2) chose it, no other to the same destination may have it
//! meanwhile; where bind(2) took it before, no other of the same source address may, whatever the destination. Either is over
//! with TIME_WAIT, where this side closed first.

mod bits;
#[cfg(test)]
mod clients;
pub mod ends;
mod entry;
pub mod forecast;
pub mod range;
mod rates;
pub mod reuse;
pub mod row;
pub mod settings;
pub mod table;
mod time_wait_ages;
pub mod walk;

use super::time_buckets::TimeBuckets;

const SECOND_NS: u64 = 1_000_000_000;

/// How long a timewait socket holds its port, s: `TCP_TIMEWAIT_LEN` (include/net/tcp.h), fixed in the kernel.
///
/// It may be a few more: timers of that length end at marks 2 to 5 s apart, as `HZ` has it (kernel/time/timer.c), and sockets
/// leave in groups, at 60 to 62 s where `HZ` is 250. The next walk of the sockets sets right what is off by that.
pub const TIME_WAIT_S: usize = 60;

/// Events in each of the last seconds: a minute, the one under way, and what a clock is late by.
type Seconds = TimeBuckets<SECOND_NS, 64>;
