//! What a trace adds up to.

/// How many transitions there were, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceTotals {
    /// Transitions the kernel side counted within the filter.
    pub seen: u64,
    /// Those printed.
    pub printed: u64,
    /// Records that found no room in the ring buffer.
    pub lost: u64,
    /// Runs of the kernel side that the kernel skipped, so that nobody counted them; `None` where it does not say.
    pub missed: Option<u64>,
}
