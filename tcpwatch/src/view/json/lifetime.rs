//! The JSON object of the lifetimes of connections.

use serde::Serialize;

use crate::input::histogram::Histogram;

/// Known and unknown lifetimes, and percentiles of the known ones, ns; null where none is known.
#[derive(Serialize)]
pub(super) struct Lifetime {
    count: u64,
    unknown: u64,
    p50: Option<u64>,
    p90: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
}

impl From<&Histogram> for Lifetime {
    fn from(histogram: &Histogram) -> Self {
        Self {
            count: histogram.count(),
            unknown: histogram.unknown(),
            p50: histogram.quantile(0.5),
            p90: histogram.quantile(0.9),
            p99: histogram.quantile(0.99),
            max: histogram.max(),
        }
    }
}
