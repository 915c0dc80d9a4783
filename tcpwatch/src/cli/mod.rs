//! What users type: commands, flags and their meanings, defined once.

mod choices;
pub mod command_line;
mod doctor;
mod explain;
pub mod filter;
pub mod values;

use std::ffi::OsString;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use tcpwatch_common::{StateSet, TcpState};

pub use doctor::DoctorArgs;
pub use explain::ExplainArgs;
pub use filter::FilterArgs;
use values::{ByteSize, Interval};

use crate::input::latency::LatencyBy;
use crate::model::leaks;
use crate::model::snapshot::GroupBy;
use crate::view::Output;
use crate::view::screen::Color;

/// What a host's TCP connections are doing, and why.
#[derive(Debug, Parser)]
#[command(
    name = "tcpwatch",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Print the version (with -v: of the BPF object and its ABI too, and the hook this kernel would get)
    #[arg(short = 'V', long)]
    pub version: bool,
    /// Say more, with --version
    #[arg(short, long, requires = "version")]
    pub verbose: bool,
    /// What to do; `stat` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of `stat`, which needs no name.
    #[command(flatten)]
    pub stat: StatArgs,
}

/// Options of commands that can select sockets by their owner.
const OWNER_OPTIONS: [&str; 3] = ["pid", "comm", "cgroup"];

/// The parser of [`Cli`]. Commands that cannot select sockets by owner refuse those options with advice ([`Cli::check`]), and do not
/// show them in their help.
#[must_use]
pub fn parser() -> clap::Command {
    let hide = |command: clap::Command| {
        OWNER_OPTIONS.into_iter().fold(command, |command, name| {
            command.mut_arg(name, |option| option.hide(true))
        })
    };
    ["stat", "churn", "latency"]
        .into_iter()
        .fold(hide(Cli::command()), |cli, name| cli.mut_subcommand(name, hide))
}

impl Cli {
    /// Reads `args`, the name of the program first.
    ///
    /// # Errors
    /// Those of the parser; also what is no error: the text of `--help`.
    pub fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut matches = parser().try_get_matches_from(args)?;
        Self::from_arg_matches_mut(&mut matches)
    }

    /// What the parser cannot see: more address ranges than the kernel side holds, or owners asked for where nothing is filtered by them.
    ///
    /// # Errors
    /// One line.
    pub fn check(&self) -> Result<(), String> {
        let (filter, owner_refused_by) = match &self.command {
            Some(Command::Trace(args) | Command::Life(args)) => (&args.common.filter, None),
            Some(Command::Snapshot(args)) if args.source == SourceArg::Iter => (&args.filter, None),
            Some(Command::Snapshot(_) | Command::Explain(_)) => return Ok(()),
            Some(Command::Doctor(args)) => return args.check(),
            Some(Command::Stat(args)) => (&args.common.filter, Some("stat")),
            Some(Command::Latency(args)) => (&args.common.filter, Some("latency")),
            Some(Command::Churn(args)) => (&args.common.filter, Some("churn")),
            Some(Command::Leaks(args)) => {
                args.check()?;
                (&args.common.filter, None)
            }
            None => (&self.stat.common.filter, Some("stat")),
        };
        let filter = filter.to_filter();
        if let Some(command) = owner_refused_by
            && !filter.owner.is_any()
        {
            let flags = filter.owner.flags();
            return Err(format!(
                "{command} does not support --pid, --comm or --cgroup; try tcpwatch life{flags}, or tcpwatch snapshot{flags}"
            ));
        }
        if let Some(Command::Trace(_) | Command::Life(_)) = &self.command
            && filter.states == StateSet::NONE.with(TcpState::TimeWait)
        {
            return Err(
                "trace and life cannot show TIME_WAIT: the kernel reports no transition to or from it; try tcpwatch stat or tcpwatch churn".into(),
            );
        }
        filter.for_kernel(0).map(|_| ())
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// How many connections are in each state, and how fast do they move?
    Stat(StatArgs),
    /// What does each connection do, transition by transition?
    Trace(TraceArgs),
    /// What did each connection do, once it is over: how long it lived, what it carried, how it ended?
    Life(TraceArgs),
    /// Who makes short-lived connections, where does TIME_WAIT come from, when do ports run out?
    Churn(ChurnArgs),
    /// How long do connections stay in a state, how long do handshakes take?
    Latency(LatencyArgs),
    /// Which sockets sit in `CLOSE_WAIT` (`FIN_WAIT2`, `SYN_SENT`, `LAST_ACK`), for how long, whose are they, are they ever closed?
    #[command(
        about = "Which sockets sit in CLOSE_WAIT (FIN_WAIT2, SYN_SENT, LAST_ACK), for how long, whose are they, are they ever closed?"
    )]
    Leaks(LeaksArgs),
    /// What is open now? The honest `netstat -ant | awk`, without root
    Snapshot(SnapshotArgs),
    /// Which kernel settings hurt here, which do nothing, and what would help? Reads and never writes, without root
    Doctor(DoctorArgs),
    /// What does a state, an ending, a finding or a sysctl mean? Without root
    Explain(ExplainArgs),
}

/// Which hook to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HookArg {
    /// The best this kernel has.
    #[default]
    Auto,
    /// The BTF-typed tracepoint (Linux 5.10 and later, with BTF).
    #[value(name = "tp_btf")]
    TpBtf,
    /// The classic tracepoint (Linux 5.8 and later).
    Tracepoint,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "How to print")]
pub struct OutputArgs {
    /// Form of the output; json is one object a line
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// Whether to colour it.
    #[command(flatten)]
    pub color: ColorArgs,
}

/// Whether to colour text.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ColorArgs {
    /// Whether to colour text.
    #[arg(
        long,
        help = "Colour text; NO_COLOR is honoured",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub color: Color,
}

/// How to watch the kernel.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "How to watch")]
pub struct WatchArgs {
    /// Stop after this long: 10s, 500ms, 2m
    #[arg(short, long, value_name = "TIME")]
    pub duration: Option<Interval>,
    /// Which hook to attach
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookArg,
    /// Room for records not read yet: a power of two, at least 4K
    #[arg(long, default_value = "16M", value_name = "SIZE")]
    pub ring_size: ByteSize,
}

/// What every command takes that watches the kernel.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How to watch.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `stat`.
#[derive(Clone, Debug, Default, Args)]
pub struct StatArgs {
    /// Seconds between rows (or 500ms, 2m)
    pub interval: Option<Interval>,
    /// Rows to print, the first one included
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// What all that watch take.
    #[command(flatten)]
    pub common: Common,
}

/// `trace`, and `life`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// What all that watch take.
    #[command(flatten)]
    pub common: Common,
}

/// `churn`.
#[derive(Clone, Debug, Args)]
pub struct ChurnArgs {
    /// Seconds between reports (or 500ms, 2m); 10 when nothing is said
    pub interval: Option<Interval>,
    /// How often to print
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Show the busiest N openers, and N destinations whose ports run low
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// What all that watch take.
    #[command(flatten)]
    pub common: Common,
}

/// `latency`.
#[derive(Clone, Debug, Args)]
pub struct LatencyArgs {
    /// Seconds between histograms (or 500ms, 2m); one at the end when nothing is said
    pub interval: Option<Interval>,
    /// How often to print
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Group by this
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Option<LatencyBy>,
    /// Show the busiest N groups
    #[arg(long, requires = "by", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// What all that watch take.
    #[command(flatten)]
    pub common: Common,
}

/// `leaks`.
#[derive(Clone, Debug, Args)]
pub struct LeaksArgs {
    /// Those that have been in the state for this long, or longer
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub older: Interval,
    /// Look again and again, this far apart; one look alone when neither this nor -d is given
    #[arg(long, value_name = "TIME")]
    pub watch: Option<Interval>,
    /// Tell where in their program they were opened, of those opened from now on (the stack at accept or connect)
    #[arg(long)]
    pub stacks: bool,
    /// Exit with 3 if at the end some group is a leak or a stuck reader
    #[arg(long)]
    pub fail_if_leak: bool,
    /// What all that watch take.
    #[command(flatten)]
    pub common: Common,
}

impl LeaksArgs {
    /// How far apart the looks are; `None` for a single one.
    #[must_use]
    pub fn every(&self) -> Option<Interval> {
        self.watch.or(self.common.watch.duration)
    }

    /// What the parser cannot see.
    fn check(&self) -> Result<(), String> {
        let states = self.common.filter.to_filter().states;
        if self.common.output.output == Output::Csv {
            return Err("leaks has no csv: -o json has an object a group".into());
        }
        if self.fail_if_leak && self.every().is_none() {
            return Err("--fail-if-leak takes time, for one look cannot tell a leak: add -d 60s".into());
        }
        if self.fail_if_leak
            && let Some(duration) = self.common.watch.duration
            && duration.0 < self.older.0
        {
            return Err("--fail-if-leak knows of no leak before --older has passed: give it a -d as long, as in --older 10s -d 60s".into());
        }
        if self.stacks && self.every().is_none() {
            return Err(
                "--stacks sees what is opened from now on, and one look is over by then: add --watch 10s".into(),
            );
        }
        if states != StateSet::ALL && states.0 & !leaks::states().0 != 0 {
            let names: Vec<&str> = leaks::STATES.iter().map(|state| state.key()).collect();
            return Err(format!("leaks looks at {}, and at no other --state", names.join(", ")));
        }
        Ok(())
    }
}

/// How a snapshot reads the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// iter as root where states alone are asked for, else `sock_diag`, else proc.
    #[default]
    Auto,
    /// Counted inside the kernel by a BPF iterator (root; totals per state alone).
    Iter,
    /// A netlink dump, as `ss` reads it.
    #[value(name = "sock_diag")]
    SockDiag,
    /// /proc/net/tcp and tcp6, as netstat reads them.
    Proc,
}

/// `snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    /// Group by this (repeatable)
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Vec<GroupBy>,
    /// Print the number of connections alone
    #[arg(long, conflicts_with_all = ["by", "limit"])]
    pub count: bool,
    /// Show the largest N groups, the others as one
    #[arg(long, requires = "by", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// How to read the kernel
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub source: SourceArg,
    /// User id of the owner
    #[arg(long)]
    pub uid: Option<u32>,
    /// Which connections.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// How to print.
    #[command(flatten)]
    pub output: OutputArgs,
}
