//! Waits for a process that the filter selects, if none is there at the start.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use crate::model::filter::owner::OwnerFilter;
use crate::source::owner_resolver::ProcThread;
use crate::source::owners::{has_match, no_match};
use crate::sys::pidns;

/// A process that may start during the watch.
pub(super) struct AwaitedProcess {
    filter: OwnerFilter,
    proc: Arc<ProcThread>,
}

impl AwaitedProcess {
    /// Checks that a process matches `filter`. `None` if one does, or if /proc does not show that in time. If none does, a line
    /// on stderr says that the watch waits for one.
    ///
    /// # Errors
    /// None does, and `filter` asks for PIDs: nobody knows the PID of a process that starts later.
    pub(super) fn find(filter: &OwnerFilter, proc: &Arc<ProcThread>) -> Result<Option<Self>> {
        let awaited = Self {
            filter: filter.clone(),
            proc: Arc::clone(proc),
        };
        if filter.is_any() || !awaited.is_missing() {
            return Ok(None);
        }
        if !filter.pids.is_empty() {
            return Err(no_match(filter));
        }
        let flags = filter.flags();
        let _ = writeln!(io::stderr(), "tcpwatch: no process matches{flags} yet; waiting for one");
        Ok(Some(awaited))
    }

    /// Whether no process matches now. False if /proc does not show that in time.
    pub(super) fn is_missing(&self) -> bool {
        let filter = self.filter.clone();
        let work = move |_: &mut _| {
            let root = Path::new("/");
            // The kernel reports the names of processes outside of this PID namespace, but no PIDs.
            let shows_all = !filter.pids.is_empty() || pidns::other_than_first(root) == 0;
            shows_all && has_match(root, &filter) == Some(false)
        };
        self.proc.run(work).unwrap_or(false)
    }
}
