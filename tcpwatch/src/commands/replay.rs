//! `tcpwatch replay`: shows a recording, as the run was shown or by another command.

use std::ffi::OsString;
use std::io::Write;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::{Outcome, plan, watch};
use crate::cli::command_line::{Refusal, parse};
use crate::cli::{Cli, Command, ExportArgs, FormatArg, ReplayArgs, StatArgs};
use crate::engine::{OUTPUT, Origin, Plan, Replay, SelectedConnections};
use crate::input::escaped::Escaped;
use crate::input::latency::LatencyBy;
use crate::input::needs::Needs;
use crate::input::owner::OwnerBy;
use crate::model::filter::Filter;
use crate::record::{self, Format, Recording};

/// Shows the recording to its end.
///
/// # Errors
/// There is no recording, it does not have what the command needs, it is damaged (what came before is shown), or `out` cannot be written to.
pub fn run(args: &ReplayArgs, out: &mut dyn Write) -> Result<Outcome> {
    let mut recording = Recording::open(&args.dir)?;
    if args.redact {
        recording.redact();
    }
    let dir = args.dir.display();
    let recorded = recorded(&recording).with_context(|| format!("cannot read the recording {dir}"))?;
    let has = plan(&recorded).context("it is of no command that watches")?;
    let (mut merged, mut selection) = (1, None);
    let mut cli = match args.shown() {
        None => shown_by(recorded),
        Some(Ok(Cli {
            command: Some(Command::Export(args)),
            ..
        })) => return export(&mut recording, &args, out),
        Some(Ok(cli)) => {
            let wanted = plan(&cli).context("it is no command that watches")?;
            let intervals = served(&has, &wanted).map_err(|missing| {
                let by = recording.header().args.join(" ");
                let by = Escaped(by.as_bytes());
                anyhow!("{dir} was recorded by tcpwatch {by}, which has {missing}; try tcpwatch replay {dir}")
            });
            merged = intervals?;
            if has.options.filter != wanted.options.filter && wanted.needs.only_rows() {
                selection = Some(SelectedConnections::find(
                    Recording::open(&args.dir)?,
                    wanted.options.filter,
                ));
            }
            cli
        }
        Some(Err(Refusal::Help(text))) => {
            write!(out, "{text}").context(OUTPUT)?;
            return Ok(Outcome::Done);
        }
        Some(Err(Refusal::Wrong(message))) => bail!(message),
    };
    if args.redact {
        redact_filter(&mut cli, &has.options.filter)?;
        ensure!(
            !matches!(cli.groups_owners_by(), Some(OwnerBy::Container | OwnerBy::Pod)),
            "--redact knows no container or pod by the pseudonym of its cgroup; try --by cgroup"
        );
    }
    let replay = Replay {
        recording,
        speed: args.speed,
        merged,
        selection,
    };
    watch(&cli, Origin::Recording(Box::new(replay)), out)
}

/// Takes names out of the filter of `cli`, which is shown, and which pseudonyms do not match. A recording of the filter `recorded` has
/// only what that selects.
fn redact_filter(cli: &mut Cli, recorded: &Filter) -> Result<()> {
    let Some(common) = cli.common_mut() else { return Ok(()) };
    let args = &mut common.filter;
    let names = [&args.comm, &args.cgroup, &args.container, &args.pod];
    let has_names = names.into_iter().any(|names| !names.is_empty());
    ensure!(
        args.local.is_empty() && args.remote.is_empty() && (!has_names || args.to_filter().owner == recorded.owner),
        "--redact takes no filter by address, name, cgroup, container or pod; try --redact export, or without the filter"
    );
    for names in [&mut args.comm, &mut args.cgroup, &mut args.container, &mut args.pod] {
        names.clear();
    }
    Ok(())
}

/// Writes the recording to files, and says how many rows each has.
fn export(recording: &mut Recording, args: &ExportArgs, out: &mut dyn Write) -> Result<Outcome> {
    let (format, ending) = match args.format {
        FormatArg::Parquet => (Format::Parquet, "parquet"),
        FormatArg::Csv => (Format::Csv, "csv"),
    };
    for (table, rows) in record::export(recording, &args.write, format)? {
        writeln!(out, "{}.{ending}  {rows}", table.name()).context(OUTPUT)?;
    }
    Ok(Outcome::Done)
}

/// The command line of the recorded run.
fn recorded(recording: &Recording) -> Result<Cli> {
    // Each would open the next, however many there are.
    let is_replay = recording.header().args.iter().any(|arg| arg == "replay");
    ensure!(!is_replay, "it is of no command that watches");
    let args = ["tcpwatch"]
        .into_iter()
        .chain(recording.header().args.iter().map(String::as_str));
    let cli = match parse(args.map(OsString::from)) {
        Ok(cli) => cli,
        Err(Refusal::Wrong(message)) => bail!("its arguments: {}", Escaped(message.as_bytes())),
        Err(Refusal::Help(_)) => bail!("its arguments ask for help"),
    };
    ensure!(plan(&cli).is_some(), "it is of no command that watches");
    Ok(cli)
}

/// The command that shows what `recorded` recorded: itself, and `stat` for `record`, which shows nothing.
fn shown_by(recorded: Cli) -> Cli {
    match recorded.command {
        Some(Command::Record(args)) => Cli {
            command: Some(Command::Stat(StatArgs {
                interval: args.interval,
                count: None,
                common: args.common,
            })),
            ..recorded
        },
        _ => recorded,
    }
}

/// How many intervals of a recording of `has` make one of `wanted`; an error, in words, where it lacks what that needs.
fn served(has: &Plan, wanted: &Plan) -> Result<u64, String> {
    if !has.needs.covers(wanted.needs) {
        return Err(format!("no {}", missing(has.needs, wanted.needs).join(" and no ")));
    }
    let mut filter = wanted.options.filter.clone();
    if wanted.needs.only_stuck() {
        // The states of stuck sockets are a need.
        filter.states = has.options.filter.states;
    }
    // Single connections can be selected afterwards; counts of all cannot be those of some.
    let has_all = wanted.needs.only_rows() && has.options.filter == Filter::default();
    if has.options.filter != filter && !has_all || has.options.netns != wanted.options.netns {
        return Err("other connections than these options select".to_owned());
    }
    let Some(interval) = wanted.interval else {
        // One interval from the start to the end.
        return Ok(u64::MAX);
    };
    let recorded = has.interval.ok_or("one interval alone")?;
    let (nanos, rest) = (
        interval.as_nanos() / recorded.as_nanos(),
        interval.as_nanos() % recorded.as_nanos(),
    );
    let scans = wanted.needs.stuck.is_some();
    match u64::try_from(nanos) {
        Ok(merged) if merged > 0 && rest == 0 && !(scans && merged > 1) => Ok(merged),
        _ => Err(format!("intervals of {} s", recorded.as_secs_f64())),
    }
}

/// What a recording of `has` lacks of `wanted`, in words.
fn missing(has: Needs, wanted: Needs) -> Vec<String> {
    let lacks = |is_wanted: bool, has_it: bool, name: &str| (is_wanted && !has_it).then(|| name.to_owned());
    let by = wanted.latency.and_then(LatencyBy::key);
    let latency = by.map_or_else(
        || "latency of all connections".to_owned(),
        |by| format!("latency by {by}"),
    );
    let stuck = match (has.stuck, wanted.stuck) {
        (None, Some(_)) => Some("stuck sockets"),
        (Some(has), Some(wanted)) if wanted.stacks && !has.stacks => Some("stacks"),
        (Some(has), Some(wanted)) if has | wanted != has => Some("stuck sockets of these states and ages"),
        _ => None,
    };
    let all = [
        lacks(wanted.reads_counts(), has.reads_counts(), "counts"),
        lacks(wanted.transitions, has.transitions, "transitions"),
        lacks(wanted.connections, has.connections, "connections"),
        lacks(wanted.churn.is_some(), has.churn.is_some(), "openers and ports"),
        lacks(wanted.groups_by_cgroup(), has.has_cgroups(), "cgroups of processes"),
        lacks(wanted.latency.is_some(), wanted.latency == has.latency, &latency),
        stuck.map(str::to_owned),
    ];
    all.into_iter().flatten().collect()
}
