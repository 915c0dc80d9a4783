//! `tcpwatch trace`: what does each connection do, transition by transition; or, once it is over, what did it do?

use std::io::Write;

use anyhow::Result;

use super::run::plan;
use super::screen::screen;
use crate::cli::TraceArgs;
use crate::engine;
use crate::event::{Connection, Event};
use crate::model::needs::Needs;
use crate::view::trace;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded, or the output takes no more.
pub fn run(args: &TraceArgs, out: &mut impl Write) -> Result<()> {
    let (output, screen) = (args.common.output.output, screen(args.common.output.color));
    let needs = Needs {
        transitions: !args.lives,
        connections: args.lives,
        ..Needs::default()
    };
    let mut view = if args.lives {
        trace::of::<Connection>(output, screen)
    } else {
        trace::of::<Event>(output, screen)
    };
    engine::run(&plan(&args.common, needs), &mut *view, out)
}
