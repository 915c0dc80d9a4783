//! `cargo xtask test`: runs every test, each with a time limit, and names those that could not run.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{clock, system};

pub(crate) mod harnesses;
pub(crate) mod peers;
mod process;
mod runner;
mod summary;

use runner::Harness;

/// Where the kernel describes its own types, which the `tp_btf` hook needs.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The harness that needs root.
const KERNEL_SUITE: &str = "kernel";

/// What failed, and what could not run.
#[derive(Debug, Default)]
struct Shortfall {
    failed: Vec<&'static str>,
    /// What could not run, and why; tests that need it have failed.
    missing: Vec<String>,
    /// What was left out for want of root: a developer may live with that, CI may not.
    unprivileged: Option<String>,
}

impl Shortfall {
    fn not_run(&self) -> impl Iterator<Item = &String> {
        self.unprivileged.iter().chain(&self.missing)
    }

    /// A skip is never a pass, but for the one that an ordinary user can't help.
    fn verdict(&self, ci: bool) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("failed: {}", self.failed.join(", "));
        }
        if !self.missing.is_empty() {
            bail!("not everything could run: see NOT RUN above");
        }
        if ci && self.unprivileged.is_some() {
            bail!("CI=true wants everything run: give this job root");
        }
        Ok(())
    }
}

/// Runs all that this user may run. `arguments` select tests: parts of names, `--exact`, `--skip`.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let mut outcome = Shortfall::default();
    let (mut harnesses, kernel): (Vec<Harness>, Vec<Harness>) = harnesses::build()?
        .into_iter()
        .partition(|harness| harness.name != KERNEL_SUITE);
    if kernel.is_empty() {
        bail!("cargo built no test harness {KERNEL_SUITE}");
    }
    if runner::count(&harnesses, arguments)? + runner::count(&kernel, arguments)? == 0 {
        bail!("no test is called {}", arguments.join(OsStr::new(" or ")).display());
    }
    let mut through_sudo = None;
    match system::sudo() {
        Err(why) => outcome.unprivileged = Some(format!("the kernel suite: {why}")),
        Ok(sudo) => {
            if !Path::new(KERNEL_BTF).exists() {
                let line = format!("tests on the tp_btf hook: this kernel has no {KERNEL_BTF}");
                outcome.missing.push(line);
            }
            outcome.missing.extend(peers::install());
            let readers = kernel.iter().filter_map(|harness| peers::python(&harness.executable));
            outcome
                .missing
                .extend(readers.filter_map(|place| peers::install_readers(&place)));
            match sudo {
                None => harnesses.extend(kernel),
                Some(sudo) => through_sudo = Some((sudo, kernel)),
            }
        }
    }
    if !run_harnesses(&harnesses, arguments)? {
        outcome.failed.push("tests");
    }
    if let Some((sudo, kernel)) = through_sudo {
        let this = env::current_exe().context("cannot find this program")?;
        let mut command = system::through(Some(sudo), &this);
        command
            .arg("run-tests")
            .args(kernel.iter().flat_map(Harness::arguments))
            .arg("--")
            .args(arguments);
        if !system::succeeds(&mut command)? {
            outcome.failed.push("the kernel suite");
        }
    }
    if outcome.not_run().next().is_some() {
        eprintln!("\nNOT RUN:");
        outcome.not_run().for_each(|line| eprintln!("  {line}"));
    }
    outcome.verdict(system::is_ci())
}

/// Harnesses that were built before, by the user who typed the command, and the tests of them to run.
#[derive(Args)]
pub(crate) struct Built {
    /// A harness: its name, its program, and the folder of its package
    #[arg(long, num_args = 3, value_names = ["NAME", "PROGRAM", "FOLDER"])]
    harness: Vec<OsString>,
    #[arg(last = true)]
    arguments: Vec<OsString>,
}

/// Runs the tests of harnesses that were built before.
pub(crate) fn run_built(built: &Built) -> Result<()> {
    let harnesses: Vec<Harness> = built.harness.chunks(3).filter_map(Harness::from_arguments).collect();
    if !run_harnesses(&harnesses, &built.arguments)? {
        bail!("tests failed: see above");
    }
    Ok(())
}

/// Runs tests and prints what became of them. Returns whether all passed.
fn run_harnesses(harnesses: &[Harness], arguments: &[OsString]) -> Result<bool> {
    let start = clock::start();
    let mut summary = runner::run(harnesses, arguments, runner::LIMIT)?;
    summary.print(start.elapsed());
    Ok(summary.all_passed())
}

#[cfg(test)]
mod tests {
    use super::Shortfall;

    #[test]
    fn only_want_of_root_is_forgiven_and_not_in_ci() {
        let all_ran = Shortfall::default();
        let unprivileged = || Shortfall {
            unprivileged: Some("the kernel suite: not root".to_owned()),
            ..Shortfall::default()
        };
        let missing = Shortfall {
            missing: vec!["bpftrace: not installed".to_owned()],
            ..unprivileged()
        };
        let failed = Shortfall {
            failed: vec!["the kernel suite"],
            ..unprivileged()
        };
        for (outcome, alone, in_ci) in [
            (all_ran, true, true),
            (unprivileged(), true, false),
            (missing, false, false),
            (failed, false, false),
        ] {
            assert_eq!(outcome.verdict(false).is_ok(), alone, "{outcome:?}");
            assert_eq!(outcome.verdict(true).is_ok(), in_ci, "{outcome:?}");
        }
    }
}
