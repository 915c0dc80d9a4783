//! The features of the running kernel, and why others are off.

use std::fmt;

use super::kernel::Hook;

/// A feature that a kernel may or may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureKind {
    /// The hook `tp_btf/inet_sock_set_state`.
    TpBtf,
    /// The classic tracepoint `sock:inet_sock_set_state`.
    Tracepoint,
    /// State in the storage of each socket (`bpf_sk_storage_get`) instead of a table by address.
    SkStorage,
    /// A second copy of the programs, for runs that the kernel skips.
    SecondCopy,
    /// The kernel counts skipped runs.
    SkippedRuns,
    /// Exact counts from the first row: `iter/tcp` marks each socket under its lock.
    ExactMarks,
    /// Socket cookies.
    Cookies,
    /// Resets, which show how connections end.
    Resets,
    /// The reason of each reset sent.
    ResetReasons,
    /// The process that accepts a connection.
    AcceptOwners,
    /// User stacks that open sockets.
    Stacks,
}

impl FeatureKind {
    /// The name in text and JSON output.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::SkStorage => "sk_storage",
            Self::SecondCopy => "second_copy",
            Self::SkippedRuns => "skipped_runs",
            Self::ExactMarks => "exact_marks",
            Self::Cookies => "cookies",
            Self::Resets => "resets",
            Self::ResetReasons => "reset_reasons",
            Self::AcceptOwners => "accept_owners",
            Self::Stacks => "stacks",
        }
    }
}

impl fmt::Display for FeatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// Whether the running kernel has a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The feature.
    pub kind: FeatureKind,
    /// Why it is off; `None` if it is on.
    pub off: Option<String>,
}

/// The features of one kernel, in the order they were probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(Vec<Feature>);

impl Features {
    /// Records whether a feature is on, or why it is off. The first record of a feature wins.
    pub(super) fn note(&mut self, kind: FeatureKind, off: Option<String>) {
        if self.get(kind).is_none() {
            self.0.push(Feature { kind, off });
        }
    }

    /// The feature `kind`; `None` if it was not probed.
    #[must_use]
    pub fn get(&self, kind: FeatureKind) -> Option<&Feature> {
        self.0.iter().find(|feature| feature.kind == kind)
    }

    /// Whether `kind` was probed and is on.
    #[must_use]
    pub fn is_on(&self, kind: FeatureKind) -> bool {
        self.get(kind).is_some_and(|feature| feature.off.is_none())
    }

    /// The best available hook; `None` if there is none.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        if self.is_on(FeatureKind::TpBtf) {
            Some(Hook::TpBtf)
        } else {
            self.is_on(FeatureKind::Tracepoint).then_some(Hook::Tracepoint)
        }
    }

    /// Iterates over all features.
    pub fn iter(&self) -> impl Iterator<Item = &Feature> {
        self.0.iter()
    }
}
