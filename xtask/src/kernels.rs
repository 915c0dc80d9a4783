//! `cargo xtask kernels`: runs on each kernel of a matrix the tests that need nothing but a kernel.
//!
//! Debian's kernels boot under QEMU, two at a time. It always emulates the CPU, so that all runs are alike and none needs KVM.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{cargo, dist, system};

mod apt;
mod catalogue;
mod guest;
mod here;
mod image;
mod page;
mod programs;
mod results;

use results::{Column, KernelOutcome};

/// Guests at a time. Each has one thread of QEMU's that computes, and CI has two cores.
const GUESTS: usize = 2;

/// The word that stands for the kernel of this machine among versions.
const HERE: &str = "here";

/// Where the matrix is written down for users.
const PAGE: &str = "docs/kernels.md";

/// What prints what works, on each kernel.
const REPORT: &str = include_str!("kernels/report.sh");

/// What is asked of the matrix.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Kernels to test, as in `6.12`, and `here` for this machine's own (default: the whole matrix; if all pass, docs/kernels.md is
    /// written, with what --stats prints)
    versions: Vec<String>,
    /// Print the instructions and the stack of each BPF program too, as the kernel's verifier counts them
    #[arg(long)]
    stats: bool,
}

/// The programs that run on each kernel.
struct Programs {
    /// tcpwatch, statically linked.
    tcpwatch: PathBuf,
    /// The kernel suite, statically linked.
    suite: PathBuf,
}

/// Tests each kernel, and prints what works where.
///
/// # Errors
/// A kernel failed, could not be fetched or did not boot; or Debian serves none of them, or in CI not all of them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let whole = arguments.versions.is_empty();
    let columns: Vec<Vec<&str>> = if whole {
        let matrix = catalogue::MATRIX.map(<[&str]>::to_vec);
        matrix.into_iter().chain([vec![HERE]]).collect()
    } else {
        arguments
            .versions
            .iter()
            .map(|version| vec![version.as_str()])
            .collect()
    };
    programs::check()?;
    let root = cargo::root()?;
    let programs = Programs {
        tcpwatch: dist::build()?,
        suite: build_suite()?,
    };
    let folder = cargo::places()?.target.join("kernels");
    let columns = test(&folder, &columns, &programs)?;

    eprintln!("\n{}", page::page(&columns, arguments.stats));
    verdict(&columns, system::is_ci())?;
    if whole {
        let file = root.join(PAGE);
        fs::create_dir_all(file.parent().unwrap_or(&root))
            .and_then(|()| fs::write(&file, page::page(&columns, true)))
            .with_context(|| format!("cannot write {PAGE}"))?;
        eprintln!("wrote {PAGE}");
    }
    Ok(())
}

/// Builds the kernel suite. It is not optimised, which saves minutes, and runs well enough; the names of its functions stay.
fn build_suite() -> Result<PathBuf> {
    let build = ["test", "--locked", "--package=tcpwatch", "--test=kernel", "--no-run"];
    let lean = ["--config", "profile.dev.debug=false"];
    cargo::static_executable(&[&build[..], &lean].concat(), "kernel")
}

/// Tests all kernels: those of Debian in guests, and then this machine's.
fn test(folder: &Path, wanted: &[Vec<&str>], programs: &Programs) -> Result<Vec<Column>> {
    let in_guests: Vec<&Vec<&str>> = wanted.iter().filter(|versions| !is_here(versions)).collect();
    let kernels = if in_guests.is_empty() {
        Vec::new()
    } else {
        let apt = apt::Apt::set_up(folder)?;
        let fetch = |versions: &[&str]| {
            let download = |packages: &[String], folder: &Path| apt.download(packages, folder);
            image::Kernel::fetch(versions, apt.names(), folder, download)
        };
        let kernel = |versions: &Vec<&str>| (versions.join(" or "), fetch(versions));
        in_guests.into_iter().map(kernel).collect()
    };
    let next = Mutex::new(kernels.into_iter().enumerate());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..GUESTS {
            scope.spawn(|| {
                while let Some((place, (name, kernel))) = take(&next) {
                    let column = match kernel {
                        Ok(kernel) => Column {
                            outcome: KernelOutcome::from_run(guest::run(&kernel, folder, programs)),
                            version: kernel.version,
                        },
                        Err(why) => Column {
                            version: name,
                            outcome: why.into(),
                        },
                    };
                    column.report();
                    if let Ok(mut done) = done.lock() {
                        done.push((place, column));
                    }
                }
            });
        }
    });
    let mut columns = done.into_inner().unwrap_or_default();
    columns.sort_by_key(|(place, _)| *place);
    let mut columns: Vec<Column> = columns.into_iter().map(|(_, column)| column).collect();
    if wanted.iter().any(|versions| is_here(versions)) {
        let column = here::column(programs);
        column.report();
        columns.push(column);
    }
    Ok(columns)
}

fn is_here(versions: &[&str]) -> bool {
    versions == [HERE]
}

/// The next of what several threads share.
fn take<T>(next: &Mutex<impl Iterator<Item = T>>) -> Option<T> {
    next.lock().ok()?.next()
}

/// Fails unless every kernel passed that Debian serves, and it serves one; in CI all of them.
fn verdict(columns: &[Column], ci: bool) -> Result<()> {
    let versions = |is_meant: fn(&Column) -> bool| {
        let meant = columns.iter().filter(|column| is_meant(column));
        meant.map(|column| column.version.as_str()).collect::<Vec<_>>()
    };
    let failed = versions(Column::failed);
    if !failed.is_empty() {
        bail!("failed on Linux {}: see above", failed.join(", "));
    }
    let untested = versions(|column| matches!(column.outcome, KernelOutcome::Untested(_)));
    if untested.len() == columns.len() {
        bail!("no kernel was tested: Debian serves none of them");
    }
    if ci && !untested.is_empty() {
        bail!(
            "CI=true wants every kernel tested: Linux {} was not",
            untested.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::results::Run;
    use super::*;

    #[test]
    fn a_kernel_that_was_not_tested_is_forgiven_and_not_in_ci() {
        let column = |outcome| Column {
            version: "6.12".to_owned(),
            outcome,
        };
        let untested = || column(KernelOutcome::Untested("Debian serves it no more".to_owned()));
        let passed = || {
            column(KernelOutcome::Ran(Run::read(
                "suite\ntest a ... ok\nverifier\nexit 0\n",
                Duration::ZERO,
            )))
        };
        for (columns, alone, in_ci) in [
            (vec![passed()], true, true),
            (vec![passed(), untested()], true, false),
            (vec![untested()], false, false),
        ] {
            assert_eq!(verdict(&columns, false).is_ok(), alone);
            assert_eq!(verdict(&columns, true).is_ok(), in_ci);
        }
    }
}
