//! `tcpwatch latency`: histograms of the time that connections spend in each state and in handshakes.

use std::io::Write;

use anyhow::Result;

use super::common;
use super::screen::{screen, zone};
use crate::cli::LatencyArgs;
use crate::engine::{self, Origin, Plan};
use crate::input::needs::Needs;
use crate::view::latency;

/// What to run.
pub(super) fn plan(args: &LatencyArgs) -> Plan {
    let needs = Needs {
        latency: Some(args.by.unwrap_or_default()),
        ..Needs::default()
    };
    Plan {
        interval: args.interval.map(|interval| interval.0),
        count: args.count,
        ..common::plan(&args.common, needs)
    }
}

/// Runs the command until its end or a signal.
///
/// # Errors
/// Those of [`engine::run`].
pub fn run(args: &LatencyArgs, origin: Origin, out: &mut dyn Write) -> Result<()> {
    let output = &args.common.output;
    let mut view = latency::new_view(output.output, common::limit(args.limit), screen(output.color), zone());
    engine::run(&plan(args), &mut *view, origin, out)
}
