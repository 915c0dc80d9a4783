//! Which network namespace something is of, and how it is reached.

use super::host::Scope;

/// A network namespace that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Its inode number (`net->ns.inum`).
    pub inode: u32,
    /// Whose it is.
    pub scope: Scope,
    /// Whether it is the one the host started with.
    pub first: bool,
}
