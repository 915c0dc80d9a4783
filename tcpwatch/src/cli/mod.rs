//! The command line: commands and options, defined once.

mod choices;
pub mod command_line;
mod doctor;
mod explain;
pub mod filter;
pub mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use command_line::Refusal;
pub use doctor::DoctorArgs;
pub use explain::ExplainArgs;
pub use filter::FilterArgs;
use filter::Support;
use values::{ByteSize, Interval, parse_size, parse_speed};

use crate::input::latency::LatencyBy;
use crate::input::owner::OwnerBy;
use crate::model::leaks;
use crate::model::snapshot::GroupBy;
use crate::view::Output;
use crate::view::screen::Color;

/// What the exit codes of all commands mean.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done; also where the reader of the output closed the pipe
  1  not possible; a line on stderr has the reason
  2  wrong arguments
  3  doctor --strict found something wrong, or leaks --fail-if-leak a leak";

/// Show what the TCP connections of this host do, and why
#[derive(Debug, Parser)]
#[command(
    name = "tcpwatch",
    disable_version_flag = true,
    args_conflicts_with_subcommands = true,
    max_term_width = 100,
    after_help = EXIT_CODES
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

/// The parser of [`Cli`]. A command hides the options that it refuses ([`Cli::check`]) from its help, and says what `--state` means.
#[must_use]
pub fn parser() -> clap::Command {
    let prose = |command: clap::Command| command.mut_arg("output", |option| option.value_parser(prose_forms()));
    let cli = ["doctor", "explain"]
        .into_iter()
        .fold(Cli::command(), |cli, name| cli.mut_subcommand(name, prose))
        .mut_subcommand("record", |command| {
            let silent = ["output", "color", "record"].into_iter();
            silent.fold(command, |command, name| {
                command.mut_arg(name, |option| option.hide(true))
            })
        });
    let default = Support::by("stat").adapt(cli);
    Support::all().into_iter().fold(default, |cli, support| {
        cli.mut_subcommand(support.command, |command| support.adapt(command))
    })
}

/// The output formats of `doctor` and `explain`: no CSV, because prose is not a table.
fn prose_forms() -> impl TypedValueParser<Value = Output> {
    PossibleValuesParser::new(["text", "json"]).try_map(|form| Output::from_str(&form, false))
}

impl Cli {
    /// Parses `args`; the first is the name of the program.
    ///
    /// # Errors
    /// Errors of the parser. The text of `--help` is also returned as an error.
    fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut matches = parser().try_get_matches_from(args)?;
        Self::from_arg_matches_mut(&mut matches)
    }

    /// What the commands that watch have in common; `None` for one of the others.
    pub fn common_mut(&mut self) -> Option<&mut Common> {
        Some(match &mut self.command {
            Some(Command::Trace(args) | Command::Life(args)) => &mut args.common,
            Some(Command::Stat(args)) => &mut args.common,
            Some(Command::Churn(args)) => &mut args.common,
            Some(Command::Latency(args)) => &mut args.common,
            Some(Command::Leaks(args)) => &mut args.common,
            Some(Command::Record(args)) => &mut args.common,
            None => &mut self.stat.common,
            _ => return None,
        })
    }

    /// What the command groups the owners of connections by; `None` if it does not.
    #[must_use]
    pub fn groups_owners_by(&self) -> Option<OwnerBy> {
        match &self.command {
            Some(Command::Trace(args) | Command::Life(args)) => args.by,
            Some(Command::Churn(args)) => Some(args.by),
            Some(Command::Latency(args)) => match args.by {
                Some(LatencyBy::Owner(by)) => Some(by),
                _ => None,
            },
            _ => None,
        }
    }

    /// Checks what clap cannot check: too many address ranges, and options that a command does not support.
    ///
    /// # Errors
    /// One line.
    fn check(&self) -> Result<(), String> {
        let (command, filter) = match &self.command {
            Some(
                Command::Doctor(_)
                | Command::Explain(_)
                | Command::Export(_)
                | Command::Completions(_)
                | Command::Symboliser,
            ) => return Ok(()),
            Some(Command::Man(args)) => {
                let name = args.command.as_deref();
                return name.map_or(Ok(()), command_line::ensure_command);
            }
            Some(Command::Replay(args)) => return args.check(),
            Some(Command::Snapshot(args)) => {
                args.check()?;
                ("snapshot", &args.filter)
            }
            Some(Command::Leaks(args)) => {
                args.check()?;
                ("leaks", &args.common.filter)
            }
            Some(Command::Record(args)) => {
                args.check()?;
                ("record", &args.common.filter)
            }
            Some(Command::Trace(args)) => ("trace", &args.common.filter),
            Some(Command::Life(args)) => ("life", &args.common.filter),
            Some(Command::Churn(args)) => ("churn", &args.common.filter),
            Some(Command::Latency(args)) => ("latency", &args.common.filter),
            Some(Command::Stat(args)) => ("stat", &args.common.filter),
            None => ("stat", &self.stat.common.filter),
        };
        filter.check(command)?;
        match &self.command {
            // It may read the sockets without the kernel side, which takes only so many ranges.
            Some(Command::Snapshot(args)) if args.source != SourceArg::Iter => Ok(()),
            _ => filter.to_filter().for_kernel(0).map(|_| ()),
        }
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
    /// Record what happens, to be shown later by replay: transitions, connections, counts, latency, ports and stuck sockets
    Record(RecordArgs),
    /// Show a recording made by record or with --record, as the run was shown or by another command. Needs no root
    Replay(ReplayArgs),
    /// Write a recording to files that other tools open: tcpwatch replay DIR export -w OUT
    #[command(hide = true, override_usage = "tcpwatch replay <DIR> export [OPTIONS] --write <OUT>")]
    Export(ExportArgs),
    /// Count or group the sockets that exist now. Needs no root
    Snapshot(SnapshotArgs),
    /// Check the TCP settings of the kernel: which are harmful, which have no effect, what to change. Changes nothing and needs
    /// no root
    Doctor(DoctorArgs),
    /// Explain a state, an ending, a finding or a sysctl. Needs no root
    Explain(ExplainArgs),
    /// Print what lets a shell complete the options: source <(tcpwatch completions bash)
    Completions(CompletionsArgs),
    /// Print a manual page: tcpwatch man stat | man -l -
    Man(ManArgs),
    /// Read what programs wrote, without privileges, for the tcpwatch at the other end of the socket that is the standard input
    #[command(hide = true)]
    Symboliser,
}

/// The arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// The arguments of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The command; without it, the page of tcpwatch itself
    pub command: Option<String>,
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
    /// Record the run in this directory, for tcpwatch replay. It must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    pub record: Option<PathBuf>,
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
    /// Seconds between rows (or 500ms, 2m) [default: 1]
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
    /// Show nothing until the end, then a row for each process, or for what several have in common
    #[arg(long, value_enum, value_name = "KEY")]
    pub by: Option<OwnerBy>,
    /// With --by, show the N largest groups
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
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
    /// Count each process apart, or all together that have this in common
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    pub by: OwnerBy,
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
    /// Show the user stack that accepted or connected each socket (new sockets only; with --watch or -d)
    #[arg(long)]
    pub stacks: bool,
    /// Exit with code 3 if a group of the last scan is LEAK or UNREAD (with --watch or -d)
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
        Ok(())
    }
}

/// What `record` can record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NeedArg {
    /// What `stat` shows: connections per state, and the kernel's counters.
    Counts,
    /// What `trace` shows.
    Transitions,
    /// What `life` shows.
    Connections,
    /// What `churn` shows.
    Churn,
    /// What `latency` shows.
    Latency,
    /// What `leaks` shows.
    Leaks,
}

/// The arguments of `record`.
#[derive(Clone, Debug, Args)]
pub struct RecordArgs {
    /// Seconds between counts (or 500ms, 2m) [default: 1]
    pub interval: Option<Interval>,
    /// The directory to record in. It must not exist, or be empty
    #[arg(short, long, value_name = "DIR")]
    pub write: PathBuf,
    /// Record only what these commands need
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub needs: Vec<NeedArg>,
    /// Record the user stack that accepted or connected each stuck socket
    #[arg(long)]
    pub stacks: bool,
    /// For leaks: a socket is stuck after this time in its state
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub older: Interval,
    /// For latency: group connections by this
    #[arg(long, value_enum, value_name = "KEY")]
    pub by: Option<LatencyBy>,
    /// End when the recording has this size: 500M, 2G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub max_size: Option<u64>,
    /// End when it has this length: 30m, 2h
    #[arg(long, value_name = "TIME")]
    pub max_time: Option<Interval>,
    /// Do not end there: remove the oldest eighth, and go on
    #[arg(long)]
    pub rotate: bool,
    /// Run this program, and end when it ends
    #[arg(last = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
    /// Options of every command that watches.
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The directory of the recording
    pub dir: PathBuf,
    /// How many times as fast as the run: 1 for its own pace [default: as fast as it can be read]
    #[arg(long, value_name = "N", value_parser = parse_speed)]
    pub speed: Option<f64>,
    /// Replace addresses, names and paths by pseudonyms
    #[arg(long)]
    pub redact: bool,
    /// The command to show it by, with its arguments, or export -w OUT [default: the command of the recorded run]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The arguments of `export`.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// The directory to write to. It must not exist, or be empty
    #[arg(short, long, value_name = "OUT")]
    pub write: PathBuf,
    /// The format of the files
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: FormatArg,
}

/// A format to export to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// CSV.
    Csv,
}

impl RecordArgs {
    /// Checks what clap cannot check.
    fn check(&self) -> Result<(), String> {
        if self.common.watch.record.is_some() {
            return Err("record writes to the directory of -w; try without --record".into());
        }
        if self.rotate && self.max_size.is_none() && self.max_time.is_none() {
            return Err("--rotate needs to know how much to keep; try --max-size 1G or --max-time 1h".into());
        }
        if self.stacks && !(self.needs.is_empty() || self.needs.contains(&NeedArg::Leaks)) {
            return Err("--stacks needs the stuck sockets that leaks shows; try --needs leaks".into());
        }
        if self.by.is_some() && !(self.needs.is_empty() || self.needs.contains(&NeedArg::Latency)) {
            return Err("--by groups what latency shows; try --needs latency".into());
        }
        Ok(())
    }
}

impl ReplayArgs {
    /// Takes `--speed` and `--redact` out of the arguments of the command, after which they may stand too.
    ///
    /// # Errors
    /// The speed is wrong, in one line.
    fn take_options(&mut self) -> Result<(), String> {
        let mut args = std::mem::take(&mut self.command).into_iter();
        while let Some(arg) = args.next() {
            let text = arg.to_string_lossy();
            let value = match text.split_once('=') {
                Some(("--speed", value)) => Some(value.to_owned()),
                None if text == "--speed" => {
                    let value = args.next().ok_or("--speed needs a value; try --speed 1")?;
                    Some(value.to_string_lossy().into_owned())
                }
                _ => None,
            };
            if let Some(value) = value {
                self.speed = Some(parse_speed(&value)?);
            } else if text == "--redact" {
                self.redact = true;
            } else {
                self.command.push(arg);
            }
        }
        Ok(())
    }

    /// The command to show the recording by; `None` for that of the recorded run.
    #[must_use]
    pub fn shown(&self) -> Option<Result<Cli, Refusal>> {
        if self.command.is_empty() {
            return None;
        }
        let name = OsString::from("tcpwatch");
        Some(command_line::read(
            [name].into_iter().chain(self.command.iter().cloned()),
        ))
    }

    /// Checks what clap cannot check.
    fn check(&self) -> Result<(), String> {
        let mut cli = match self.shown() {
            Some(Ok(cli)) => cli,
            Some(Err(Refusal::Wrong(message))) => return Err(message),
            Some(Err(Refusal::Help(_))) | None => return Ok(()),
        };
        if matches!(cli.command, Some(Command::Export(_))) {
            return Ok(());
        }
        let is_shown = !cli.version && !matches!(cli.command, Some(Command::Record(_)));
        let Some(common) = cli.common_mut().filter(|_| is_shown) else {
            return Err("replay shows stat, trace, life, churn, latency and leaks alone; try replay DIR stat".into());
        };
        if common.watch.duration.is_some() || common.watch.record.is_some() {
            return Err("replay shows the whole run and records nothing; try without -d and --record".into());
        }
        Ok(())
    }
}

/// How `snapshot` reads the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// Counters and `sock_diag` if all sockets are counted by state, else `sock_diag`, else proc.
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
    /// List the sockets, as ss -tanp does
    #[arg(long, conflicts_with = "by")]
    pub list: bool,
    /// Print only the number of sockets
    #[arg(long, conflicts_with_all = ["by", "list", "limit"])]
    pub count: bool,
    /// Show the N largest groups, and the others as one; or the first N sockets of --list [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
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

impl SnapshotArgs {
    /// Whether the numbers of sockets by state are all that is asked for, which the kernel can count.
    #[must_use]
    pub fn states_alone(&self) -> bool {
        let filter = self.filter.to_filter();
        self.uid.is_none() && filter.owner.is_any() && self.by.iter().all(|by| *by == GroupBy::State)
    }

    /// Checks what clap cannot check.
    fn check(&self) -> Result<(), String> {
        if self.source == SourceArg::Iter && (self.list || !self.states_alone()) {
            return Err(
                "--source iter counts states alone; try without --by, --list, --uid and options that select owners"
                    .into(),
            );
        }
        if self.limit.is_some() && self.by.is_empty() && !self.list {
            return Err("--limit needs --by or --list; try --by process".into());
        }
        Ok(())
    }
}
