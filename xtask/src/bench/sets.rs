//! What sets of needs cost, each alone and all at once: records are read by a program that has no use for them.

use anyhow::Result;

use super::cost::{self, Plan};
use super::numbers::median;
use super::observer::Observer;
use super::report::Report;
use super::room::Room;
use super::table::{self, number, range};
use super::target::Target;
use super::workload::{connections, turns};

/// As commands have them: `trace`, `life` and `churn`, `leaks --watch`, `latency`, `leaks --watch --stacks`.
const ALONE: [Observer; 5] = [
    Observer::Needs(&["transitions", "owners"]),
    Observer::Needs(&["connections", "owners"]),
    Observer::Needs(&["openings", "owners"]),
    Observer::Needs(&["latency"]),
    Observer::Needs(&["openings", "owners", "stacks"]),
];
const AT_ONCE: Observer = Observer::Needs(&["transitions", "connections", "openings", "owners", "latency", "stacks"]);

/// Of what the dearest set costs, all of them at once cost at most this.
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
        let rows: Vec<Vec<String>> = costs
            .iter()
            .map(|cost| {
                let added = cost.added();
                vec![
                    cost.observer.to_string(),
                    number(median(&cost.wall_ns), 0),
                    number(added.median, 0),
                    number(added.mad, 0),
                    range(added.min, added.max, 0),
                    number(median(&cost.cpu_added_ns), 0),
                ]
            })
            .collect();
        let header = ["", "ns", "added", "noise", "min..max", "added, CPU"];
        for line in table::lines(&header, &rows) {
            report.line(&line)?;
        }
        let added = |observer| cost::of(&costs, observer).map_or(f64::NAN, |cost| cost.added().median);
        let dearest = ALONE.into_iter().map(added).fold(f64::NAN, f64::max);
        let what = format!("everything at once, next to the dearest set, {}", plan.name);
        report.target(Target::at_most(&what, added(AT_ONCE) / dearest, OF_THE_DEAREST, "x", 2));
    }
    Ok(())
}
