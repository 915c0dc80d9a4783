//! `tcpwatch completions`: what lets a shell complete commands and options.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap_complete::generate;

use super::OUTPUT;
use crate::cli::{CompletionsArgs, parser};

/// Prints the completions for a shell.
///
/// # Errors
/// `out` cannot be written to.
pub fn run(args: CompletionsArgs, out: &mut dyn Write) -> Result<()> {
    // It panics where it cannot write.
    let mut text = Vec::new();
    generate(args.shell, &mut parser(), "tcpwatch", &mut text);
    out.write_all(&text).context(OUTPUT)
}
