//! The most memory a program ever has.
//!
//! What wait4(2) tells begins with the memory of the process that started the program, which this one has grown too
//! large for. So a fresh one starts it.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use clap::Args;

use super::child::Running;
use crate::system;

/// A program with its arguments.
#[derive(Args)]
pub(super) struct Measured {
    /// The program, and what it is started with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// The most memory that `command` has, KiB, its output going nowhere.
pub(super) fn peak_kib(command: &Command) -> Result<u64> {
    let this = env::current_exe().context("cannot tell where this program is")?;
    let arguments: Vec<OsString> = ["bench", "peak", "--"]
        .map(OsString::from)
        .into_iter()
        .chain([command.get_program().to_owned()])
        .chain(command.get_args().map(OsString::from))
        .collect();
    let line = system::first_line(&this, &arguments);
    line.and_then(|line| line.parse().ok())
        .with_context(|| format!("{} could not be measured", command.get_program().display()))
}

/// Runs a program, and prints what [`peak_kib`] asks for.
pub(super) fn print_peak(measured: &Measured) -> Result<()> {
    let (program, arguments) = measured.command.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    let usage = Running::start(&mut command)?.wait()?;
    writeln!(io::stdout(), "{}", usage.max_rss_kib).context("cannot print")
}
