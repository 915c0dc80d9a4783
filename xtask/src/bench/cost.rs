//! Rounds of a workload, with another tracer at every turn.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::numbers::{SampleStats, float, median, paired};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{number, range};
use super::tracer::{SETTLE, Sink, Tracer, TracerResult};
use super::workload::Took;

/// What [`Cost::row`] shows.
pub(super) const HEADER: [&str; 6] = ["", "ns", "added", "noise", "min..max", "added, CPU"];

/// What is run, how often, and how long.
pub(super) struct CostPlan {
    /// What the report calls it.
    pub(super) name: &'static str,
    /// Rounds, in each of which every tracer has its turn.
    pub(super) rounds: usize,
    /// Runs the workload once, of so many units.
    pub(super) workload: fn(u64) -> Result<Took>,
    /// Units of a turn.
    pub(super) units: u64,
    /// Units before the clock starts.
    pub(super) warm_up: u64,
}

/// What a tracer's turns took.
///
/// A machine's speed wanders within seconds by more than what is to be measured. So every turn has its own measure: the
/// same workload with nothing attached, immediately before and after it.
pub(super) struct Cost {
    /// Whose.
    pub(super) tracer: Tracer,
    /// Nanoseconds a unit, of each round.
    pub(super) wall_ns: Vec<f64>,
    /// The same with nothing attached, around it.
    pub(super) bare_ns: Vec<f64>,
    /// What a unit takes longer with the tracer, of each round.
    pub(super) added_ns: Vec<f64>,
    /// The same, by the time the workload was on a CPU.
    pub(super) cpu_added_ns: Vec<f64>,
    /// Transitions it told of, of each round.
    pub(super) reported: Vec<f64>,
}

impl Cost {
    fn new(tracer: Tracer) -> Self {
        Self {
            tracer,
            wall_ns: Vec::new(),
            bare_ns: Vec::new(),
            added_ns: Vec::new(),
            cpu_added_ns: Vec::new(),
            reported: Vec::new(),
        }
    }

    fn add(&mut self, turn: &Turn, units: u64) {
        let each = |time: Duration, units: u64| time.as_secs_f64() * 1e9 / float(units);
        let around = |of: fn(&Took) -> Duration| {
            f64::midpoint(each(of(&turn.before), bare(units)), each(of(&turn.after), bare(units)))
        };
        let wall = each(turn.watched.wall, units);
        let bare = around(|took| took.wall);
        self.wall_ns.push(wall);
        self.bare_ns.push(bare);
        self.added_ns.push(wall - bare);
        self.cpu_added_ns
            .push(each(turn.watched.cpu, units) - around(|took| took.cpu));
        self.reported.extend(turn.outcome.reported.map(float));
    }

    /// What a unit takes longer.
    pub(super) fn added(&self) -> SampleStats {
        SampleStats::from_samples(&self.added_ns)
    }

    /// Its row under [`HEADER`], ns a unit.
    pub(super) fn row(&self) -> Vec<String> {
        let added = self.added();
        vec![
            self.tracer.to_string(),
            number(median(&self.wall_ns), 0),
            number(added.median, 0),
            number(added.mad, 0),
            range(added.min, added.max, 0),
            number(median(&self.cpu_added_ns), 0),
        ]
    }

    /// What a unit takes longer than with `other`, in the same round.
    pub(super) fn added_to(&self, other: &Self) -> SampleStats {
        SampleStats::from_samples(&paired(&self.added_ns, &other.added_ns, |one, other| one - other))
    }

    /// Transitions it did not tell of, over all rounds, of `each` that there were; NaN where it does not tell.
    pub(super) fn lost(&self, each: u64) -> f64 {
        if self.reported.is_empty() {
            return f64::NAN;
        }
        self.reported
            .iter()
            .map(|reported| (float(each) - reported).max(0.0))
            .sum()
    }

    fn raw(&self) -> Value {
        json!({
            "tracer": self.tracer.to_string(),
            "wall_ns": self.wall_ns,
            "bare_ns": self.bare_ns,
            "added_ns": self.added_ns,
            "cpu_added_ns": self.cpu_added_ns,
            "told": self.reported,
        })
    }
}

/// The cost of `tracer` among `costs`.
pub(super) fn find_cost(costs: &[Cost], tracer: Tracer) -> Option<&Cost> {
    costs.iter().find(|cost| cost.tracer == tracer)
}

/// Lets each of `tracers` have its turn in every round. One that fails is reported, and left out from then on.
pub(super) fn measure(sandbox: &Sandbox, report: &mut Report, plan: &CostPlan, tracers: &[Tracer]) -> Vec<Cost> {
    let there = tracers.iter().filter(|tracer| tracer.is_there(sandbox));
    let mut costs: Vec<Cost> = there.map(|&tracer| Cost::new(tracer)).collect();
    for round in 0..plan.rounds {
        report.progress(plan.name, round, plan.rounds);
        for tracer in order(&costs, round) {
            match turn(sandbox, plan, tracer) {
                Ok(turn) => {
                    if let Some(cost) = costs.iter_mut().find(|cost| cost.tracer == tracer) {
                        cost.add(&turn, plan.units);
                    }
                }
                Err(why) => {
                    report.not_run(format!("{}: {tracer}: {why:#}", plan.name));
                    costs.retain(|cost| cost.tracer != tracer);
                }
            }
        }
    }
    report.raw(plan.name, Value::Array(costs.iter().map(Cost::raw).collect()));
    costs
}

/// Nobody is always the first, nor always after the same one.
fn order(costs: &[Cost], round: usize) -> Vec<Tracer> {
    let mut order: Vec<Tracer> = costs.iter().map(|cost| cost.tracer).collect();
    let length = order.len().max(1);
    order.rotate_left(round * 3 % length);
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Units that are run before and after a turn of `units`.
fn bare(units: u64) -> u64 {
    (units / 2).max(1)
}

/// A turn of a tracer, and what was measured around it.
struct Turn {
    before: Took,
    watched: Took,
    outcome: TracerResult,
    after: Took,
}

fn turn(sandbox: &Sandbox, plan: &CostPlan, tracer: Tracer) -> Result<Turn> {
    // A CPU that has just slept is slower for a while, so each of the three comes after a sleep.
    let run = |units| {
        thread::sleep(SETTLE);
        (plan.workload)(plan.warm_up)
            .and_then(|_| (plan.workload)(units))
            .context("the workload failed")
    };
    let before = run(bare(plan.units))?;
    let attached = tracer.attach(sandbox, Sink::Tmpfs)?;
    let watched = run(plan.units)?;
    let outcome = attached.finish()?;
    let after = run(bare(plan.units))?;
    Ok(Turn {
        before,
        watched,
        outcome,
        after,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::child::Usage;
    use super::{Cost, Took, Tracer, TracerResult, Turn, order};

    fn costs() -> Vec<Cost> {
        [Tracer::Nothing, Tracer::Empty, Tracer::Tcpstates, Tracer::BpftraceCount]
            .map(Cost::new)
            .into()
    }

    #[test]
    fn every_round_has_everybody_in_another_order() {
        let costs = costs();
        let orders: Vec<Vec<Tracer>> = (0..4).map(|round| order(&costs, round)).collect();
        for (index, order) in orders.iter().enumerate() {
            assert_eq!(order.len(), 4);
            assert!(costs.iter().all(|cost| order.contains(&cost.tracer)));
            assert!(!orders[..index].contains(order));
        }
    }

    #[test]
    fn what_one_round_tells_too_much_another_has_still_lost() {
        let mut cost = Cost::new(Tracer::Tcpstates);
        cost.reported = vec![90.0, 101.0];
        assert!((cost.lost(100) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn a_turn_is_measured_by_what_is_around_it() {
        let took = |ms| Took {
            wall: Duration::from_millis(ms),
            cpu: Duration::from_millis(ms / 2),
        };
        let mut cost = Cost::new(Tracer::Empty);
        cost.add(
            &Turn {
                before: took(10),
                watched: took(36),
                outcome: TracerResult {
                    reported: None,
                    usage: Usage::default(),
                },
                after: took(20),
            },
            1_000_000,
        );
        assert!((cost.bare_ns[0] - 30.0).abs() < 1e-9);
        assert!((cost.added_ns[0] - 6.0).abs() < 1e-9);
        assert!((cost.cpu_added_ns[0] - 3.0).abs() < 1e-9);
    }
}
