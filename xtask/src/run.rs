//! `cargo xtask run`: builds tcpwatch and becomes it.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::{Context as _, Result};

use crate::{cargo, system};

/// Builds as the user who typed it, so that root owns nothing in the checkout, then replaces this process.
pub(crate) fn run(arguments: &[OsString]) -> Result<Infallible> {
    let build = ["build", "--locked", "--release", "--package=tcpwatch", "--bin=tcpwatch"];
    let binary = cargo::executable(&build, "tcpwatch")?;
    let sudo = system::sudo().unwrap_or_else(|why| {
        // Some commands need no root, and the others say themselves what they miss.
        eprintln!("starting tcpwatch without root: {why}");
        None
    });
    let mut command = system::through(sudo, &binary);
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}
