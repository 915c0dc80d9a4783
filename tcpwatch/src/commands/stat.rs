//! `tcpwatch stat`: connections per state and their rates, a row per interval.

use std::io::Write;

use anyhow::Result;

use super::common;
use super::screen::{screen, zone};
use crate::cli::StatArgs;
use crate::engine::{self, Origin, Plan};
use crate::input::needs::Needs;
use crate::view::stat;

/// Default interval between rows, s.
const SECONDS: u64 = 1;

/// What to run.
pub(super) fn plan(args: &StatArgs) -> Plan {
    let needs = Needs {
        counts: true,
        ..Needs::default()
    };
    Plan {
        interval: Some(common::interval(args.interval, SECONDS)),
        count: args.count,
        ..common::plan(&args.common, needs)
    }
}

/// Runs the command until its end or a signal.
///
/// # Errors
/// Those of [`engine::run`].
pub fn run(args: &StatArgs, origin: Origin, out: &mut dyn Write) -> Result<()> {
    let output = &args.common.output;
    let states = args.common.filter.to_filter().states;
    let mut view = stat::new_view(output.output, screen(output.color), zone(), states);
    engine::run(&plan(args), &mut *view, origin, out)
}
