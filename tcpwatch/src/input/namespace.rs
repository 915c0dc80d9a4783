//! A network namespace, the path that leads to it, and its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::escaped::Escaped;

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

/// What people call the network namespaces that are watched, by inode number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceNames(pub Arc<BTreeMap<u32, String>>);

impl From<BTreeMap<u32, String>> for NamespaceNames {
    fn from(names: BTreeMap<u32, String>) -> Self {
        Self(Arc::new(names))
    }
}

impl NamespaceNames {
    /// The name of the namespace with the inode number `inode`, escaped; the number if it has no name.
    #[must_use]
    pub fn get(&self, inode: u32) -> String {
        match self.0.get(&inode) {
            Some(name) => Escaped(name.as_bytes()).to_string(),
            None => inode.to_string(),
        }
    }
}
