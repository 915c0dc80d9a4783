//! `tcpwatch stat`: connections per state and their rates, a row per interval.

use anyhow::Result;

use super::run::{interval, plan};
use super::screen::{screen, zone};
use crate::cli::StatArgs;
use crate::engine::{self, Plan};
use crate::input::needs::Needs;
use crate::view::stat;

/// Default interval between rows, s.
const SECONDS: u64 = 1;

/// Runs the command until its end or a signal.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output cannot be written.
pub fn run(args: &StatArgs) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        counts: true,
        ..Needs::default()
    };
    let states = args.common.filter.to_filter().states;
    let plan = Plan {
        interval: Some(interval(args.interval, SECONDS)),
        count: args.count,
        ..plan(&args.common, needs)
    };
    let mut view = stat::new_view(output.output, screen(output.color), zone(), states);
    engine::run(&plan, &mut *view)
}
