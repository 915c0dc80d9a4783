//! How long the BPF programs themselves run, by the kernel's own statistics.

use std::thread;

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};
use serde_json::json;

use super::fdinfo::Program;
use super::numbers::{Summary, float};
use super::observer::{Form, Hook, Observer, SETTLE, Sink};
use super::report::Report;
use super::room::Room;
use super::table::{self, number, range};
use super::target::Target;
use super::workload::{Took, connections, turns};

const OBSERVERS: [Observer; 7] = [
    Observer::Empty,
    Observer::Stat(Hook::TpBtf),
    Observer::Stat(Hook::Tracepoint),
    Observer::Trace(Hook::TpBtf, Form::Text),
    Observer::Trace(Hook::Tracepoint, Form::Text),
    Observer::Tcpstates,
    Observer::BpftraceCount,
];

/// The name of its entry program.
const SECOND_COPY: &str = "entry_typed2";
/// What the second copy of the programs runs, at most, ns.
const SECOND_COPY_NS: f64 = 25.0;

/// What runs meanwhile.
struct Workload {
    name: &'static str,
    run: fn(u64) -> Result<Took>,
    units: u64,
}

/// Runs this part.
pub(super) fn run(room: &Room, report: &mut Report) -> Result<()> {
    // The kernel keeps them as long as this is open, and no longer.
    let _statistics = enable_stats(Stats::RunTime).context("the kernel keeps no statistics of BPF programs")?;
    let rounds = room.choose(5, 2);
    let workloads = [
        Workload {
            name: "turns",
            run: turns,
            units: room.choose(100_000, 20_000),
        },
        Workload {
            name: "connections",
            run: connections,
            units: room.choose(10_000, 2_000),
        },
    ];
    let mut rows = Vec::new();
    let (mut empty, mut second_copy) = (f64::NAN, f64::NAN);
    for observer in OBSERVERS.into_iter().filter(|observer| observer.is_there(room)) {
        report.progress("programs", rows.len(), OBSERVERS.len());
        let mut row = vec![observer.to_string()];
        for workload in &workloads {
            let samples = (0..rounds)
                .map(|_| run_times(room, observer, workload))
                .collect::<Result<Vec<RunTimes>>>();
            match samples {
                Ok(samples) => {
                    let all: Vec<f64> = samples.iter().map(|sample| sample.all_ns).collect();
                    let second: Vec<f64> = samples.iter().filter_map(|sample| sample.second_copy_ns).collect();
                    let (all_of, second_of) = (Summary::of(&all), Summary::of(&second));
                    if workload.name == "turns" {
                        match observer {
                            Observer::Empty => empty = all_of.median,
                            Observer::Stat(Hook::TpBtf) => second_copy = second_of.median,
                            _ => {}
                        }
                    }
                    row.extend([
                        number(all_of.median, 0),
                        range(all_of.min, all_of.max, 0),
                        number(second_of.median, 0),
                    ]);
                    let raw = json!({ "all_ns": all, "second_copy_ns": second });
                    report.raw(&format!("programs, {}, {observer}", workload.name), raw);
                }
                Err(why) => report.not_run(format!("programs: {observer}: {why:#}")),
            }
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
    let what = "second copy, its own run time, less that of an empty program";
    report.target(Target::at_most(what, second_copy - empty, SECOND_COPY_NS, "ns", 0));
    Ok(())
}

/// How long the programs of an observer ran, ns a transition.
struct RunTimes {
    /// All of them together.
    all_ns: f64,
    /// The second copy; `None` where there is none.
    second_copy_ns: Option<f64>,
}

fn run_times(room: &Room, observer: Observer, workload: &Workload) -> Result<RunTimes> {
    let attached = observer.attach(room, Sink::Tmpfs)?;
    thread::sleep(SETTLE);
    (workload.run)(workload.units)?;
    let programs = attached.programs();
    let names = loaded_programs().filter_map(Result::ok);
    let second_copy = names
        .filter(|info| info.name_as_str() == Some(SECOND_COPY))
        .find_map(|info| {
            programs
                .iter()
                .find(|program| program.id == u64::from(info.id()))
                .copied()
        });
    attached.finish()?;
    let a_run = |program: Program| float(program.ns) / float(program.count);
    Ok(RunTimes {
        all_ns: float(programs.iter().map(|program| program.ns).sum())
            / float(programs.iter().map(|program| program.count).max().unwrap_or(0)),
        second_copy_ns: second_copy.map(a_run),
    })
}
