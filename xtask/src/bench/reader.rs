//! What reading and printing an event costs: CPU time of the program that does it.

use std::thread;

use anyhow::Result;
use serde_json::json;

use super::child::Usage;
use super::numbers::{SampleStats, float, median};
use super::report::Report;
use super::sandbox::Sandbox;
use super::table::{self, number, range};
use super::target::Target;
use super::tracer::{Form, Hook, SETTLE, Sink, Tracer};
use super::workload::{TRANSITIONS_A_TURN, turns};

/// What reads, where it prints to, and the most it may cost an event, us.
const READERS: [(Tracer, Sink, Option<f64>); 7] = [
    (Tracer::Trace(Hook::TpBtf, Form::Text), Sink::Tmpfs, Some(1.0)),
    (Tracer::Trace(Hook::TpBtf, Form::Json), Sink::Tmpfs, Some(1.5)),
    (Tracer::Trace(Hook::Tracepoint, Form::Text), Sink::Tmpfs, None),
    (Tracer::Trace(Hook::Tracepoint, Form::Json), Sink::Tmpfs, None),
    (Tracer::Trace(Hook::TpBtf, Form::Text), Sink::Null, None),
    (Tracer::Trace(Hook::TpBtf, Form::Json), Sink::Null, None),
    (Tracer::Tcpstates, Sink::Tmpfs, None),
];

/// Turns of the loaded runs: 600,000 transitions.
const TURNS: u64 = 300_000;

/// The runs of one reader, loaded and idle.
#[derive(Default)]
struct Runs {
    idle: Vec<Usage>,
    loaded: Vec<Usage>,
    reported: Vec<u64>,
}

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    let rounds = sandbox.choose(7, 2);
    let readers: Vec<_> = READERS.iter().filter(|(tracer, ..)| tracer.is_there(sandbox)).collect();
    let mut all: Vec<Runs> = readers.iter().map(|_| Runs::default()).collect();
    for round in 0..rounds {
        report.progress("reader", round, rounds);
        for (&&(tracer, sink, _), runs) in readers.iter().zip(&mut all) {
            let attached = tracer.attach(sandbox, sink)?;
            thread::sleep(SETTLE);
            runs.idle.push(attached.finish()?.usage);
            let attached = tracer.attach(sandbox, sink)?;
            thread::sleep(SETTLE);
            turns(TURNS)?;
            let outcome = attached.finish()?;
            runs.loaded.push(outcome.usage);
            runs.reported.extend(outcome.reported);
        }
    }
    report.title("reader: CPU time of the program that prints every transition")?;
    let events = TURNS * TRANSITIONS_A_TURN;
    report.line(&format!(
        "{rounds} rounds of {events} transitions at full speed, less the median of as many runs without any; us an event"
    ))?;
    let mut rows = Vec::new();
    for (&&(tracer, sink, limit), runs) in readers.iter().zip(&all) {
        let to = match sink {
            Sink::Tmpfs => "tmpfs",
            Sink::Null => "/dev/null",
        };
        let total = SampleStats::from_samples(&runs.us_an_event(events, Usage::cpu));
        let lost = runs.lost(events);
        rows.push(vec![
            format!("{tracer} > {to}"),
            number(total.median, 2),
            number(total.mad, 2),
            range(total.min, total.max, 2),
            number(median(&runs.us_an_event(events, |usage| usage.user)), 2),
            number(median(&runs.us_an_event(events, |usage| usage.system)), 2),
            number(lost, 0),
        ]);
        report.raw(
            &format!("reader, {tracer} > {to}"),
            json!({ "us_an_event": runs.us_an_event(events, Usage::cpu), "told": runs.reported, "events": events }),
        );
        if let Some(limit) = limit {
            let promise = format!("lost of {rounds} x {events} transitions at full speed, {tracer}");
            report.target(Target::at_most(&promise, lost, 0.0, "", 0));
            let promise = format!("reader CPU an event, {tracer}");
            report.target(Target::at_most(&promise, total.median, limit, "us", 2));
        }
    }
    for line in table::lines(&["", "us", "noise", "min..max", "user", "system", "lost"], &rows) {
        report.line(&line)?;
    }
    Ok(())
}

impl Runs {
    /// CPU time of each loaded run for an event it told of (of all where it does not tell), start and end taken off.
    fn us_an_event(&self, events: u64, of: impl Fn(&Usage) -> std::time::Duration) -> Vec<f64> {
        let us = |usage: &Usage| of(usage).as_secs_f64() * 1e6;
        let idle = median(&self.idle.iter().map(us).collect::<Vec<_>>());
        self.loaded
            .iter()
            .enumerate()
            .map(|(round, usage)| {
                (us(usage) - idle) / float(self.reported.get(round).copied().unwrap_or(events).max(1))
            })
            .collect()
    }

    /// Transitions it did not tell of; NaN where it does not tell.
    fn lost(&self, events: u64) -> f64 {
        if self.reported.is_empty() {
            return f64::NAN;
        }
        float(
            self.reported
                .iter()
                .map(|&reported| events.saturating_sub(reported))
                .sum(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Runs, Usage};

    fn usage(ms: u64) -> Usage {
        Usage {
            user: Duration::from_millis(ms),
            ..Usage::default()
        }
    }

    #[test]
    fn a_reader_pays_for_what_it_told_of() {
        let runs = Runs {
            idle: vec![usage(10), usage(10), usage(500)],
            loaded: vec![usage(20), usage(30)],
            reported: vec![10_000, 8_000],
        };
        let each = runs.us_an_event(10_000, Usage::cpu);
        assert!((each[0] - 1.0).abs() < 1e-9 && (each[1] - 2.5).abs() < 1e-9, "{each:?}");
        assert!((runs.lost(10_000) - 2_000.0).abs() < 1e-9);
        assert!(Runs::default().lost(1).is_nan());
    }
}
