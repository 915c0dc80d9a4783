//! What a transition costs more while something watches: the loop of listen and shutdown.

use anyhow::Result;

use super::cost::{self, Cost, CostPlan};
use super::numbers::{SampleStats, float};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::{Form, Hook, Tracer};
use super::workload::{TRANSITIONS_A_TURN, turns};

const TRACERS: [Tracer; 13] = [
    Tracer::Nothing,
    Tracer::Empty,
    Tracer::Stat(Hook::TpBtf),
    Tracer::Stat(Hook::Tracepoint),
    Tracer::Trace(Hook::TpBtf, Form::Text),
    Tracer::Trace(Hook::TpBtf, Form::Json),
    Tracer::Trace(Hook::Tracepoint, Form::Text),
    Tracer::Trace(Hook::Tracepoint, Form::Json),
    Tracer::Latency(Hook::TpBtf),
    Tracer::Latency(Hook::Tracepoint),
    Tracer::Tcpstates,
    Tracer::BpftraceCount,
    Tracer::BpftracePrintf,
];

/// Added per transition, with owners and endings, at most, ns.
pub(super) const fn trace_ns(hook: Hook) -> f64 {
    match hook {
        Hook::TpBtf => 450.0,
        Hook::Tracepoint => 800.0,
    }
}
/// The same with histograms and no records.
pub(super) const fn latency_ns(hook: Hook) -> f64 {
    match hook {
        Hook::TpBtf => 400.0,
        Hook::Tracepoint => 800.0,
    }
}
/// What counting on `tp_btf` adds to an empty program there, at most, ns.
pub(super) const STAT_NS: f64 = 60.0;
/// Of what tcpstates adds, at most.
const SHARE_OF_TCPSTATES: f64 = 1.0 / 30.0;

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let plan = CostPlan {
        name: "hot-path",
        rounds: sandbox.choose(25, 5),
        workload: turns,
        units: 50_000,
        warm_up: 2_000,
    };
    let costs = cost::measure(sandbox, report, &plan, &TRACERS);
    report.title("path: listen() and shutdown() of one socket, 2 transitions a turn")?;
    report.line(&format!(
        "{} rounds of {} turns; ns a transition, added to what it takes with nothing attached just before and after",
        plan.rounds, plan.units
    ))?;
    let each = (plan.units + plan.warm_up) * TRANSITIONS_A_TURN;
    let median_of = |tracer| cost::find_cost(&costs, tracer).map_or(f64::NAN, |cost| added(cost).median);
    let (empty, tcpstates) = (median_of(Tracer::Empty), median_of(Tracer::Tcpstates));
    let noise = cost::find_cost(&costs, Tracer::Nothing).map_or(f64::NAN, |cost| added(cost).mad);
    let rows: Vec<Vec<String>> = costs
        .iter()
        .map(|cost| {
            let added = added(cost);
            vec![
                cost.tracer.to_string(),
                number(per_transition(SampleStats::from_samples(&cost.wall_ns)).median, 0),
                number(added.median, 0),
                number(added.mad, 0),
                range(added.min, added.max, 0),
                number(per_transition(SampleStats::from_samples(&cost.cpu_added_ns)).median, 0),
                // Next to what cannot be told from nothing, everything is large.
                number(if empty > noise { added.median / empty } else { f64::NAN }, 1),
                number(added.median / tcpstates, 3),
                number(cost.lost(each), 0),
            ]
        })
        .collect();
    let header = [
        "",
        "ns",
        "added",
        "noise",
        "min..max",
        "added, CPU",
        "x empty",
        "x tcpstates",
        "lost",
    ];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    judge(report, &costs, tcpstates);
    Ok(())
}

fn judge(report: &mut Report, costs: &[Cost], tcpstates: f64) {
    let nothing = cost::find_cost(costs, Tracer::Nothing);
    let empty = cost::find_cost(costs, Tracer::Empty);
    // Of a normal distribution, the MAD as its standard deviation.
    let noise = nothing.map_or(f64::NAN, |cost| 1.4826 * added(cost).mad);
    for hook in [Hook::TpBtf, Hook::Tracepoint] {
        let forms = [Form::Text, Form::Json].map(|form| cost::find_cost(costs, Tracer::Trace(hook, form)));
        let medians = forms.iter().flatten().map(|cost| added(cost).median);
        let worst = medians.fold(f64::NAN, f64::max);
        let promise = format!("trace, added per transition, {hook}");
        report.target(Target::at_most(&promise, worst, trace_ns(hook), "ns", 0));
        let promise = format!("trace, next to tcpstates, {hook}");
        report.target(Target::at_most(&promise, worst / tcpstates, SHARE_OF_TCPSTATES, "x", 3));
        if let Some(latency) = cost::find_cost(costs, Tracer::Latency(hook)) {
            let promise = format!("latency, added per transition, {hook}");
            report.target(Target::at_most(
                &promise,
                added(latency).median,
                latency_ns(hook),
                "ns",
                0,
            ));
        }
        if let (Some(stat), Some(empty)) = (cost::find_cost(costs, Tracer::Stat(hook)), empty) {
            let more = per_transition(stat.added_to(empty)).median;
            let (limit, why) = match hook {
                Hook::TpBtf => (STAT_NS, ""),
                Hook::Tracepoint => (noise, " (limit: the noise)"),
            };
            let promise = format!("stat, more than an empty program on tp_btf, {hook}{why}");
            report.target(Target::at_most(&promise, more, limit, "ns", 0));
        }
    }
}

/// What a transition takes longer.
fn added(cost: &Cost) -> SampleStats {
    per_transition(cost.added())
}

fn per_transition(turn: SampleStats) -> SampleStats {
    let share = |number: f64| number / float(TRANSITIONS_A_TURN);
    SampleStats {
        median: share(turn.median),
        mad: share(turn.mad),
        min: share(turn.min),
        max: share(turn.max),
    }
}
