//! A root folder with files that are made of the input.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder for the files of one input after the other.
pub(crate) struct Tree(TempDir);

impl Tree {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for files"))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes the file `name`.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.make_room(name), bytes).expect("a file of the tree");
    }

    /// Removes all that is in it.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(self.path()).expect("the tree") {
            fs::remove_dir_all(entry.expect("an entry").path()).expect("a folder of the tree");
        }
    }

    /// Gives the file `other` the content of the file `name`, now and whenever that is written.
    pub(crate) fn link(&self, name: &str, other: &str) {
        if !self.path().join(name).exists() {
            self.write(name, b"");
        }
        fs::hard_link(self.path().join(name), self.make_room(other)).expect("a link in the tree");
    }

    /// The path of the file `name`, whose folder is there.
    fn make_room(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).expect("a folder of the tree");
        }
        path
    }
}

/// Calls `run` with the one tree of this thread, which `make` fills once.
macro_rules! with_tree {
    ($make:expr, $run:expr) => {{
        thread_local! {
            static TREE: $crate::tree::Tree = {
                let tree = $crate::tree::Tree::new();
                let make: fn(&$crate::tree::Tree) = $make;
                make(&tree);
                tree
            };
        }
        TREE.with($run)
    }};
}
pub(crate) use with_tree;

/// The parts of `input` between zero bytes, `most` at most; the last has the rest.
pub(crate) fn parts(input: &[u8], most: usize) -> impl Iterator<Item = &[u8]> {
    input.splitn(most, |&byte| byte == 0)
}
