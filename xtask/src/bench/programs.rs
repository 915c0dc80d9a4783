//! How long the BPF programs themselves run, by the kernel's own statistics.

use std::thread;

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::json;
use tcpwatch_common::names;

use super::fdinfo::Program;
use super::hot_path::{STAT_NS, latency_ns, trace_ns};
use super::numbers::{SampleStats, float};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::{Form, Hook, SETTLE, Sink, Tracer};
use super::workload::{Took, connections, turns};

const TRACERS: [Tracer; 8] = [
    Tracer::Empty,
    Tracer::Stat(Hook::TpBtf),
    Tracer::Stat(Hook::Tracepoint),
    Tracer::Trace(Hook::TpBtf, Form::Text),
    Tracer::Trace(Hook::Tracepoint, Form::Text),
    Tracer::Latency(Hook::TpBtf),
    Tracer::Tcpstates,
    Tracer::BpftraceCount,
];

/// What programs run a transition at most, in the first workload, without what it costs to measure them, ns.
const LIMITS: [(Tracer, f64); 3] = [
    (Tracer::Stat(Hook::TpBtf), STAT_NS),
    (Tracer::Trace(Hook::TpBtf, Form::Text), trace_ns(Hook::TpBtf)),
    (Tracer::Latency(Hook::TpBtf), latency_ns(Hook::TpBtf)),
];

/// What the entry program of the second copy runs longer than an empty one, at most, ns.
const SECOND_COPY_NS: f64 = 25.0;

/// What runs meanwhile.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) run: fn(u64) -> Result<Took>,
    pub(super) units: u64,
}

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    // The kernel keeps them as long as this is open, and no longer.
    let _statistics = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of BPF programs")?;
    let rounds = sandbox.choose(5, 2);
    let workloads = [
        Workload {
            name: "turns",
            run: turns,
            units: sandbox.choose(100_000, 20_000),
        },
        Workload {
            name: "connections",
            run: connections,
            units: sandbox.choose(10_000, 2_000),
        },
    ];
    let mut rows = Vec::new();
    // Of each tracer what it ran in the first workload, where the work of a program is least: all, runs, and the second copy.
    let mut least = Vec::new();
    for tracer in TRACERS.into_iter().filter(|tracer| tracer.is_there(sandbox)) {
        report.progress("programs", rows.len(), TRACERS.len());
        let mut row = vec![tracer.to_string()];
        for (index, workload) in workloads.iter().enumerate() {
            let samples = (0..rounds)
                .map(|_| run_times(sandbox, tracer, workload))
                .collect::<Result<Vec<RunTimes>>>();
            let samples = samples.unwrap_or_else(|why| {
                report.not_run(format!("programs: {tracer}: {why:#}"));
                Vec::new()
            });
            let all: Vec<f64> = samples.iter().map(|sample| sample.all_ns).collect();
            let second: Vec<f64> = samples.iter().filter_map(|sample| sample.second_copy_ns).collect();
            let (of_all, of_second) = (SampleStats::from_samples(&all), SampleStats::from_samples(&second));
            row.extend([
                number(of_all.median, 0),
                range(of_all.min, of_all.max, 0),
                number(of_second.median, 0),
            ]);
            if index == 0 {
                let runs: Vec<f64> = samples.iter().map(|sample| sample.runs).collect();
                least.push((
                    tracer,
                    of_all.median,
                    SampleStats::from_samples(&runs).median,
                    of_second.median,
                ));
            }
            let raw = json!({ "all_ns": all, "second_copy_ns": second });
            report.raw(&format!("programs, {}, {tracer}", workload.name), raw);
        }
        rows.push(row);
    }
    report
        .title("programs: ns a transition in BPF programs, by the kernel (each run has the cost of measuring in it)")?;
    let header = [
        "",
        "listen, shutdown",
        "min..max",
        "of it second copy",
        "connections",
        "min..max",
        "of it second copy",
    ];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    let of = |wanted| least.iter().find(|(tracer, ..)| *tracer == wanted);
    let Some((_, empty, ..)) = of(Tracer::Empty) else {
        return Ok(());
    };
    if let Some((.., second)) = of(Tracer::Stat(Hook::TpBtf)) {
        let promise = format!("second copy ({second:.0} ns), more than an empty program");
        report.target(Target::at_most(&promise, second - empty, SECOND_COPY_NS, "ns", 0));
    }
    for (tracer, limit) in LIMITS {
        if let Some((_, all, runs, _)) = of(tracer) {
            let promise = format!("programs of {tracer}, more than as many empty ones");
            report.target(Target::at_most(&promise, all - runs * empty, limit, "ns", 0));
        }
    }
    Ok(())
}

/// How long the programs of a tracer ran, a transition.
pub(super) struct RunTimes {
    /// All of them together, ns, with what it costs to measure each.
    pub(super) all_ns: f64,
    /// How many ran.
    pub(super) runs: f64,
    /// The second copy, ns; `None` where there is none.
    second_copy_ns: Option<f64>,
}

/// Lets `tracer` watch `workload` while the kernel keeps statistics ([`enable_stats`]).
pub(super) fn run_times(sandbox: &Sandbox, tracer: Tracer, workload: &Workload) -> Result<RunTimes> {
    let attached = tracer.attach(sandbox, Sink::Tmpfs)?;
    thread::sleep(SETTLE);
    (workload.run)(workload.units)?;
    let programs = attached.programs();
    let entry = format!("{}_{}", names::ENTRY, names::TYPED_COPY);
    let second_copies: Vec<u64> = loaded_programs()
        .filter_map(Result::ok)
        .filter(|info| info.name_as_str() == Some(&entry))
        .map(|info| info.id().into())
        .collect();
    let second_copy = programs.iter().find(|program| second_copies.contains(&program.id));
    attached.finish()?;
    let a_run = |program: &Program| float(program.ns) / float(program.count);
    let transitions = float(programs.iter().map(|program| program.count).max().unwrap_or(0));
    Ok(RunTimes {
        all_ns: float(programs.iter().map(|program| program.ns).sum()) / transitions,
        runs: float(programs.iter().map(|program| program.count).sum()) / transitions,
        second_copy_ns: second_copy.map(a_run),
    })
}
