//! The pure middle: what is known of connections. Reads no clock, file or terminal.

pub mod burst;
pub mod churn;
pub mod counts;
#[cfg(test)]
pub(crate) mod dice;
pub mod ending;
pub mod filter;
pub mod frame;
pub mod holdback;
pub mod latency;
pub mod leaks;
pub mod number;
pub mod ports;
pub mod snapshot;
pub mod stat;
pub mod time_buckets;
pub mod trace;
pub mod unseen;
pub mod world;

/// The sum of `counts`, or the largest number where that is larger: what a source says is not to be believed.
fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// ns as s.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 ns are 104 days, and an interval is not that long"
)]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
