//! Real sockets doing what connections do, each with the transitions it causes.

use super::cells::Cells;
use super::loudly;
use super::netns::Netns;

mod admin;
pub(crate) mod bulk;
mod close;
mod families;
mod fast_open;
pub(crate) mod generator;
mod half;
mod listeners;
pub(crate) mod lives;
pub(crate) mod mptcp;
mod reset;
mod simultaneous;

/// What a workload promises to cause: `7>2 2>1x3` is once `CLOSE` to `SYN_SENT`, three times `SYN_SENT` to
/// `ESTABLISHED`.
pub(crate) enum Promise {
    /// These cells and no other.
    Exactly(&'static str),
    /// At least these: how often depends on who is faster.
    AtLeast(&'static str),
}

/// Something sockets do.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Netns),
    pub(crate) promise: Promise,
}

impl Workload {
    /// Runs it until bpftrace has seen what was promised, three times at most. `run` gives what was seen and how many runs
    /// of bpftrace's program the kernel skipped.
    ///
    /// What is left to a timer happens in whatever process it interrupts. There are machines where no BPF program runs, and
    /// none is counted as skipped, in the interrupts of one process (seen in a sandbox whose pid 1 looks after it).
    pub(crate) fn until_kept(&self, mut run: impl FnMut() -> Result<(Cells, i64), String>) -> Result<(), String> {
        for _ in 0..2 {
            let (seen, skipped) = run()?;
            match self.kept(&seen, skipped) {
                Ok(()) => return Ok(()),
                Err(how) => loudly(&format!("{}, to be done again, for bpftrace saw {how}", self.name)),
            }
        }
        let (seen, skipped) = run()?;
        self.kept(&seen, skipped)
            .map_err(|how| format!("it did not do what it promises: {how}"))
    }

    /// Whether `seen` is what was promised, but for `skipped` runs of who counted; else how not.
    fn kept(&self, seen: &Cells, skipped: i64) -> Result<(), String> {
        match self.promise {
            Promise::Exactly(cells) => seen.equals_but(&Cells::of(cells), skipped),
            Promise::AtLeast(cells) => seen.covers(&Cells::of(cells), skipped),
        }
    }
}

const fn exactly(name: &'static str, run: fn(&Netns), cells: &'static str) -> Workload {
    Workload {
        name,
        run,
        promise: Promise::Exactly(cells),
    }
}

const fn at_least(name: &'static str, run: fn(&Netns), cells: &'static str) -> Workload {
    Workload {
        name,
        run,
        promise: Promise::AtLeast(cells),
    }
}

/// Every workload that is over in a moment, in an order that leaves no sysctl behind.
pub(crate) fn all() -> Vec<Workload> {
    let mut workloads = Vec::new();
    workloads.extend(close::WORKLOADS);
    workloads.extend(reset::WORKLOADS);
    workloads.extend(half::WORKLOADS);
    workloads.extend(simultaneous::WORKLOADS);
    workloads.extend(lives::WORKLOADS);
    workloads.extend(families::WORKLOADS);
    workloads.extend(fast_open::WORKLOADS);
    workloads.extend(listeners::WORKLOADS);
    workloads.extend(admin::WORKLOADS);
    workloads
}
