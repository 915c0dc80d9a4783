//! `tcpwatch doctor`: which kernel settings hurt here, which do nothing, and what would help?

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use super::screen::screen;
use super::{OUTPUT, Outcome};
use crate::cli::DoctorArgs;
use crate::doctor::{self, Report};
use crate::input::host::HostFrame;
use crate::source::host as source;
use crate::source::listeners::Holders;
use crate::sys::host_root::HostRoot;
use crate::sys::netns;
use crate::view::{Output, json, text, words};

/// Reads what `args` asks for and writes what it says to `out`, which `time` is the time of.
///
/// # Errors
/// One line, where the tree or the namespace cannot be opened; those of `out`, as [`std::io::Error`].
pub fn run(args: &DoctorArgs, time: Timestamp, out: &mut impl Write) -> Result<Outcome> {
    let mut wrong = false;
    let frames = frames(args)?;
    // What is the whole host's is told once, where all of it is shown.
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

/// What was read of each place, and its name in words.
fn frames(args: &DoctorArgs) -> Result<Vec<(HostFrame, String)>> {
    let root = Path::new("/");
    if let Some(copied) = args.root.as_deref().filter(|copied| *copied != root) {
        let tree = HostRoot::open(copied)?;
        ensure!(
            tree.has("proc/sys") || tree.has("proc/net"),
            "{}: there is neither proc/sys nor proc/net in it (--root takes the top of a tree copied from a host, with proc and etc in it)",
            copied.display()
        );
        return Ok(vec![(source::copied(&tree), "a copied tree".into())]);
    }
    let tree = HostRoot::open(root)?;
    let namespaces = netns::resolve(root, &args.netns)?;
    let mut holders = Holders::default();
    let mut frames = Vec::new();
    for namespace in &namespaces {
        let frame = source::live(&tree, namespace, &mut holders)?;
        let place = match namespaces.as_slice() {
            [_] => words::namespaces(&args.netns, 1),
            _ => namespace.to_string(),
        };
        frames.push((frame, place));
    }
    Ok(frames)
}

/// Writes `report` in the form asked for; what could not be read goes to stderr, where the output has no place for it.
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
