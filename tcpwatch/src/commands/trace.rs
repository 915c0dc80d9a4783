//! `tcpwatch trace`: a line per state transition.

use anyhow::Result;

use super::run::plan;
use super::screen::{screen, zone};
use crate::cli::TraceArgs;
use crate::engine;
use crate::input::Transition;
use crate::input::needs::Needs;
use crate::view::trace;

/// Runs the command until its end or a signal.
///
/// # Errors
/// The kernel side cannot be loaded, or the output cannot be written.
pub fn run(args: &TraceArgs) -> Result<()> {
    let output = &args.common.output;
    let needs = Needs {
        transitions: true,
        ..Needs::default()
    };
    let mut view = trace::new_view::<Transition>(output.output, screen(output.color), zone());
    engine::run(&plan(&args.common, needs), &mut *view)
}
