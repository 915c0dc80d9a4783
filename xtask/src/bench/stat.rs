//! `tcpwatch stat` and `trace`: how soon they say something; and what `stat` costs where nothing happens.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::child::Running;
use super::numbers::SampleStats;
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::Hook;
use super::workload::turns;
use crate::clock;

/// From the start to the first row, at most, ms.
const FIRST_ROW_MS: f64 = 100.0;
/// From the start to the first transition that `trace` prints, at most, ms.
const FIRST_TRANSITION_MS: f64 = 150.0;
/// Of a core at idle, less than this, %.
const IDLE_PERCENT: f64 = 0.2;

/// What was measured with one hook.
pub(super) struct Cost {
    /// From the start to the first row, ms, of each round.
    pub(super) first_row_ms: Vec<f64>,
    /// Of a core, %, after that.
    pub(super) percent: Vec<f64>,
}

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let hooks = [Hook::TpBtf, Hook::Tracepoint];
    let idle = Duration::from_secs(sandbox.choose(20, 5));
    let costs = measure(sandbox, report, "stat", sandbox.choose(9, 3), idle)?;
    report.title("stat: `tcpwatch stat 1` where nothing happens")?;
    show(report, &costs, idle)?;
    first_transition(sandbox, report)?;
    for (hook, cost) in hooks.into_iter().zip(&costs) {
        let first_row = SampleStats::from_samples(&cost.first_row_ms).median;
        let promise = format!("first row of stat, {hook}");
        report.target(Target::at_most(&promise, first_row, FIRST_ROW_MS, "ms", 0));
        let percent = SampleStats::from_samples(&cost.percent).median;
        let promise = format!("stat 1 at idle, of a core, {hook}");
        report.target(Target::at_most(&promise, percent, IDLE_PERCENT, "%", 3));
    }
    Ok(())
}

/// Measures both hooks, typed one first.
pub(super) fn measure(
    sandbox: &Sandbox,
    report: &mut Report,
    name: &str,
    rounds: usize,
    idle: Duration,
) -> Result<[Cost; 2]> {
    let mut costs = [(); 2].map(|()| Cost {
        first_row_ms: Vec::new(),
        percent: Vec::new(),
    });
    for round in 0..rounds {
        report.progress(name, round, rounds);
        for (hook, cost) in [Hook::TpBtf, Hook::Tracepoint].into_iter().zip(&mut costs) {
            // Few of the rounds are long: CPU time is exact, and other people wait.
            let idle = if round < 3 { idle } else { Duration::ZERO };
            let (first_row, percent) = watch(sandbox, &["stat", "1"], hook, idle)?;
            cost.first_row_ms.push(first_row.as_secs_f64() * 1e3);
            cost.percent.extend(percent);
        }
    }
    for (hook, cost) in [Hook::TpBtf, Hook::Tracepoint].into_iter().zip(&costs) {
        report.raw(
            &format!("{name}, {hook}"),
            json!({ "first_row_ms": cost.first_row_ms, "percent": cost.percent }),
        );
    }
    Ok(costs)
}

/// Prints what was measured.
pub(super) fn show(report: &mut Report, costs: &[Cost; 2], idle: Duration) -> Result<()> {
    let rows: Vec<Vec<String>> = [Hook::TpBtf, Hook::Tracepoint]
        .into_iter()
        .zip(costs)
        .map(|(hook, cost)| {
            let first_row = SampleStats::from_samples(&cost.first_row_ms);
            let percent = SampleStats::from_samples(&cost.percent);
            vec![
                hook.to_string(),
                number(first_row.median, 0),
                number(first_row.mad, 0),
                range(first_row.min, first_row.max, 0),
                number(percent.median, 3),
                range(percent.min, percent.max, 3),
            ]
        })
        .collect();
    let share = format!("% of a core over {} s", idle.as_secs());
    let header = ["", "first row, ms", "noise", "min..max", &share, "min..max"];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    Ok(())
}

/// Measures how long `trace` takes until it prints a transition, where one comes every millisecond.
fn first_transition(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    report.title("trace: from the start to the first transition it prints, one a millisecond")?;
    for hook in [Hook::TpBtf, Hook::Tracepoint] {
        let over = AtomicBool::new(false);
        let first_rows = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && turns(1).is_ok() {
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let rounds = 0..sandbox.choose(9, 3);
            let first_rows =
                rounds.map(|_| Ok(watch(sandbox, &["trace"], hook, Duration::ZERO)?.0.as_secs_f64() * 1e3));
            let first_rows = first_rows.collect::<Result<Vec<f64>>>();
            over.store(true, Ordering::Relaxed);
            first_rows
        })?;
        let first_row = SampleStats::from_samples(&first_rows);
        report.line(&format!(
            "{hook}: {} ms, noise {}, {}",
            number(first_row.median, 0),
            number(first_row.mad, 0),
            range(first_row.min, first_row.max, 0)
        ))?;
        report.raw(&format!("trace, first transition, {hook}"), json!(first_rows));
        let promise = format!("first transition of trace, {hook}");
        report.target(Target::at_most(
            &promise,
            first_row.median,
            FIRST_TRANSITION_MS,
            "ms",
            0,
        ));
    }
    Ok(())
}

/// Starts tcpwatch with `arguments`: how long its first row took and, if `idle` is not zero, the share of a core it used for so long
/// after.
fn watch(sandbox: &Sandbox, arguments: &[&str], hook: Hook, idle: Duration) -> Result<(Duration, Option<f64>)> {
    let mut command = Command::new(&sandbox.tcpwatch);
    command.args(arguments).arg(format!("--hook={hook}"));
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let start = clock::start();
    let mut running = Running::start(&mut command)?;
    let output = running.pipes().stdout.take().context("no output")?;
    let mut lines = BufReader::new(output).lines();
    loop {
        let Some(line) = lines.next() else {
            bail!("tcpwatch {} ended before its first row", arguments.join(" "));
        };
        if is_row(&line?) {
            break;
        }
    }
    let first_row = start.elapsed();
    let mut percent = None;
    if !idle.is_zero() {
        let start = clock::start();
        let before = clock::process_cpu(running.pid())?;
        thread::sleep(idle);
        let used = clock::process_cpu(running.pid())?.saturating_sub(before);
        percent = Some(100.0 * used.as_secs_f64() / start.elapsed().as_secs_f64());
    }
    // The rows since lie in the pipe, which holds many more.
    running.interrupt()?;
    Ok((first_row, percent))
}

/// A row begins with the time of day; the header above it with blanks.
fn is_row(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_row;

    #[test]
    fn the_header_is_no_row() {
        assert!(!is_row("          connections                          per second"));
        assert!(!is_row("    time  estab syn_s"));
        assert!(is_row("11:51:55      ·     ·"));
    }
}
