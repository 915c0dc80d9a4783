//! The command line: commands and options, defined once.

mod choices;
pub mod command_line;
mod doctor;
mod explain;
pub mod filter;
pub mod values;

use std::ffi::OsString;
use std::time::Duration;

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

/// Show what the TCP connections of this host do, and why
#[derive(Debug, Parser)]
#[command(
    name = "tcpwatch",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Print the version; with -v also the BPF object, the features of this kernel and the hook that tcpwatch would use
    #[arg(short = 'V', long)]
    pub version: bool,
    /// With --version: print more
    #[arg(short, long, requires = "version")]
    pub verbose: bool,
    /// The command; `stat` if none is given.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The arguments of `stat`, which runs if no command is given.
    #[command(flatten)]
    pub stat: StatArgs,
}

/// Options of commands that can select sockets by their owner.
const OWNER_OPTIONS: [&str; 3] = ["pid", "comm", "cgroup"];

/// The parser of [`Cli`]. Commands that cannot select sockets by owner hide these options in their help, and refuse them with
/// advice ([`Cli::check`]).
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
    /// Parses `args`; the first is the name of the program.
    ///
    /// # Errors
    /// Errors of the parser. The text of `--help` is also returned as an error.
    pub fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut matches = parser().try_get_matches_from(args)?;
        Self::from_arg_matches_mut(&mut matches)
    }

    /// Checks what clap cannot check: too many address ranges, owner options of commands without owners, states that cannot
    /// match.
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
                "trace and life cannot show TIME_WAIT: the kernel reports no transition to or from it; try \
                tcpwatch stat or tcpwatch churn"
                    .into(),
            );
        }
        filter.for_kernel(0).map(|_| ())
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Count connections in each state, and transitions per second
    Stat(StatArgs),
    /// Print every state transition of every connection
    Trace(TraceArgs),
    /// Print one line for each finished connection: lifetime, bytes, owner and how it ended
    Life(TraceArgs),
    /// Show which processes open many connections, what causes TIME_WAIT, and when local ports run out
    Churn(ChurnArgs),
    /// Show histograms of the time in each state, of handshakes and in the accept queue
    Latency(LatencyArgs),
    /// Find sockets stuck in `CLOSE_WAIT`, `FIN_WAIT2`, `SYN_SENT` or `LAST_ACK`, their owners and whether they are ever closed
    #[command(
        about = "Find sockets stuck in CLOSE_WAIT, FIN_WAIT2, SYN_SENT or LAST_ACK, their owners and whether they are ever closed"
    )]
    Leaks(LeaksArgs),
    /// Count or group the sockets that exist now. Needs no root
    Snapshot(SnapshotArgs),
    /// Check the TCP settings of the kernel: which are harmful, which have no effect, what to change. Changes nothing and needs
    /// no root
    Doctor(DoctorArgs),
    /// Explain a state, an ending, a finding or a sysctl. Needs no root
    Explain(ExplainArgs),
}

/// The hook to attach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HookArg {
    /// The best hook of this kernel.
    #[default]
    Auto,
    /// The BTF-typed tracepoint (Linux 5.10 and later, with BTF).
    #[value(name = "tp_btf")]
    TpBtf,
    /// The classic tracepoint, also without BTF.
    Tracepoint,
}

/// The options for output.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Output format; json prints one object per line
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// Whether to colour it.
    #[command(flatten)]
    pub color: ColorArgs,
}

/// The option for colour.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct ColorArgs {
    /// When to colour text.
    #[arg(
        long,
        help = "When to colour text; auto respects NO_COLOR",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub color: Color,
}

/// Options for watching the kernel.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Watching")]
pub struct WatchArgs {
    /// Stop after this time: 10s, 500ms, 2m
    #[arg(short, long, value_name = "TIME")]
    pub duration: Option<Interval>,
    /// The hook to attach
    #[arg(long, value_enum, default_value_t)]
    pub hook: HookArg,
    /// Size of the ring buffer for records: a power of two from 4K to 1G
    #[arg(long, default_value = "16M", value_name = "SIZE")]
    pub ring_size: ByteSize,
}

/// The options of every command that watches the kernel.
#[derive(Clone, Debug, Default, Args)]
pub struct Common {
    /// Options that select connections.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Options for watching the kernel.
    #[command(flatten)]
    pub watch: WatchArgs,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The arguments of `stat`.
#[derive(Clone, Debug, Default, Args)]
pub struct StatArgs {
    /// Seconds between rows (or 500ms, 2m)
    pub interval: Option<Interval>,
    /// Number of rows to print, including the first
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `trace` and `life`.
#[derive(Clone, Debug, Args)]
pub struct TraceArgs {
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `churn`.
#[derive(Clone, Debug, Args)]
pub struct ChurnArgs {
    /// Seconds between reports (or 500ms, 2m) [default: 10]
    pub interval: Option<Interval>,
    /// How often to print
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Show the N busiest openers with their destinations, and the N destinations whose ports run out first
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `latency`.
#[derive(Clone, Debug, Args)]
pub struct LatencyArgs {
    /// Seconds between histograms (or 500ms, 2m) [default: one at the end]
    pub interval: Option<Interval>,
    /// How often to print
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Group connections by this
    #[arg(long, value_enum, value_name = "KEY")]
    pub by: Option<LatencyBy>,
    /// Show the N busiest groups
    #[arg(long, requires = "by", value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `leaks`.
#[derive(Clone, Debug, Args)]
pub struct LeaksArgs {
    /// A socket is stuck after this time in its state, if no data moves
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub older: Interval,
    /// Scan repeatedly, with this time between scans. Without --watch and -d, leaks scans once
    #[arg(long, value_name = "TIME")]
    pub watch: Option<Interval>,
    /// Show the user stack that accepted or connected each socket (new sockets only)
    #[arg(long)]
    pub stacks: bool,
    /// Exit with code 3 if a group of the last scan is LEAK or UNREAD
    #[arg(long)]
    pub fail_if_leak: bool,
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

impl LeaksArgs {
    /// The time in its state after which a socket is stuck, ns.
    #[must_use]
    pub fn older_ns(&self) -> u64 {
        u64::try_from(self.older.0.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time between scans; `None` for a single scan.
    #[must_use]
    pub fn every(&self) -> Option<Interval> {
        self.watch.or(self.common.watch.duration)
    }

    /// Checks what clap cannot check.
    fn check(&self) -> Result<(), String> {
        let states = self.common.filter.to_filter().states;
        let window = Duration::from_nanos(leaks::window_ns(self.older_ns(), 0));
        if self.fail_if_leak && self.every().is_none() {
            return Err("--fail-if-leak needs more than one scan to find a leak; try -d 60s".into());
        }
        if self.fail_if_leak
            && let Some(duration) = self.common.watch.duration
            && duration.0 < window
        {
            let window = window.as_secs_f64();
            return Err(format!(
                "--fail-if-leak finds no leak in less than {window} s, its window; try -d {window}s"
            ));
        }
        if self.stacks && self.every().is_none() {
            return Err(
                "--stacks shows only sockets opened from now on, so one scan shows none; try --watch 10s".into(),
            );
        }
        let possible = leaks::possible_states();
        if states != StateSet::ALL && states.0 & !possible.0 != 0 {
            let all = TcpState::ALL.iter().filter(|&&state| possible.contains(state));
            let names: Vec<&str> = all.map(|state| state.key()).collect();
            return Err(format!("leaks supports only --state {}", names.join(", ")));
        }
        Ok(())
    }
}

/// How `snapshot` reads the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// iter as root if only states are needed, else `sock_diag`, else proc.
    #[default]
    Auto,
    /// A BPF iterator counts inside the kernel (root; only totals per state).
    Iter,
    /// A netlink dump, as in ss.
    #[value(name = "sock_diag")]
    SockDiag,
    /// /proc/net/tcp and tcp6, as in netstat.
    Proc,
}

/// The arguments of `snapshot`.
#[derive(Clone, Debug, Args)]
pub struct SnapshotArgs {
    /// Group sockets by this; can be repeated
    #[arg(long, value_enum, value_name = "KEY")]
    pub by: Vec<GroupBy>,
    /// Print only the number of connections
    #[arg(long, conflicts_with_all = ["by", "limit"])]
    pub count: bool,
    /// Show the N largest groups, and the others as one
    #[arg(long, requires = "by", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// How to read the sockets
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub source: SourceArg,
    /// User ID of the socket's owner
    #[arg(long)]
    pub uid: Option<u32>,
    /// Options that select connections.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Output options.
    #[command(flatten)]
    pub output: OutputArgs,
}
