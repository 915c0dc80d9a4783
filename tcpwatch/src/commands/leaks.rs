//! `tcpwatch leaks`: sockets that stay in states that should pass, their age, their owner, and whether they are ever closed.

use std::io::{self, Write};

use anyhow::{Context, Result};

use super::Outcome;
use super::common;
use super::screen::{screen, zone};
use crate::cli::LeaksArgs;
use crate::detect::finding::Finding;
use crate::engine::{self, Origin, Plan};
use crate::input::needs::{Needs, StuckNeeds};
use crate::model::format::several;
use crate::model::frame::Frame;
use crate::model::leaks::{LeaksFrame, STATES, Verdict};
use crate::view::View;
use crate::view::leaks::{self, ScanScope};

/// What to run.
pub(super) fn plan(args: &LeaksArgs) -> Plan {
    let args = with_states(args);
    let stuck = StuckNeeds {
        states: args.common.filter.to_filter().states,
        older_ns: args.older_ns(),
        stacks: args.stacks,
    };
    let needs = Needs {
        stuck: Some(stuck),
        ..Needs::default()
    };
    Plan {
        interval: args.every().map(|every| every.0),
        ..common::plan(&args.common, needs)
    }
}

/// Runs the command until its end or a signal, or for one scan. The outcome is [`Outcome::Found`] if the user asked to fail for a leak,
/// and there is one.
///
/// # Errors
/// Those of [`engine::run`], or no scan ended in time.
pub fn run(args: &LeaksArgs, origin: Origin, out: &mut dyn Write) -> Result<Outcome> {
    let (plan, output) = (plan(args), &args.common.output);
    let selection = ScanScope::new(plan.options.filter.clone(), plan.options.netns.clone());
    let mut view = KeepsVerdicts {
        view: leaks::new_view(output.output, screen(output.color), zone(), selection),
        last: None,
    };
    engine::run(&plan, &mut view, origin, out)?;
    let last = view
        .last
        .context("cannot show stuck sockets: no scan ended before the time did; try a longer -d")?;
    if args.fail_if_leak {
        return Ok(last.outcome());
    }
    Ok(Outcome::Done)
}

/// A view, and a summary of the verdicts that it showed last.
struct KeepsVerdicts {
    view: Box<dyn View>,
    last: Option<Verdicts>,
}

/// A summary of the verdicts of a frame.
struct Verdicts {
    has_defect: bool,
    undecided: u64,
}

impl View for KeepsVerdicts {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.view.begin(out)
    }

    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        if let Some(leaks) = &frame.leaks {
            self.last = Some(leaks.into());
        }
        self.view.frame(frame, findings, out)
    }
}

impl From<&LeaksFrame> for Verdicts {
    fn from(frame: &LeaksFrame) -> Self {
        let verdicts = || frame.groups.iter().map(|group| group.verdict);
        Self {
            has_defect: verdicts().any(Verdict::is_defect),
            undecided: verdicts().filter(|&verdict| verdict == Verdict::Undecided).count() as u64,
        }
    }
}

impl Verdicts {
    /// Whether a script should fail. If that is undecided, a line on stderr says so.
    fn outcome(&self) -> Outcome {
        if self.has_defect {
            return Outcome::Found;
        }
        if self.undecided > 0 {
            let groups = several(self.undecided, "group", "groups");
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: no leak is known, but {groups} of stuck sockets are undecided; try a longer -d or a shorter --older"
            );
        }
        Outcome::Done
    }
}

/// `args` with the states that should pass, unless the user chose states.
fn with_states(args: &LeaksArgs) -> LeaksArgs {
    let mut args = args.clone();
    if args.common.filter.state.is_empty() {
        args.common.filter.state = STATES.to_vec();
    }
    args
}
