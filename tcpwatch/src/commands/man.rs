//! `tcpwatch man`: the manual pages.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap_mangen::Man;

use super::OUTPUT;
use crate::cli::{ManArgs, parser};

/// Prints a manual page in roff, for man(1).
///
/// # Errors
/// There is no such command, or `out` cannot be written to.
pub fn run(args: &ManArgs, mut out: &mut dyn Write) -> Result<()> {
    let mut command = parser();
    // It names the pages of commands: tcpwatch-stat.
    command.build();
    if let Some(name) = &args.command {
        let found = command.find_subcommand(name).cloned();
        command = found.with_context(|| format!("{name}: no such command"))?;
    }
    Man::new(command).render(&mut out).context(OUTPUT)
}
