//! `tcpwatch leaks`: which sockets stay in states that should pass, for how long, whose are they, and are they ever closed?

use std::io::{self, Write};

use anyhow::{Context, Result};

use super::Outcome;
use super::run::plan;
use super::screen::screen;
use crate::cli::LeaksArgs;
use crate::detect::finding::Finding;
use crate::detect::leak::judge;
use crate::engine::{self, Plan};
use crate::input::needs::{Needs, StuckNeeds};
use crate::model::frame::Frame;
use crate::model::leaks::{LeaksFrame, STATES, Verdict};
use crate::view::View;
use crate::view::leaks::{self, Asked};

/// Runs the command until its end comes, or for one scan; whether it found what the user asks it to fail for.
///
/// # Errors
/// Sockets cannot be read, the kernel side cannot be loaded, or the output takes no more.
pub fn run(args: &LeaksArgs, out: &mut impl Write) -> Result<Outcome> {
    let args = &of_states(args);
    let output = &args.common.output;
    let stuck = StuckNeeds {
        older_ns: u64::try_from(args.older.0.as_nanos()).unwrap_or(u64::MAX),
        stacks: args.stacks,
    };
    let needs = Needs {
        stuck: Some(stuck),
        ..Needs::default()
    };
    let plan = Plan {
        interval: args.every().map(|every| every.0),
        ..plan(&args.common, needs)
    };
    let asked = Asked::new(plan.options.filter.clone(), plan.options.netns.clone());
    let mut view = KeepsLast {
        view: leaks::of(output.output, screen(output.color), asked),
        last: None,
    };
    if plan.interval.is_some() {
        engine::run(&plan, &mut view, out)?;
    } else {
        engine::run_once(&plan, &mut view, out)?;
    }
    let last = view.last.context("no scan of the sockets was over before the end")?;
    if args.fail_if_leak {
        return Ok(outcome(&last));
    }
    Ok(Outcome::Done)
}

/// A view, and the last that it showed.
struct KeepsLast {
    view: Box<dyn View>,
    last: Option<LeaksFrame>,
}

impl View for KeepsLast {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.view.begin(out)
    }

    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        self.last = frame.leaks.clone().or(self.last.take());
        self.view.frame(frame, findings, out)
    }
}

/// Whether `frame` has what a script is to fail for; where that is not decided it is said.
fn outcome(frame: &LeaksFrame) -> Outcome {
    let verdicts = || frame.groups.iter().map(|group| judge(group, frame.older_ns));
    if verdicts().any(Verdict::is_defect) {
        return Outcome::Found;
    }
    let undecided = verdicts()
        .filter(|verdict| matches!(verdict, Verdict::Undecided(_)))
        .count();
    if undecided > 0 {
        let groups = if undecided == 1 { "group" } else { "groups" };
        let _ = writeln!(
            io::stderr(),
            "tcpwatch: no leak is known, and {undecided} {groups} of stuck sockets undecided: a longer -d or a shorter --older tells"
        );
    }
    Outcome::Done
}

/// `args`, with those states alone that should pass.
fn of_states(args: &LeaksArgs) -> LeaksArgs {
    let mut args = args.clone();
    if args.common.filter.state.is_empty() {
        args.common.filter.state = STATES.to_vec();
    }
    args
}
