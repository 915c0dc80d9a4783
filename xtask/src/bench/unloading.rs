//! The end of BPF programs. The kernel takes them down for 100 ms or more after the process that held them, and what is started
//! meanwhile waits for it.

use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use aya::programs::loaded_programs;

use super::fdinfo::Program;
use crate::clock;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the kernel has none of `programs`.
pub(super) fn wait(programs: &[Program]) -> Result<()> {
    let start = clock::start();
    let is_there = |id: u64| programs.iter().any(|program| program.id == id);
    while !programs.is_empty()
        && loaded_programs()
            .filter_map(Result::ok)
            .any(|info| is_there(info.id().into()))
    {
        if start.elapsed() > PATIENCE {
            bail!(
                "the kernel keeps the BPF programs of a process that ended {} s ago",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
