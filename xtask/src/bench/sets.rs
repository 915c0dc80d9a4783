//! What sets of needs cost, each alone and all at once, where a program reads the records and drops them.

use anyhow::Result;

use super::cost::{self, Cost, HEADER, Plan};
use super::observer::Observer;
use super::report::Report;
use super::room::Room;
use super::table;
use super::target::Target;
use super::workload::{connections, turns};

/// As commands have them: `trace`, `trace --lives`, `churn`, `latency --by process`, `leaks --watch --stacks`.
const ALONE: [Observer; 5] = [
    Observer::Needs(&["transitions", "owners"]),
    Observer::Needs(&["connections", "owners"]),
    Observer::Needs(&["openings", "connections", "owners"]),
    Observer::Needs(&["latency", "owners"]),
    Observer::Needs(&["transitions", "owners", "stacks"]),
];
const AT_ONCE: Observer = Observer::Needs(&["transitions", "connections", "openings", "owners", "latency", "stacks"]);

/// All of them at once cost at most so many times what the dearest costs.
const OF_THE_DEAREST: f64 = 1.25;

/// Runs this part.
pub(super) fn run(room: &Room, report: &mut Report) -> Result<()> {
    let plans = [
        Plan {
            name: "sets, turns",
            rounds: room.choose(15, 3),
            workload: turns,
            units: 50_000,
            warm_up: 2_000,
        },
        Plan {
            name: "sets, connections",
            rounds: room.choose(15, 3),
            workload: connections,
            units: 4_000,
            warm_up: 200,
        },
    ];
    let mut observers = vec![Observer::Nothing];
    observers.extend(ALONE);
    observers.push(AT_ONCE);
    for plan in plans {
        let costs = cost::measure(room, report, &plan, &observers);
        report.title(&format!(
            "{}: ns a unit, added by each set of needs and by all at once",
            plan.name
        ))?;
        report.line(&format!("{} rounds of {} units", plan.rounds, plan.units))?;
        let rows: Vec<Vec<String>> = costs.iter().map(Cost::row).collect();
        for line in table::lines(&HEADER, &rows) {
            report.line(&line)?;
        }
        let added = |observer| cost::of(&costs, observer).map_or(f64::NAN, |cost| cost.added().median);
        // A set that was not measured may be the dearest.
        let alone = ALONE.map(added);
        let dearest = if alone.iter().any(|ns| ns.is_nan()) {
            f64::NAN
        } else {
            alone.into_iter().fold(f64::NAN, f64::max)
        };
        let what = format!("everything at once, next to the dearest set, {}", plan.name);
        report.target(Target::at_most(&what, added(AT_ONCE) / dearest, OF_THE_DEAREST, "x", 2));
    }
    Ok(())
}
