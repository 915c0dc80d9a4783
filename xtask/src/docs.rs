//! `cargo xtask docs`: makes the samples in the pages by real runs, or checks that their labels have not drifted.
//!
//! A sample is a code block below `<!-- sample: COMMAND, on WORKLOAD -->`. It has what the command prints while the workload runs in a
//! network namespace of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::{env, fs, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use crate::test::{harnesses, peers};
use crate::{cargo, system};

mod labels;
mod page;
mod workload;

use labels::Labels;
use page::{Line, Outputs, Page, Sample};
use workload::Workload;

/// How often a sample is made before its labels count as different: what is printed depends on the moment, too.
const TRIES: usize = 3;

/// What is asked of the samples.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Write nothing; fail where the labels of a sample are not those that its command prints now
    #[arg(long)]
    check: bool,
    /// What this program starts itself with as root
    #[arg(long, hide = true, num_args = 2, value_names = ["WORKSPACE", "FOLDER"])]
    built: Option<Vec<PathBuf>>,
}

/// Makes or checks all samples. Builds as the user who typed it, and goes on as root.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match arguments.built.as_deref() {
        Some([workspace, folder]) => samples(workspace, folder, arguments.check),
        _ => become_root(arguments.check),
    }
}

fn become_root(check: bool) -> Result<()> {
    let sudo = system::sudo().map_err(|why| anyhow!("the samples need root, for BPF and for namespaces: {why}"))?;
    let tcpwatch = harnesses::program()?;
    let folder = tcpwatch.parent().context("cargo put tcpwatch nowhere")?;
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut command = system::through(sudo, &this);
    command.arg("docs").args(check.then_some("--check"));
    command.arg("--built").arg(cargo::root()?).arg(folder);
    Err(anyhow!(command.exec()).context(format!("cannot start {}", command.get_program().display())))
}

/// The samples of all pages in the folder `workspace`, by the tcpwatch in `folder`.
fn samples(workspace: &Path, folder: &Path, check: bool) -> Result<()> {
    let missing = peers::install();
    if !missing.is_empty() {
        bail!("the workloads lack programs: {}", missing.join("; "));
    }
    let pages = Page::read_all(workspace)?;
    let samples = || pages.iter().flat_map(Page::samples);
    let mut by_workload: BTreeMap<Option<&str>, BTreeSet<&Line>> = BTreeMap::new();
    for Sample { line, .. } in samples() {
        by_workload.entry(line.workload.as_deref()).or_default().insert(line);
    }
    let is_right = |line: &Line, output: &str| {
        let mut shown = samples().filter(|sample| sample.line == *line);
        !check || shown.all(|sample| Labels::drift(&sample.output, output).is_none())
    };
    // Each workload has a namespace of its own, so they run side by side.
    let outputs = thread::scope(|scope| {
        let start = |(name, lines)| {
            let workload = Workload::new(workspace, folder, name);
            scope.spawn(move || outputs(&workload, &lines, is_right))
        };
        let runs: Vec<_> = by_workload.into_iter().map(start).collect();
        let ended = runs
            .into_iter()
            .map(|run| run.join().map_err(|_| anyhow!("a run panicked"))?);
        ended.collect::<Result<Vec<_>>>()
    })?;
    let outputs: Outputs = outputs.into_iter().flatten().collect();
    if !check {
        for page in &pages {
            let text = page.with(&outputs);
            fs::write(page.path(workspace), text).with_context(|| format!("cannot write {}", page.name))?;
        }
        return Ok(());
    }
    let drifted: Vec<String> = pages.iter().filter_map(|page| page.drift(&outputs)).collect();
    for line in &drifted {
        eprintln!("{line}");
    }
    if !drifted.is_empty() {
        bail!("samples have drifted: type `cargo xtask docs`, and read the pages again");
    }
    Ok(())
}

/// What the command lines print, one after the other while the workload runs.
fn outputs<'a>(
    workload: &Workload,
    lines: &BTreeSet<&'a Line>,
    is_right: impl Fn(&Line, &str) -> bool,
) -> Result<Outputs<'a>> {
    let mut outputs = Outputs::new();
    for run in 1..=TRIES {
        let printed = workload.run(|workload| {
            let printed = lines.iter().map(|line| workload.output(&line.command));
            printed.collect::<Result<Vec<_>>>()
        });
        let printed = match printed {
            Err(_) if run < TRIES => continue,
            printed => printed?,
        };
        for (&line, output) in lines.iter().zip(printed) {
            if !outputs.get(line).is_some_and(|output| is_right(line, output)) {
                outputs.insert(line, output);
            }
        }
        if outputs.iter().all(|(line, output)| is_right(line, output)) {
            break;
        }
    }
    Ok(outputs)
}
