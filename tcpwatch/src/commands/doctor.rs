//! `tcpwatch doctor`: kernel settings that cause problems here, and advice.

use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::screen::screen;
use super::{OUTPUT, Outcome};
use crate::cli::DoctorArgs;
use crate::doctor::{self, Report};
use crate::input::escaped::Escaped;
use crate::input::host::HostFrame;
use crate::source::host as source;
use crate::sys::host_root::HostRoot;
use crate::sys::netns::{self, unless_left_out};
use crate::view::{Output, json, text, words};

/// Reads the host, or the tree that `args` name, and writes a report to `out`; findings have the time `time`.
///
/// # Errors
/// The tree or the namespace cannot be opened, or `out` cannot be written to.
pub fn run(args: &DoctorArgs, time: Timestamp, out: &mut impl Write) -> Result<Outcome> {
    let mut wrong = false;
    let frames = frames(args)?;
    // Settings of the whole host are in one report alone: that of the namespace in which all of them can be read.
    let with_host = frames.iter().position(|(frame, _)| frame.first).unwrap_or(0);
    for (index, (frame, place)) in frames.iter().enumerate() {
        let report = doctor::examine(frame, index == with_host);
        wrong |= report.is_wrong();
        if index > 0 && args.output.output == Output::Text {
            writeln!(out).context(OUTPUT)?;
        }
        write(args, frame, &report, place, time, out).context(OUTPUT)?;
    }
    out.flush().context(OUTPUT)?;
    Ok(if wrong && args.strict {
        Outcome::Found
    } else {
        Outcome::Done
    })
}

/// The readings of each network namespace, or of the tree; each with its name in words.
fn frames(args: &DoctorArgs) -> Result<Vec<(HostFrame, String)>> {
    let root = Path::new("/");
    if let Some(copied) = args.root.as_deref().filter(|copied| *copied != root) {
        let tree = HostRoot::open(copied)?;
        ensure!(
            ["proc/sys", "proc/net", "etc"].iter().any(|path| tree.has(path)),
            "cannot check {}: it has no proc/sys, no proc/net and no etc; try --root with the top of a tree copied from a host",
            Escaped(copied.as_os_str().as_bytes())
        );
        return Ok(vec![(source::copied(&tree), "a copied tree".into())]);
    }
    let tree = HostRoot::open(root)?;
    let namespaces = netns::resolve(root, &args.netns)?;
    let mut owners = None;
    let mut frames = Vec::new();
    for namespace in &namespaces {
        let Some(frame) = unless_left_out(source::live(&tree, namespace, &mut owners), &args.netns)? else {
            continue;
        };
        let place = match namespaces.as_slice() {
            [_] => words::namespaces(&args.netns, 1),
            _ => namespace.to_string(),
        };
        frames.push((frame, place));
    }
    Ok(frames)
}

/// Writes `report` in the chosen format. JSON has no place for files that could not be read: they are logged to stderr.
fn write(
    args: &DoctorArgs,
    frame: &HostFrame,
    report: &Report,
    place: &str,
    time: Timestamp,
    out: &mut impl Write,
) -> std::io::Result<()> {
    match args.output.output {
        Output::Json => {
            for missing in &frame.missing {
                log::warn!("not read: {missing}");
            }
            report
                .findings()
                .try_for_each(|finding| json::finding::write(finding, time, out))
        }
        Output::Text | Output::Csv => text::doctor::write(frame, report, place, screen(args.output.color), out),
    }
}
