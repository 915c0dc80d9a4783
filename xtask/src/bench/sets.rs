//! What sets of needs cost, each alone and all at once, where a program reads the records and drops them: how long the BPF programs
//! run, by the kernel's own statistics.

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use serde_json::json;

use super::numbers::SampleStats;
use super::programs::{Workload, run_times};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::Tracer;
use super::workload::{connections, turns};

/// As commands have them: `trace`, `life`, `churn`, `latency --by process`, `leaks --watch --stacks`.
const ALONE: [Tracer; 5] = [
    Tracer::KernelNeeds(&["transitions", "owners"]),
    Tracer::KernelNeeds(&["connections", "owners"]),
    Tracer::KernelNeeds(&["openings", "connections", "owners"]),
    Tracer::KernelNeeds(&["latency", "owners"]),
    Tracer::KernelNeeds(&["transitions", "owners", "stacks"]),
];
const AT_ONCE: Tracer = Tracer::KernelNeeds(&["transitions", "connections", "openings", "owners", "latency", "stacks"]);

/// All of them at once cost at most so many times what the dearest costs.
const OF_THE_DEAREST: f64 = 1.25;

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    // The kernel keeps them as long as this is open, and no longer.
    let _statistics = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of BPF programs")?;
    let workloads = [
        Workload {
            name: "turns",
            run: turns,
            units: sandbox.choose(50_000, 10_000),
        },
        Workload {
            name: "connections",
            run: connections,
            units: sandbox.choose(5_000, 1_000),
        },
    ];
    for workload in workloads {
        let empty = costs(sandbox, report, Tracer::Empty, &workload, 0.0);
        let empty = SampleStats::from_samples(&empty).median;
        let mut rows = Vec::new();
        let mut medians = Vec::new();
        for tracer in ALONE.into_iter().chain([AT_ONCE]) {
            report.progress("sets", rows.len(), ALONE.len() + 1);
            let costs = costs(sandbox, report, tracer, &workload, empty);
            let summary = SampleStats::from_samples(&costs);
            rows.push(vec![
                tracer.to_string(),
                number(summary.median, 0),
                range(summary.min, summary.max, 0),
            ]);
            medians.push(summary.median);
            report.raw(&format!("sets, {}, {tracer}", workload.name), json!({ "ns": costs }));
        }
        report.title(&format!(
            "sets, {}: ns a transition in BPF programs, by the kernel, without what it costs to measure them",
            workload.name
        ))?;
        for line in table::lines(&["", "ns", "min..max"], &rows) {
            report.line(&line)?;
        }
        let at_once = medians.pop().unwrap_or(f64::NAN);
        // A set that was not measured may be the dearest.
        let dearest = if medians.iter().any(|ns| ns.is_nan()) {
            f64::NAN
        } else {
            medians.into_iter().fold(f64::NAN, f64::max)
        };
        let promise = format!("everything at once, next to the dearest set, {}", workload.name);
        report.target(Target::at_most(&promise, at_once / dearest, OF_THE_DEAREST, "x", 2));
    }
    Ok(())
}

/// What the programs of `tracer` ran a transition in each round, ns, less what as many empty ones did.
fn costs(sandbox: &Sandbox, report: &mut Report, tracer: Tracer, workload: &Workload, empty: f64) -> Vec<f64> {
    let rounds = sandbox.choose(5, 2);
    let costs = (0..rounds).map(|_| {
        let ran = run_times(sandbox, tracer, workload)?;
        Ok(ran.all_ns - ran.runs * empty)
    });
    costs.collect::<Result<Vec<f64>>>().unwrap_or_else(|why| {
        report.not_run(format!("sets: {tracer}: {why:#}"));
        Vec::new()
    })
}
