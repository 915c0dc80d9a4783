//! `cargo xtask fuzz`: runs the fuzz targets in `tests/fuzz` under libFuzzer, which looks for inputs that reach new code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::cargo;

/// Where the targets are.
const FOLDER: &str = "tests/fuzz";

/// Where inputs are kept on which a target failed.
const FOUND: &str = "target/fuzz/found";

/// How long one input may take, s: on a busy machine the process may wait long for a CPU.
const INPUT_MAX_S: u32 = 25;

/// How long an input may become, bytes: by itself libFuzzer makes none longer than the longest seed.
const INPUT_MAX_BYTES: u32 = 32_768;

/// Memory that the process may have, MiB. Rust code has a lower limit of its own.
const MEMORY_MAX_MB: u32 = 1024;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Targets to run; all by default
    targets: Vec<String>,
    /// How long to run each, s
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// What the random numbers start from
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

/// What a run of a target printed at its end.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    /// Inputs that were tried.
    inputs: u64,
    /// Places in the code that they reached.
    reached: u64,
}

/// Runs the targets, one after the other, and fails if any of them found something.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let targets = select(
        &all_targets(&cargo::root()?.join(FOLDER).join("seeds"))?,
        &arguments.targets,
    )?;
    let program = build()?;
    let mut found = Vec::new();
    for target in targets {
        eprintln!("== fuzz {target}, {} s", arguments.seconds);
        let output = start(&program, &target, arguments)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            let Summary { inputs, reached } = summary(&text).with_context(|| format!("{target} was not fuzzed"))?;
            eprintln!("{target}: {inputs} inputs reached {reached} places and found nothing");
        } else {
            eprintln!("{text}");
            found.push(target);
        }
    }
    if !found.is_empty() {
        bail!(
            "failed: {}; try FUZZ_TARGET=TARGET {} FILE with a file of {FOUND}",
            found.join(", "),
            program.display()
        );
    }
    Ok(())
}

/// The names of all targets: each has a folder of seeds.
fn all_targets(seeds: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(seeds).with_context(|| format!("cannot read {}", seeds.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The targets that are `wanted` of `all`.
fn select(all: &[String], wanted: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target is called {unknown}; try {}", all.join(", "));
    }
    let is_wanted = |name: &&String| wanted.is_empty() || wanted.contains(name);
    Ok(all.iter().filter(is_wanted).cloned().collect())
}

/// Builds the targets. Packages of the workspace count what is run; their dependencies are those of the tests.
fn build() -> Result<PathBuf> {
    let mut command = cargo::command()?;
    command.env(
        "RUSTC_WORKSPACE_WRAPPER",
        cargo::root()?.join(FOLDER).join("rustc-with-coverage"),
    );
    cargo::build(
        &mut command,
        &["build", "--locked", "--workspace", "--bin=fuzz"],
        "fuzz",
    )
}

/// Runs a target to its end. What it tried before is kept in the target folder, and is tried again.
fn start(program: &Path, target: &str, arguments: &Arguments) -> Result<Output> {
    let root = cargo::root()?;
    let corpus = root.join("target/fuzz/corpus").join(target);
    let found = root.join(FOUND);
    for folder in [&corpus, &found] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // Files that a target writes. In memory, if possible: it writes some for each input.
    let memory = Path::new("/dev/shm");
    let files = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    let files = files.context("cannot make a temporary folder")?;
    let mut command = Command::new(program);
    command
        .arg(format!("-max_total_time={}", arguments.seconds))
        .arg(format!("-seed={}", arguments.seed))
        .arg(format!("-timeout={INPUT_MAX_S}"))
        .arg(format!("-rss_limit_mb={MEMORY_MAX_MB}"))
        .arg(format!("-artifact_prefix={}/{target}-", found.display()))
        .arg(format!("-max_len={INPUT_MAX_BYTES}"))
        .arg("-print_final_stats=1")
        .arg(corpus)
        .arg(root.join(FOLDER).join("seeds").join(target))
        .env("FUZZ_TARGET", target)
        .env("TMPDIR", files.path())
        .stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// What libFuzzer printed of a run that found nothing.
fn summary(text: &str) -> Result<Summary> {
    let number_after = |start: &str| {
        let rest = text.rsplit_once(start)?.1.trim_start();
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    };
    let inputs = number_after("stat::number_of_executed_units:").unwrap_or(0);
    let reached = number_after(" cov: ").unwrap_or(0);
    ensure!(
        text.contains("inline 8-bit counters"),
        "the program does not count what is run"
    );
    ensure!(inputs > 0 && reached > 0, "{inputs} inputs reached {reached} places");
    Ok(Summary { inputs, reached })
}

#[cfg(test)]
mod tests {
    use super::{Summary, select, summary};

    #[test]
    fn all_targets_are_run_unless_some_are_named() {
        let all = ["btf", "format"].map(str::to_owned);
        assert_eq!(select(&all, &[]).unwrap(), all);
        assert_eq!(select(&all, &all[1..]).unwrap(), all[1..]);
        let error = select(&all, &["none".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "no fuzz target is called none; try btf, format");
    }

    #[test]
    fn a_run_that_tried_nothing_or_saw_nothing_is_no_success() {
        let counters = "INFO: Loaded 1 modules   (5 inline 8-bit counters): 5 [0x1, 0x6),\n";
        let lines = "#2\tINITED cov: 7 ft: 8 corp: 1/1b\n#9\tDONE   cov: 12 ft: 13 corp: 2/3b\n";
        let end = "stat::number_of_executed_units: 9\nstat::peak_rss_mb:              31\n";
        let whole = Summary { inputs: 9, reached: 12 };
        assert_eq!(summary(&[counters, lines, end].concat()).unwrap(), whole);
        for text in [
            &[lines, end].concat(),
            &[counters, end].concat(),
            &[counters, lines].concat(),
            "",
        ] {
            assert!(summary(text).is_err(), "{text}");
        }
    }
}
