//! `tcpwatch stat`: how many connections are in each state, and how fast do they move?

use std::io::Write;

use anyhow::Result;

use super::run::{interval, plan};
use super::screen::screen;
use crate::cli::StatArgs;
use crate::engine::{self, Plan};
use crate::input::needs::Needs;
use crate::view::stat;

/// Seconds between rows when nothing is said.
const SECONDS: u64 = 1;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output takes no more.
pub fn run(args: &StatArgs, out: &mut impl Write) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        counts: true,
        ..Needs::default()
    };
    let plan = Plan {
        interval: Some(interval(args.interval, SECONDS)),
        count: args.count,
        ..plan(&args.common, needs)
    };
    engine::run(&plan, &mut *stat::of(output.output, screen(output.color)), out)
}
