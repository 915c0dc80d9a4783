//! `tcpwatch churn`: who opens short-lived connections, who causes TIME_WAIT, and when ports run out.

use std::io::Write;

use anyhow::Result;

use super::common;
use super::screen::{screen, zone};
use crate::cli::ChurnArgs;
use crate::engine::{self, Origin, Plan};
use crate::input::needs::Needs;
use crate::view::churn;

/// Default interval between reports, s.
const SECONDS: u64 = 10;

/// What to run.
pub(super) fn plan(args: &ChurnArgs) -> Plan {
    let needs = Needs {
        churn: Some(args.by),
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
pub fn run(args: &ChurnArgs, origin: Origin, out: &mut dyn Write) -> Result<()> {
    let output = &args.common.output;
    let mut view = churn::new_view(output.output, common::limit(args.limit), screen(output.color), zone());
    engine::run(&plan(args), &mut *view, origin, out)
}
