//! What tcpwatch knows about connections. Pure code: it reads no clock, file or terminal.

pub mod burst;
pub(crate) mod cgroups;
pub mod churn;
pub mod counts;
pub mod ending;
pub mod filter;
pub mod format;
pub mod frame;
pub mod holdback;
pub mod input_filter;
pub mod latency;
pub mod leaks;
pub mod owner_group;
pub mod ports;
mod recent;
pub mod snapshot;
pub mod socket_list;
pub mod stat;
#[cfg(test)]
pub(crate) mod test_rng;
pub mod time_buckets;
pub mod trace;
pub mod trace_groups;
pub mod unseen;
pub mod world;

/// Adds up `counts`, and stops at `u64::MAX`: inputs are not trusted to be plausible.
fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

/// Whether `values` are not all the same.
fn are_several<T: PartialEq>(values: impl IntoIterator<Item = T>) -> bool {
    let mut values = values.into_iter();
    values.next().is_some_and(|first| values.any(|other| other != first))
}

/// Converts nanoseconds to seconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days; an interval is shorter")]
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Converts a count for rates and shares.
#[expect(
    clippy::cast_precision_loss,
    reason = "no host has 2^53 sockets, or opens as many connections in a minute"
)]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// Rounds a computed number of sockets or connections, which is not negative, to a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no count is negative, or 2^64"
)]
fn rounded(count: f64) -> u64 {
    count.round() as u64
}
