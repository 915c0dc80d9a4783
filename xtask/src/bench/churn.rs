//! `tcpwatch churn` while connections come and go at full speed: the share of a core it takes.

use std::thread;

use anyhow::Result;
use serde_json::json;

use super::numbers::{SampleStats, float, median};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::{Hook, SETTLE, Sink, Tracer};
use super::workload::connections;

/// Of a core, at most, %.
const PERCENT: f64 = 10.0;

/// Connections of one round.
const CONNECTIONS: u64 = 60_000;

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let rounds = sandbox.choose(7, 2);
    let hooks = [Hook::TpBtf, Hook::Tracepoint];
    let mut rows = Vec::new();
    let mut targets = Vec::new();
    for hook in hooks {
        let (mut shares, mut rates, mut rss) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..rounds {
            report.progress("churn", round, rounds);
            let attached = Tracer::Churn(hook).attach(sandbox, Sink::Null)?;
            thread::sleep(SETTLE);
            let before = attached.cpu()?;
            let wall = connections(CONNECTIONS)?.wall;
            // What is in the ring yet is read within this, and is part of the cost.
            thread::sleep(SETTLE);
            let used = attached.cpu()?.saturating_sub(before);
            shares.push(100.0 * used.as_secs_f64() / wall.as_secs_f64());
            rates.push(float(CONNECTIONS) / wall.as_secs_f64());
            rss.push(float(attached.finish()?.usage.max_rss_kib) / 1024.0);
        }
        let share = SampleStats::from_samples(&shares);
        rows.push(vec![
            Tracer::Churn(hook).to_string(),
            number(median(&rates), 0),
            number(share.median, 2),
            range(share.min, share.max, 2),
            number(median(&rss), 1),
        ]);
        report.raw(
            &format!("churn, {hook}"),
            json!({ "percent_of_a_core": shares, "per_second": rates }),
        );
        targets.push((hook, share.median));
    }
    report.title("churn: its own CPU time while connections are made over loopback at full speed")?;
    report.line(&format!("{rounds} rounds of {CONNECTIONS} connections"))?;
    for line in table::lines(&["", "per second", "% of a core", "min..max", "MiB"], &rows) {
        report.line(&line)?;
    }
    for (hook, percent) in targets {
        let promise = format!("churn at full speed, of a core, {hook}");
        report.target(Target::at_most(&promise, percent, PERCENT, "%", 2));
    }
    Ok(())
}
