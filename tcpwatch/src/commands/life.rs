//! `tcpwatch life`: a line per finished connection.

use anyhow::Result;

use super::run::plan;
use super::screen::{screen, zone};
use crate::cli::TraceArgs;
use crate::engine;
use crate::input::Connection;
use crate::input::needs::Needs;
use crate::view::trace;

/// Runs the command until its end or a signal.
///
/// # Errors
/// The kernel side cannot be loaded, or the output cannot be written.
pub fn run(args: &TraceArgs) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        connections: true,
        ..Needs::default()
    };
    let mut view = trace::new_view::<Connection>(output.output, screen(output.color), zone());
    engine::run(&plan(&args.common, needs), &mut *view)
}
