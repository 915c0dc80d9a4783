//! How long the BPF programs themselves run, by the kernel's own statistics.

use std::thread;

use anyhow::{Context as _, Result};
use aya::sys::{Stats, enable_stats};
use serde_json::json;

use super::numbers::{Summary, float};
use super::observer::{Form, Hook, Observer, SETTLE, Sink};
use super::report::Report;
use super::room::Room;
use super::table::{self, number, range};
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
    for observer in OBSERVERS.into_iter().filter(|observer| observer.is_there(room)) {
        report.progress("programs", rows.len(), OBSERVERS.len());
        let mut row = vec![observer.to_string()];
        for workload in &workloads {
            let samples = (0..rounds)
                .map(|_| ns_a_run(room, observer, workload))
                .collect::<Result<Vec<f64>>>();
            match samples {
                Ok(samples) => {
                    let summary = Summary::of(&samples);
                    row.extend([number(summary.median, 0), range(summary.min, summary.max, 0)]);
                    report.raw(&format!("programs, {}, {observer}", workload.name), json!(samples));
                }
                Err(why) => report.not_run(format!("programs: {observer}: {why:#}")),
            }
        }
        rows.push(row);
    }
    report.title("programs: ns a run of the BPF program, by the kernel (each has the cost of measuring in it)")?;
    for line in table::lines(&["", "listen, shutdown", "min..max", "connections", "min..max"], &rows) {
        report.line(&line)?;
    }
    Ok(())
}

fn ns_a_run(room: &Room, observer: Observer, workload: &Workload) -> Result<f64> {
    let attached = observer.attach(room, Sink::Tmpfs)?;
    thread::sleep(SETTLE);
    (workload.run)(workload.units)?;
    let runs = attached.runs();
    attached.finish()?;
    Ok(float(runs.ns) / float(runs.count))
}
