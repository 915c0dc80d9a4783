//! Cgroups by their ids, each asked for once.

use std::cell::OnceCell;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::input::container::Cgroup;
use crate::sys::cgroup::Hierarchy;

/// Paths remembered; with one more, all are asked for anew.
const CGROUPS: usize = 4096;

/// The cgroups of the v2 hierarchy.
pub(super) struct Cgroups {
    root: PathBuf,
    /// Opened for the first that is asked for.
    hierarchy: OnceCell<Option<Hierarchy>>,
    /// An id is given to no other cgroup, and a cgroup of v2 keeps its name, so what was once known stays so.
    known: HashMap<NonZeroU64, Option<Arc<Cgroup>>>,
}

impl Cgroups {
    /// Those under `root`, none known yet.
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            hierarchy: OnceCell::new(),
            known: HashMap::new(),
        }
    }

    /// The cgroup `id`; `None` where its path cannot be known.
    pub(super) fn of(&mut self, id: NonZeroU64) -> Option<Arc<Cgroup>> {
        if self.known.len() >= CGROUPS && !self.known.contains_key(&id) {
            self.known.clear();
        }
        let Self { root, hierarchy, known } = self;
        let ask = || {
            let hierarchy = hierarchy.get_or_init(|| Hierarchy::open(root)).as_ref()?;
            hierarchy.path(id).map(|path| Arc::new(path.into()))
        };
        known.entry(id).or_insert_with(ask).clone()
    }
}
