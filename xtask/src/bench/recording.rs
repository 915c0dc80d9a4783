//! What recording a transition costs, in CPU time and on disk, and how fast a recording is shown again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::child::{Running, Usage};
use super::numbers::{SampleStats, float, median};
use super::report::Report;
use super::sandbox::{SCRATCH, Sandbox};
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::{PATIENCE, SETTLE};
use super::workload::connections;
use crate::clock;

/// Connections of one round over loopback: 600,000 transitions.
const CONNECTIONS: u64 = 60_000;

/// Transitions of a connection whose both ends are here.
const TRANSITIONS: u64 = 10;

/// The most that a recorded transition may cost, us of CPU time and bytes on disk.
const US: f64 = 1.0;
const BYTES: f64 = 24.0;

/// The fewest transitions a second that a recording is shown at, by command.
const REPLAYS: [(&[&str], f64); 2] = [(&["stat"], 3e6), (&["churn", "1"], 1e6)];

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let rounds = sandbox.choose(7, 2);
    let (mut idle, mut loaded, mut bytes, mut lost) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let mut rates: Vec<Vec<f64>> = REPLAYS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        report.progress("recording", round, rounds);
        let (dir, usage) = record(sandbox, &["--needs", "transitions"], "idle", 0)?;
        idle.push(us(usage));
        fs::remove_dir_all(&dir)?;
        let (dir, usage) = record(sandbox, &["--needs", "transitions"], "loaded", CONNECTIONS)?;
        loaded.push(us(usage));
        bytes.push(float(size(&dir)?));
        lost += transitions_lost(sandbox, &dir)?;
        fs::remove_dir_all(&dir)?;
        let (dir, _) = record(sandbox, &[], "whole", CONNECTIONS)?;
        for ((args, _), rates) in REPLAYS.iter().zip(&mut rates) {
            let replay = Running::start(replay(sandbox, &dir, args).stdout(Stdio::null()))?;
            rates.push(float(CONNECTIONS * TRANSITIONS) / replay.wait()?.cpu().as_secs_f64());
        }
        fs::remove_dir_all(&dir)?;
    }
    let events = float(CONNECTIONS * TRANSITIONS);
    let idle = median(&idle);
    let cost: Vec<f64> = loaded.iter().map(|us| (us - idle) / events).collect();
    let each: Vec<f64> = bytes.iter().map(|bytes| bytes / events).collect();
    report.title("recording: record -w DIR --needs transitions, and replay of a recording of all")?;
    report.line(&format!(
        "{rounds} rounds of {CONNECTIONS} connections, {events} transitions, at full speed; CPU less the median of as many runs without any"
    ))?;
    let mut rows = vec![
        row("us of CPU a transition", &cost, 2),
        row("bytes a transition", &each, 1),
    ];
    for ((args, _), rates) in REPLAYS.iter().zip(&rates) {
        rows.push(row(
            &format!("replay {}, transitions a second of CPU", args.join(" ")),
            rates,
            0,
        ));
    }
    for line in table::lines(&["", "median", "min..max"], &rows) {
        report.line(&line)?;
    }
    report.raw(
        "recording",
        json!({ "us": cost, "bytes": each, "replays": rates, "lost": lost }),
    );
    report.target(Target::at_most(
        "transitions lost while recording at full speed",
        float(lost),
        0.0,
        "",
        0,
    ));
    report.target(Target::at_most(
        "recording, CPU a transition",
        median(&cost),
        US,
        "us",
        2,
    ));
    report.target(Target::at_most(
        "recording, on disk a transition",
        median(&each),
        BYTES,
        "bytes",
        1,
    ));
    for ((args, least), rates) in REPLAYS.iter().zip(&rates) {
        let promise = format!("replay {}, transitions a second of CPU", args.join(" "));
        report.target(Target::at_least(&promise, median(rates), *least, "", 0));
    }
    Ok(())
}

fn row(name: &str, samples: &[f64], digits: usize) -> Vec<String> {
    let stats = SampleStats::from_samples(samples);
    vec![
        name.to_owned(),
        number(stats.median, digits),
        range(stats.min, stats.max, digits),
    ]
}

fn us(usage: Usage) -> f64 {
    usage.cpu().as_secs_f64() * 1e6
}

/// Records `count` connections in a directory called `name`.
fn record(sandbox: &Sandbox, args: &[&str], name: &str, count: u64) -> Result<(PathBuf, Usage)> {
    let dir = Path::new(SCRATCH).join(name);
    let mut command = Command::new(&sandbox.tcpwatch);
    command.args(["record", "-w"]).arg(&dir).args(args);
    let running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    // What was written shows that it is recording.
    let start = clock::start();
    while !dir.join("index").exists() {
        ensure!(start.elapsed() < PATIENCE, "tcpwatch record writes nothing");
        thread::sleep(SETTLE);
    }
    connections(count)?;
    let usage = running.interrupt()?;
    Ok((dir, usage))
}

fn replay(sandbox: &Sandbox, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&sandbox.tcpwatch);
    command.arg("replay").arg(dir).args(args).stdin(Stdio::null());
    command
}

/// Bytes of the files in `dir`.
fn size(dir: &Path) -> Result<u64> {
    fs::read_dir(dir)?.try_fold(0, |sum, file| Ok(sum + file?.metadata()?.len()))
}

/// Transitions of the recording `dir` that were lost, by its own end and by their number.
fn transitions_lost(sandbox: &Sandbox, dir: &Path) -> Result<u64> {
    let output = replay(sandbox, dir, &["trace", "-o", "json"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let end = text.lines().last().context("a recording without an end")?;
    let end: Value = serde_json::from_str(end)?;
    let number = |key: &str| end[key].as_u64().with_context(|| format!("no number of {key}"));
    let missing = (CONNECTIONS * TRANSITIONS).saturating_sub(number("printed")?);
    Ok(missing.max(number("lost")?))
}
