//! `tcpwatch churn`: who opens short-lived connections, who causes TIME_WAIT, and when ports run out.

use anyhow::Result;

use super::run::{interval, plan};
use super::screen::{screen, zone};
use crate::cli::ChurnArgs;
use crate::engine::{self, Plan};
use crate::input::needs::Needs;
use crate::view::churn;

/// Default interval between reports, s.
const SECONDS: u64 = 10;

/// Runs the command until its end or a signal.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output cannot be written.
pub fn run(args: &ChurnArgs) -> Result<()> {
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
    let mut view = churn::new_view(output.output, limit, screen(output.color), zone());
    engine::run(&plan, &mut *view)
}
