//! `tcpwatch record`: records what happens, to be shown later by `replay`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context as _, Result};

use super::common;
use crate::cli::values::Interval;
use crate::cli::{NeedArg, RecordArgs};
use crate::detect::finding::Finding;
use crate::engine::{self, Origin, Plan};
use crate::input::latency::LatencyBy;
use crate::input::needs::{Needs, StuckNeeds};
use crate::input::owner::OwnerBy;
use crate::model::format::{duration, thousands};
use crate::model::frame::Frame;
use crate::model::leaks;
use crate::record::Kept;
use crate::sys::{descriptor_limit, signals};
use crate::view::View;

/// Default interval between counts, s.
const SECONDS: u64 = 1;

/// What to run.
pub(super) fn plan(args: &RecordArgs) -> Plan {
    let needs = needs(args);
    let counts = Needs {
        counts: true,
        ..Needs::default()
    };
    let plan = common::plan(&args.common, needs | counts);
    let max_time = args.max_time.map(|Interval(time)| time);
    let end = max_time.filter(|_| !args.rotate);
    Plan {
        interval: Some(common::interval(args.interval, SECONDS)),
        shows: counts,
        duration: plan.duration.into_iter().chain(end).min(),
        starts_program: !args.program.is_empty(),
        record: Some(common::recorded(args.write.clone(), kept(args))),
        ..plan
    }
}

/// How much is kept of a recording that goes on.
fn kept(args: &RecordArgs) -> Option<Kept> {
    let kept = Kept {
        bytes: args.max_size,
        time_ns: args
            .max_time
            .map(|Interval(time)| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
    };
    args.rotate.then_some(kept)
}

/// The needs that `args` name, or those of all commands.
fn needs(args: &RecordArgs) -> Needs {
    let wants = |need| args.needs.is_empty() || args.needs.contains(&need);
    let stuck = StuckNeeds {
        states: leaks::states(),
        older_ns: u64::try_from(args.older.0.as_nanos()).unwrap_or(u64::MAX),
        stacks: args.stacks,
    };
    Needs {
        counts: wants(NeedArg::Counts),
        transitions: wants(NeedArg::Transitions),
        connections: wants(NeedArg::Connections),
        churn: wants(NeedArg::Churn).then(OwnerBy::default),
        latency: wants(NeedArg::Latency).then_some(args.by.unwrap_or(LatencyBy::All)),
        stuck: wants(NeedArg::Leaks).then_some(stuck),
    }
}

/// Records until the end, a signal, the end of the program, or the size or time given.
///
/// # Errors
/// Those of [`engine::run`], or the program cannot be started.
pub fn run(args: &RecordArgs) -> Result<()> {
    let mut progress = Progress {
        dir: args.write.clone(),
        program: args.program.clone(),
        child: None,
        failed: None,
        max_size: args.max_size.filter(|_| !args.rotate),
        is_rotated: args.rotate,
        is_terminal: io::stderr().is_terminal(),
        time_s: 0.0,
        transitions: 0,
        lost: 0,
    };
    let ended = engine::run(&plan(args), &mut progress, Origin::Kernel, &mut io::stdout());
    progress.finish(ended.is_ok() && progress.failed.is_none());
    match progress.failed {
        Some(error) => Err(error).with_context(|| format!("cannot run {}", args.program[0].to_string_lossy())),
        None => ended,
    }
}

/// A view that starts the program when the run begins, and says on standard error how far it is.
struct Progress {
    dir: PathBuf,
    program: Vec<OsString>,
    child: Option<Child>,
    /// Why the program could not be started.
    failed: Option<io::Error>,
    max_size: Option<u64>,
    /// Whether only the last is kept.
    is_rotated: bool,
    is_terminal: bool,
    /// How long it has been recording, s.
    time_s: f64,
    transitions: u64,
    lost: u64,
}

impl View for Progress {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        if let [program, args @ ..] = self.program.as_slice() {
            let mut command = Command::new(program);
            signals::unblock_in(command.args(args));
            match descriptor_limit::as_at_start(|| command.spawn()) {
                Ok(child) => self.child = Some(child),
                Err(error) => self.failed = Some(error),
            }
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], _: &mut dyn Write) -> io::Result<()> {
        if let Some(counts) = &frame.counts {
            self.time_s += counts.interval_s;
            self.transitions += counts.seen;
            self.lost = counts.lost;
            if self.is_terminal {
                let _ = write!(io::stderr(), "\r\x1b[Krecording {}; Ctrl-C ends it", self.text());
            }
        }
        Ok(())
    }

    fn is_done(&mut self) -> bool {
        let has_ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        self.failed.is_some()
            || self.child.as_mut().is_some_and(has_ended)
            || self.max_size.is_some_and(|most| size(&self.dir) >= most)
    }
}

impl Progress {
    /// Says what was recorded, and what became of the program.
    fn finish(&mut self, is_whole: bool) {
        if self.is_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        if is_whole {
            let (text, dir) = (self.text(), self.dir.display());
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: recorded {text}; show it by tcpwatch replay {dir}"
            );
        }
        if let Some(child) = &mut self.child {
            let program = self.program[0].to_string_lossy();
            let _ = match child.try_wait() {
                Ok(Some(status)) if status.success() => Ok(()),
                Ok(Some(status)) => writeln!(io::stderr(), "tcpwatch: {program} ended with {status}"),
                // A signal from the terminal reaches it too.
                _ => writeln!(io::stderr(), "tcpwatch: {program} may go on, as process {}", child.id()),
            };
        }
    }

    /// `to DIR: 12s, 34,567 transitions, 1,234 KiB, 0 lost`, or `the last 1,234 KiB kept`.
    fn text(&self) -> String {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the length of a run"
        )]
        let time = duration((self.time_s * 1e9) as u64);
        let [before, after] = if self.is_rotated {
            ["the last ", " kept"]
        } else {
            [""; 2]
        };
        format!(
            "to {}: {time}, {} transitions, {before}{} KiB{after}, {} lost",
            self.dir.display(),
            thousands(self.transitions),
            thousands(size(&self.dir).div_ceil(1024)),
            thousands(self.lost)
        )
    }
}

/// Bytes of the files in `dir`, and in the directories of its parts.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let about = entry.metadata().ok()?;
        Some(if about.is_dir() {
            size(&entry.path())
        } else {
            about.len()
        })
    });
    sizes.sum()
}
