//! What `leaks`, `doctor` and `explain` take: how long one waits for an answer, and what `--stacks` adds to a connection.

use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::json;

use super::child::Running;
use super::cost::{self, Cost, CostPlan, HEADER};
use super::numbers::{SampleStats, float};
use super::report::Report;
use super::sandbox::Sandbox;
use super::socket_pool::SocketPool;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::Tracer;
use super::workload::connections;
use crate::clock;

/// Sockets beside which `leaks` answers; of each twenty connections one is half closed, and both its ends are stuck.
const MANY: u64 = 104_000;

/// Each answer, and how long it may take, ms.
const ANSWERS: [(&str, &[&str], f64); 3] = [
    ("leaks, one scan", &["leaks", "--older", "10ms", "-o", "json"], 1000.0),
    ("doctor", &["doctor"], 50.0),
    ("explain", &["explain", "close_wait"], 50.0),
];

/// Of each `accept()` and each `connect()` with `--stacks`, at most, us more than without.
const STACK_US: f64 = 5.0;

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    stacks(sandbox, report)?;
    report.progress("diagnosis, gathering many sockets", 0, 1);
    sandbox.keep_timewait(1 << 20)?;
    let pool = SocketPool::gather(MANY)?;
    let rounds = sandbox.choose(11, 3);
    let mut rows = Vec::new();
    for (name, args, most_ms) in ANSWERS {
        // Settings and pages are those of any host; what there is beside is for `leaks`.
        let mut wall_ms = Vec::new();
        for round in 0..rounds {
            report.progress(name, round, rounds);
            let start = clock::start();
            let mut command = Command::new(&sandbox.tcpwatch);
            command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
            Running::start(&mut command)?.wait()?;
            wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let wall = SampleStats::from_samples(&wall_ms);
        rows.push(vec![
            name.to_owned(),
            number(wall.median, 1),
            number(wall.mad, 1),
            range(wall.min, wall.max, 1),
        ]);
        report.raw(&format!("diagnosis, {name}"), json!({ "wall_ms": wall_ms }));
        report.target(Target::at_most(name, wall.median, most_ms, "ms", 1));
    }
    drop(pool);
    report.title("diagnosis: how long one waits for an answer")?;
    report.line(&format!(
        "{rounds} rounds beside about {MANY} sockets; ms of wall clock, output to /dev/null"
    ))?;
    for line in table::lines(&["", "ms", "noise", "min..max"], &rows) {
        report.line(&line)?;
    }
    Ok(())
}

/// What a connection takes more with `--stacks` than without: one `accept()` and one `connect()`.
fn stacks(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let plan = CostPlan {
        name: "stacks",
        rounds: sandbox.choose(15, 3),
        workload: connections,
        units: 4_000,
        warm_up: 200,
    };
    let [without, with] = [false, true].map(|stacks| Tracer::Leaks { stacks });
    let costs = cost::measure(sandbox, report, &plan, &[Tracer::Nothing, without, with]);
    report.title("stacks: connect, accept, close, close over loopback at full speed")?;
    report.line(&format!(
        "{} rounds of {} connections; ns a connection",
        plan.rounds, plan.units
    ))?;
    let rows: Vec<Vec<String>> = costs.iter().map(Cost::row).collect();
    for line in table::lines(&HEADER, &rows) {
        report.line(&line)?;
    }
    if let (Some(with), Some(without)) = (cost::find_cost(&costs, with), cost::find_cost(&costs, without)) {
        let calls = float(2);
        let us = with.added_to(without).median / 1e3 / calls;
        report.target(Target::at_most(
            "--stacks, each accept() or connect()",
            us,
            STACK_US,
            "us",
            2,
        ));
    }
    Ok(())
}
