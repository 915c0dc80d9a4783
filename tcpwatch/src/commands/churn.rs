//! `tcpwatch churn`: who makes short-lived connections, where does TIME_WAIT come from, when do ports run out?

use std::io::Write;

use anyhow::Result;

use super::run::{interval, plan};
use super::screen::screen;
use crate::cli::ChurnArgs;
use crate::engine::{self, Plan};
use crate::input::needs::Needs;
use crate::view::churn;

/// Seconds between reports when nothing is said.
const SECONDS: u64 = 10;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output takes no more.
pub fn run(args: &ChurnArgs, out: &mut impl Write) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        churn: true,
        ..Needs::default()
    };
    let plan = Plan {
        interval: Some(interval(args.interval, SECONDS)),
        count: args.count,
        ..plan(&args.common, needs)
    };
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut view = churn::of(output.output, limit, screen(output.color));
    engine::run(&plan, &mut *view, out)
}
