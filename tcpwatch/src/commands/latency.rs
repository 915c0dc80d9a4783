//! `tcpwatch latency`: histograms of the time that connections spend in each state and in handshakes.

use anyhow::Result;

use super::run::plan;
use super::screen::{screen, zone};
use crate::cli::LatencyArgs;
use crate::engine::{self, Plan};
use crate::input::needs::Needs;
use crate::view::latency;

/// Runs the command until its end or a signal.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output cannot be written.
pub fn run(args: &LatencyArgs) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        latency: Some(args.by.unwrap_or_default()),
        ..Needs::default()
    };
    let plan = Plan {
        interval: args.interval.map(|interval| interval.0),
        count: args.count,
        ..plan(&args.common, needs)
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut view = latency::new_view(output.output, limit, screen(output.color), zone());
    engine::run(&plan, &mut *view)
}
