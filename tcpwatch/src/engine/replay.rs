//! Shows a recording as the run was shown.

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::Plan;
use super::sink::Sink;
use crate::input::Input;
use crate::input::needs::Needs;
use crate::record::{Recording, Table};
use crate::view::View;

/// A recording that is to be shown.
pub struct Replay {
    /// The recording.
    pub recording: Recording,
    /// How many times as fast as the run it is shown; `None` for as fast as it can be read.
    pub speed: Option<f64>,
}

impl Replay {
    /// Shows the recording by `view`, and waits for the reader of `out` as long as that takes.
    pub(super) fn show(mut self, plan: &Plan, view: &mut dyn View, out: &mut dyn Write) -> Result<()> {
        let mut observe = |_: &Input| Ok(());
        let mut sink = Sink::new(plan, view, out, &mut observe);
        sink.begin()?;
        let mut before_ns = None;
        while !sink.is_complete() {
            let Some(input) = self.recording.next(&|table| needs_table(plan.needs, table))? else {
                break;
            };
            if let (Some(speed), &Input::Tick { monotonic_ns, .. }) = (self.speed, &input) {
                let before_ns = before_ns.replace(monotonic_ns).unwrap_or(monotonic_ns);
                sleep(Duration::from_nanos(monotonic_ns.saturating_sub(before_ns)).div_f64(speed));
            }
            sink.take(input);
            sink.shown()?;
        }
        Ok(())
    }
}

/// Whether a run with these `needs` has the inputs of `table`.
fn needs_table(needs: Needs, table: Table) -> bool {
    match table {
        Table::Sessions | Table::Ticks | Table::Marks | Table::Ends => true,
        Table::Transitions | Table::Connections | Table::Amendments | Table::Losses => needs.records(),
        Table::Owners | Table::Cgroups => needs.owners(),
        Table::Ledgers | Table::Sockets | Table::Host => needs.reads_counts(),
        Table::Ports | Table::Listeners => needs.churn,
        Table::Latencies => needs.latency.is_some(),
        Table::ScanStarts | Table::Scans => needs.stuck.is_some(),
    }
}
