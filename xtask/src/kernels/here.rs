//! The run on this machine's own kernel.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use super::results::{Column, KernelOutcome, Run};
use super::{Programs, REPORT};
use crate::{clock, system};

/// Tests this machine's kernel, as root or through sudo.
pub(super) fn column(programs: &Programs) -> Column {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    eprintln!("{release}: testing this machine's own kernel");
    Column {
        version: release.splitn(3, '.').take(2).collect::<Vec<_>>().join("."),
        outcome: KernelOutcome::from_run(run(programs)),
    }
}

fn run(programs: &Programs) -> Result<Run> {
    let began = clock::start();
    let sudo = system::sudo().map_err(anyhow::Error::msg)?;
    let mut report = system::through(sudo, Path::new("/bin/sh"));
    report
        .args(["-c", REPORT, "report.sh"])
        .arg(&programs.tcpwatch)
        .arg(&programs.suite);
    report.stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = report.output().context("cannot start sh")?;
    Ok(Run::read(&String::from_utf8_lossy(&output.stdout), began.elapsed()))
}
