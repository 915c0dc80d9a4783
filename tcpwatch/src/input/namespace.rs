//! Which network namespace something is of, and how it is reached.

/// Whose network namespace it is, which decides how a setting of it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The one tcpwatch runs in.
    #[default]
    Own,
    /// Another one of this host, by a path that leads to it where one is known.
    Other(Option<String>),
    /// That of the host a tree was copied from.
    Copied,
}

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
