//! `cargo xtask bench`: what tcpwatch costs, next to nothing, to an empty program, and to the programs people use now.
//!
//! Everything that is compared runs in turns within one run, and is compared turn by turn, so that what else the machine
//! does cancels out; what does not is printed as the noise.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};

use crate::{cargo, system};

mod against;
mod child;
mod churn;
mod connections;
mod cost;
mod diagnosis;
mod empty;
mod fdinfo;
mod hot_path;
mod memory;
mod numbers;
mod peers;
mod programs;
mod reader;
mod recording;
mod report;
mod sandbox;
mod sets;
mod snapshot;
mod socket_pool;
mod stat;
mod table;
mod target;
mod tracer;
mod unloading;
mod workload;

use report::Report;
use sandbox::Sandbox;

/// What is asked of the bench.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    plan: BenchPlan,
    #[command(subcommand)]
    stage: Option<Stage>,
}

/// What to measure, and how well.
#[derive(Args)]
struct BenchPlan {
    /// Fewer and shorter rounds: whether it works, more than what it costs
    #[arg(long)]
    quick: bool,
    /// Measure this alone (repeatable)
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Part>,
    /// Compare with an older tcpwatch, command by command, and measure nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "only")]
    against: Option<PathBuf>,
    /// Write every sample here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a transition costs more while something watches
    HotPath,
    /// The same for whole connections
    Connections,
    /// What sets of needs cost, each alone and all at once
    Sets,
    /// How long the BPF programs themselves run
    Programs,
    /// What reading and printing an event costs
    Reader,
    /// What recording a transition costs, and how fast a recording is shown
    Recording,
    /// What `churn` takes while connections come and go at full speed
    Churn,
    /// The first row of `stat` and of `trace`, and what `stat` costs at idle
    Stat,
    /// `snapshot` of 100,000 sockets next to `ss` and `netstat`
    Snapshot,
    /// How soon `leaks`, `doctor` and `explain` answer, and what `--stacks` adds
    Diagnosis,
}

/// What this program starts itself as.
#[derive(Subcommand)]
enum Stage {
    /// As root: makes namespaces, and waits for what runs inside
    #[command(hide = true)]
    Outside(Built),
    /// Inside: measures
    #[command(hide = true)]
    Inside(Built),
    /// Holds sockets until its input ends
    #[command(hide = true)]
    Hold(socket_pool::Share),
    /// Runs a program and prints the most memory it had
    #[command(hide = true)]
    Peak(memory::Measured),
}

/// What was built before, by the user who typed the command.
#[derive(Args)]
struct Built {
    /// The program
    #[arg(long)]
    tcpwatch: PathBuf,
    /// The program that watches with any set of needs
    #[arg(long)]
    watch_needs: PathBuf,
    /// The BPF object with the empty program
    #[arg(long)]
    object: PathBuf,
    #[command(flatten)]
    plan: BenchPlan,
}

/// Where the object with the empty program is, in the workspace.
const OBJECT: &str = "tcpwatch/bpf/tcpwatch.bpf.o";

/// Runs the bench, or the stage of it that this process was started for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.stage {
        None => become_root(&arguments.plan),
        Some(Stage::Outside(_)) => sandbox::enter(),
        Some(Stage::Inside(built)) => measure(built),
        Some(Stage::Hold(share)) => socket_pool::hold(share),
        Some(Stage::Peak(measured)) => memory::print_peak(measured),
    }
}

/// Builds as the user who typed it, so that root owns nothing in the checkout, then starts over as root.
fn become_root(plan: &BenchPlan) -> Result<()> {
    let sudo = system::sudo().map_err(|why| anyhow!("the bench needs root, for BPF and for namespaces: {why}"))?;
    let built = |target: &str, name: &str| {
        let build = ["build", "--locked", "--release", "--package=tcpwatch", target];
        cargo::executable(&build, name)
    };
    let tcpwatch = built("--bin=tcpwatch", "tcpwatch")?;
    let watch_needs = built("--example=watch_needs", "watch_needs")?;
    let object = cargo::root()?.join(OBJECT);
    let this = env::current_exe().context("cannot tell where this program is")?;
    let mut command = system::through(sudo, &this);
    command.args(["bench", "outside", "--tcpwatch"]).arg(&tcpwatch);
    command.arg("--watch-needs").arg(&watch_needs);
    command.arg("--object").arg(&object).args(plan.arguments()?);
    Err(anyhow!(command.exec()).context(format!("cannot start {}", command.get_program().display())))
}

impl BenchPlan {
    /// Itself, as one would type it.
    fn arguments(&self) -> Result<Vec<OsString>> {
        let mut arguments = Vec::new();
        if self.quick {
            arguments.push("--quick".into());
        }
        for part in &self.only {
            arguments.push("--only".into());
            arguments.push(part.name().into());
        }
        for (flag, file) in [("--json", &self.json), ("--against", &self.against)] {
            if let Some(file) = file {
                let file = std::path::absolute(file).with_context(|| format!("cannot find {}", file.display()))?;
                arguments.extend([flag.into(), file.into()]);
            }
        }
        Ok(arguments)
    }

    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

impl Part {
    /// In the order they run: the pool of sockets comes last, for closing it is felt for a while.
    const ALL: [Self; 10] = [
        Self::HotPath,
        Self::Connections,
        Self::Sets,
        Self::Programs,
        Self::Reader,
        Self::Recording,
        Self::Churn,
        Self::Stat,
        Self::Snapshot,
        Self::Diagnosis,
    ];

    /// As one types it.
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    fn run(self, sandbox: &Sandbox, report: &mut Report) -> Result<()> {
        match self {
            Self::HotPath => hot_path::run(sandbox, report),
            Self::Connections => connections::run(sandbox, report),
            Self::Sets => sets::run(sandbox, report),
            Self::Programs => programs::run(sandbox, report),
            Self::Reader => reader::run(sandbox, report),
            Self::Recording => recording::run(sandbox, report),
            Self::Churn => churn::run(sandbox, report),
            Self::Stat => stat::run(sandbox, report),
            Self::Snapshot => snapshot::run(sandbox, report),
            Self::Diagnosis => diagnosis::run(sandbox, report),
        }
    }
}

/// Measures what is asked for, and prints it.
fn measure(built: &Built) -> Result<()> {
    // Before a mount can hide where it is to lie.
    let json = match &built.plan.json {
        Some(path) => Some(fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    let object = fs::read(&built.object).with_context(|| format!("cannot read {}", built.object.display()))?;
    let sandbox = Sandbox::prepare(built, object)?;
    let mut report = Report::new();
    sandbox.describe(&mut report)?;
    if let Some(old) = &built.plan.against {
        against::run(&sandbox, old, &mut report)?;
        return report.finish(json);
    }
    for part in Part::ALL.into_iter().filter(|&part| built.plan.wants(part)) {
        if let Err(why) = part.run(&sandbox, &mut report) {
            report.not_run(format!("{}: {why:#}", part.name()));
        }
    }
    report.finish(json)
}
