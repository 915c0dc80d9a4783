//! `tcpwatch life`: a line per finished connection.

use std::io::Write;

use anyhow::Result;

use super::common;
use super::screen::{screen, zone};
use crate::cli::TraceArgs;
use crate::engine::{self, Origin, Plan};
use crate::input::Connection;
use crate::input::needs::Needs;
use crate::view::{trace, trace_groups};

/// What to run.
pub(super) fn plan(args: &TraceArgs) -> Plan {
    let needs = Needs {
        connections: true,
        ..Needs::default()
    };
    common::plan(&args.common, needs)
}

/// Runs the command until its end or a signal.
///
/// # Errors
/// Those of [`engine::run`].
pub fn run(args: &TraceArgs, origin: Origin, out: &mut dyn Write) -> Result<()> {
    let output = &args.common.output;
    let (form, screen, zone) = (output.output, screen(output.color), zone());
    let mut view = match args.by {
        None => trace::new_view::<Connection>(form, screen, zone),
        Some(by) => trace_groups::new_view::<Connection>(form, by, common::limit(args.limit), screen, zone),
    };
    engine::run(&plan(args), &mut *view, origin, out)
}
