//! `tcpwatch replay`: shows a recording, as the run was shown or by another command.

use std::ffi::OsString;
use std::io::Write;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Outcome, plan, watch};
use crate::cli::command_line::{Refusal, parse};
use crate::cli::{Cli, ReplayArgs};
use crate::engine::{OUTPUT, Origin, Plan, Replay};
use crate::record::Recording;

/// Shows the recording to its end.
///
/// # Errors
/// There is no recording, it does not have what the command needs, it is damaged (what came before is shown), or `out` cannot be written to.
pub fn run(args: &ReplayArgs, out: &mut dyn Write) -> Result<Outcome> {
    let recording = Recording::open(&args.dir)?;
    let dir = args.dir.display();
    let recorded = recorded(&recording).with_context(|| format!("cannot read the recording {dir}"))?;
    let cli = match args.shown() {
        None => recorded,
        Some(Ok(cli)) => {
            let wanted = plan(&cli).context("replay shows stat, trace, life, churn, latency and leaks alone")?;
            let has = plan(&recorded).context("it is of no command that watches")?;
            if let Some(missing) = missing(&has, &wanted) {
                let by = recording.header().args.join(" ");
                bail!("{dir} was recorded by tcpwatch {by}, which has {missing}; try tcpwatch replay {dir}");
            }
            cli
        }
        Some(Err(Refusal::Help(text))) => {
            write!(out, "{text}").context(OUTPUT)?;
            return Ok(Outcome::Done);
        }
        Some(Err(Refusal::Wrong(message))) => bail!(message),
    };
    let replay = Replay {
        recording,
        speed: args.speed,
    };
    watch(&cli, Origin::Recording(Box::new(replay)), out)
}

/// The command line of the recorded run.
fn recorded(recording: &Recording) -> Result<Cli> {
    let args = ["tcpwatch"]
        .into_iter()
        .chain(recording.header().args.iter().map(String::as_str));
    let cli = match parse(args.map(OsString::from)) {
        Ok(cli) => cli,
        Err(Refusal::Wrong(message)) => bail!("its arguments: {message}"),
        Err(Refusal::Help(_)) => bail!("its arguments ask for help"),
    };
    ensure!(plan(&cli).is_some(), "it is of no command that watches");
    Ok(cli)
}

/// What a recording of `has` lacks for `wanted`, in words; `None` if it has all.
fn missing(has: &Plan, wanted: &Plan) -> Option<&'static str> {
    let (recorded, needs) = (has.needs, wanted.needs);
    if recorded | needs != recorded || needs.latency.is_some() && needs.latency != recorded.latency {
        return Some("not all that this command needs");
    }
    if has.options.filter != wanted.options.filter || has.options.netns != wanted.options.netns {
        return Some("other connections than these options select");
    }
    if wanted.interval.is_some() && wanted.interval != has.interval {
        return Some("other intervals");
    }
    None
}
