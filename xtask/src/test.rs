//! `cargo xtask test`: every test, and a plain word about each that could not run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{cargo, system};

mod peers;

/// Where the kernel describes its own types, which the `tp_btf` hook needs.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// The kernel suite is a test binary apart, outside the default run, because it needs root.
const KERNEL_SUITE: [&str; 5] = [
    "test",
    "--locked",
    "--profile=suite",
    "--package=tcpwatch",
    "--test=kernel",
];

/// What cargo's own output does not say.
#[derive(Debug, Default)]
struct Outcome {
    failed: Vec<&'static str>,
    /// What could not run, and why; tests that need it have failed.
    missing: Vec<String>,
    /// What was left out for want of root: a developer may live with that, CI may not.
    unprivileged: Option<String>,
}

impl Outcome {
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

/// Runs all that this user may run; `arguments` go to every test harness.
pub(crate) fn run(arguments: &[OsString]) -> Result<()> {
    let mut outcome = Outcome::default();
    let mut workspace = cargo::command()?;
    workspace
        .args(["test", "--locked", "--workspace", "--no-fail-fast", "--"])
        .args(arguments);
    if !system::succeeds(&mut workspace)? {
        outcome.failed.push("the tests of the workspace");
    }
    let kernel = match system::sudo() {
        Ok(sudo) => kernel_suite(sudo, arguments, &mut outcome),
        Err(why) => {
            outcome.unprivileged = Some(format!("the kernel suite: {why}"));
            Ok(())
        }
    };
    if outcome.not_run().next().is_some() {
        eprintln!("\nNOT RUN:");
        outcome.not_run().for_each(|line| eprintln!("  {line}"));
    }
    kernel.and_then(|()| outcome.verdict(system::is_ci()))
}

fn kernel_suite(sudo: Option<PathBuf>, arguments: &[OsString], outcome: &mut Outcome) -> Result<()> {
    if !Path::new(KERNEL_BTF).exists() {
        outcome
            .missing
            .push(format!("tests on the tp_btf hook: this kernel has no {KERNEL_BTF}"));
    }
    outcome.missing.extend(peers::install());
    let passed = match sudo {
        None => system::succeeds(cargo::command()?.args(KERNEL_SUITE).arg("--").args(arguments)),
        // Cargo itself stays an ordinary user's, or root would own what it builds.
        Some(sudo) => cargo::executable(&[&KERNEL_SUITE[..], &["--no-run"]].concat(), "kernel").and_then(|suite| {
            let package = cargo::root()?.join("tcpwatch");
            system::succeeds(system::through(Some(sudo), &suite).args(arguments).current_dir(package))
        }),
    };
    if !passed? {
        outcome.failed.push("the kernel suite");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn only_want_of_root_is_forgiven_and_not_in_ci() {
        let all_ran = Outcome::default();
        let unprivileged = || Outcome {
            unprivileged: Some("the kernel suite: not root".to_owned()),
            ..Outcome::default()
        };
        let missing = Outcome {
            missing: vec!["bpftrace: not installed".to_owned()],
            ..unprivileged()
        };
        let failed = Outcome {
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
