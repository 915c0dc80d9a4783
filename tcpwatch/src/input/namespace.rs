//! A network namespace and the path that leads to it.

/// Where a network namespace belongs. This decides how to change its settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The namespace that tcpwatch runs in.
    #[default]
    Own,
    /// Another namespace of this host, with a path that leads to it, if known.
    Other(Option<String>),
    /// The namespace of another host, read from copied files.
    Copied,
}

/// A network namespace that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Inode number (`net->ns.inum`).
    pub inode: u32,
    /// Where it belongs.
    pub scope: Scope,
    /// Whether it is the initial network namespace.
    pub first: bool,
}
