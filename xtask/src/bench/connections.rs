//! What a whole connection costs more while something watches.

use anyhow::Result;

use super::cost::{self, CostPlan};
use super::numbers::{float, median};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::tracer::{Form, Hook, Tracer};
use super::workload::connections;

const TRACERS: [Tracer; 7] = [
    Tracer::Nothing,
    Tracer::Empty,
    Tracer::Stat(Hook::TpBtf),
    Tracer::Stat(Hook::Tracepoint),
    Tracer::Trace(Hook::TpBtf, Form::Text),
    Tracer::Trace(Hook::Tracepoint, Form::Text),
    Tracer::Tcpstates,
];

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let plan = CostPlan {
        name: "connections",
        rounds: sandbox.choose(15, 3),
        workload: connections,
        units: 4_000,
        warm_up: 200,
    };
    let costs = cost::measure(sandbox, report, &plan, &TRACERS);
    report.title("connections: connect, accept, close, close over loopback at full speed")?;
    report.line(&format!(
        "{} rounds of {} connections; ns a connection",
        plan.rounds, plan.units
    ))?;
    let each = float(plan.units + plan.warm_up);
    let rows: Vec<Vec<String>> = costs
        .iter()
        .map(|cost| {
            let wall = median(&cost.wall_ns);
            let added = cost.added();
            vec![
                cost.tracer.to_string(),
                number(1e9 / wall, 0),
                number(wall, 0),
                number(added.median, 0),
                number(added.mad, 0),
                range(added.min, added.max, 0),
                number(median(&cost.cpu_added_ns), 0),
                number(median(&cost.reported) / each, 2),
            ]
        })
        .collect();
    let header = [
        "",
        "per second",
        "ns",
        "added",
        "noise",
        "min..max",
        "added, CPU",
        "transitions reported of",
    ];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    Ok(())
}
