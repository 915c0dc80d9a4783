//! The commands. Each only connects source, model and view.

pub mod churn;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod latency;
pub mod leaks;
pub mod life;
pub mod man;
pub mod record;
pub mod replay;
pub mod snapshot;
pub mod stat;
pub mod trace;
pub mod version;

mod common;
mod screen;

use std::io::Write;

use anyhow::{Result, bail};

use crate::cli::{Cli, Command};
use crate::clock;
use crate::engine::{OUTPUT, Origin, Plan};
use crate::symboliser;

/// How a command that succeeded ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Exit code 0.
    Done,
    /// The command found a problem, and `--strict` or `--fail-if-leak` was given: exit code 3.
    Found,
}

/// Runs the command of `cli`.
///
/// # Errors
/// Those of the command.
pub fn run(cli: &Cli, mut out: &mut dyn Write) -> Result<Outcome> {
    match &cli.command {
        Some(Command::Doctor(args)) => return doctor::run(args, clock::now(), &mut out),
        Some(Command::Record(args)) => record::run(args)?,
        Some(Command::Export(_)) => bail!("export is of a recording; try tcpwatch replay DIR export -w OUT"),
        Some(Command::Replay(args)) => return replay::run(args, out),
        Some(Command::Snapshot(args)) => snapshot::run(args, clock::now(), &mut out)?,
        Some(Command::Explain(args)) => explain::run(args, &mut out)?,
        Some(Command::Completions(args)) => completions::run(*args, out)?,
        Some(Command::Man(args)) => man::run(args, out)?,
        Some(Command::Symboliser) => symboliser::serve()?,
        None if cli.version => version::run(cli.verbose, cli.stat.common.output.output, &mut out)?,
        _ => return watch(cli, Origin::Kernel, out),
    }
    Ok(Outcome::Done)
}

/// Runs the command of `cli`, if it is one that watches, on what comes from `origin`.
fn watch(cli: &Cli, origin: Origin, out: &mut dyn Write) -> Result<Outcome> {
    match &cli.command {
        Some(Command::Trace(args)) => trace::run(args, origin, out)?,
        Some(Command::Life(args)) => life::run(args, origin, out)?,
        Some(Command::Stat(args)) => stat::run(args, origin, out)?,
        Some(Command::Churn(args)) => churn::run(args, origin, out)?,
        Some(Command::Latency(args)) => latency::run(args, origin, out)?,
        Some(Command::Leaks(args)) => return leaks::run(args, origin, out),
        _ => stat::run(&cli.stat, origin, out)?,
    }
    Ok(Outcome::Done)
}

/// The plan of the command of `cli`; `None` if it is one that does not watch.
fn plan(cli: &Cli) -> Option<Plan> {
    Some(match &cli.command {
        Some(Command::Trace(args)) => trace::plan(args),
        Some(Command::Life(args)) => life::plan(args),
        Some(Command::Stat(args)) => stat::plan(args),
        Some(Command::Churn(args)) => churn::plan(args),
        Some(Command::Latency(args)) => latency::plan(args),
        Some(Command::Leaks(args)) => leaks::plan(args),
        Some(Command::Record(args)) => record::plan(args),
        None if !cli.version => stat::plan(&cli.stat),
        _ => return None,
    })
}
