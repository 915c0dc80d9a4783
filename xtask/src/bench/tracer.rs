//! What can be attached to the tracepoint while a workload runs.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{fs, thread};

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use rustix::process::{Pid, getpid};

use super::child::{Running, Usage};
use super::sandbox::{SCRATCH, Sandbox};
use super::{empty, fdinfo, unloading};
use crate::clock;

pub(super) mod output;

/// How long a program may take to attach.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// After which everything that starts with a program is over.
pub(super) const SETTLE: Duration = Duration::from_millis(50);
/// After which a program that attaches several has attached the next: the verifier takes its time.
const BETWEEN: Duration = Duration::from_millis(600);
/// After which a reader has read what is there.
const DRAIN: Duration = Duration::from_millis(150);

/// A hook of tcpwatch's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// The typed tracepoint.
    TpBtf,
    /// The classic one.
    Tracepoint,
}

/// A form of tcpwatch's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Something that watches transitions, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tracer {
    /// The bare kernel.
    Nothing,
    /// A program that does nothing.
    Empty,
    /// `tcpwatch stat`: no stream.
    Stat(Hook),
    /// `tcpwatch trace`: stream.
    Trace(Hook, Form),
    /// `tcpwatch latency`: histograms, and no stream.
    Latency(Hook),
    /// `tcpwatch churn`: a stream of finished connections.
    Churn(Hook),
    /// `tcpwatch leaks --watch`: a stream of some states, and user stacks.
    Leaks {
        /// Whether with `--stacks`.
        stacks: bool,
    },
    /// A set of needs, with a reader that has no use for the records.
    KernelNeeds(&'static [&'static str]),
    /// libbpf-tools.
    Tcpstates,
    /// bpftrace, counting.
    BpftraceCount,
    /// bpftrace, a line a transition.
    BpftracePrintf,
}

/// Where a tracer prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// To a file in memory.
    Tmpfs,
    /// Nowhere.
    Null,
}

impl Hook {
    fn flag(self) -> &'static str {
        match self {
            Self::TpBtf => "--hook=tp_btf",
            Self::Tracepoint => "--hook=tracepoint",
        }
    }
}

impl Form {
    fn flag(self) -> &'static str {
        match self {
            Self::Text => "--output=text",
            Self::Json => "--output=json",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag().trim_start_matches("--hook="))
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.flag().trim_start_matches("--output="))
    }
}

impl fmt::Display for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Empty => f.write_str("empty program, tp_btf"),
            Self::Stat(hook) => write!(f, "tcpwatch stat, {hook}"),
            Self::Trace(hook, form) => write!(f, "tcpwatch trace, {form}, {hook}"),
            Self::Latency(hook) => write!(f, "tcpwatch latency, {hook}"),
            Self::Churn(hook) => write!(f, "tcpwatch churn, {hook}"),
            Self::Leaks { stacks: false } => f.write_str("tcpwatch leaks"),
            Self::Leaks { stacks: true } => f.write_str("tcpwatch leaks --stacks"),
            Self::KernelNeeds(needs) => f.write_str(&needs.join(" ")),
            Self::Tcpstates => f.write_str("tcpstates"),
            Self::BpftraceCount => f.write_str("bpftrace, count in a map"),
            Self::BpftracePrintf => f.write_str("bpftrace, printf"),
        }
    }
}

impl Tracer {
    /// Whether its program is installed.
    pub(super) fn is_there(self, sandbox: &Sandbox) -> bool {
        match self {
            Self::Tcpstates => sandbox.peers.tcpstates.is_some(),
            Self::BpftraceCount | Self::BpftracePrintf => sandbox.peers.bpftrace.is_some(),
            _ => true,
        }
    }

    fn command(self, sandbox: &Sandbox) -> Option<Command> {
        let tcpwatch = |name: &str, hook: Hook, form: Form| {
            let mut command = Command::new(&sandbox.tcpwatch);
            command.args([name, hook.flag(), form.flag()]);
            command
        };
        let bpftrace = |action: &str| {
            let mut command = Command::new(sandbox.peers.bpftrace.as_ref()?);
            let program = format!("tracepoint:sock:inet_sock_set_state {{ {action} }}");
            command.args(["-e", &program]);
            Some(command)
        };
        match self {
            Self::Nothing | Self::Empty => None,
            Self::Stat(hook) => Some(tcpwatch("stat", hook, Form::Json)),
            Self::Trace(hook, form) => Some(tcpwatch("trace", hook, form)),
            Self::Latency(hook) => Some(tcpwatch("latency", hook, Form::Json)),
            Self::Churn(hook) => Some(tcpwatch("churn", hook, Form::Json)),
            Self::Leaks { stacks } => {
                let mut command = tcpwatch("leaks", Hook::TpBtf, Form::Json);
                command.args(["--watch", "10s"]).args(stacks.then_some("--stacks"));
                Some(command)
            }
            Self::KernelNeeds(needs) => {
                let mut command = Command::new(&sandbox.watch_needs);
                command.args(needs);
                Some(command)
            }
            Self::Tcpstates => Some(Command::new(sandbox.peers.tcpstates.as_ref()?)),
            Self::BpftraceCount => bpftrace("@ = count();"),
            Self::BpftracePrintf => bpftrace(
                r#"printf("%s %d %d %d>%d\n", comm, args->sport, args->dport, args->oldstate, args->newstate);"#,
            ),
        }
    }

    /// Attaches it; [`SETTLE`] after this returns, it does nothing but to watch.
    pub(super) fn attach(self, sandbox: &Sandbox, sink: Sink) -> Result<Attached> {
        let how = match self.command(sandbox) {
            Some(command) => How::Program(start(command, sink, |pid| self.attached(pid))?),
            None if self == Self::Empty => How::Empty(Box::new(empty::attach(&sandbox.object)?)),
            None => How::Nothing,
        };
        Ok(Attached {
            tracer: self,
            sink,
            how,
        })
    }

    /// Programs attached so far.
    fn attached(self, pid: Pid) -> usize {
        match self {
            // It may attach by an older way, that shows nowhere; it says so, if only to a file.
            Self::BpftraceCount | Self::BpftracePrintf => {
                let says_so = fs::read_to_string(Path::new(SCRATCH).join(output::OUTPUT))
                    .is_ok_and(|text| text.starts_with("Attaching"));
                usize::from(says_so && !fdinfo::programs(pid).is_empty())
            }
            _ => fdinfo::links(pid),
        }
    }
}

/// Starts a program, and waits until it has attached everything; `attached` counts what it has attached so far.
pub(super) fn start(mut command: Command, sink: Sink, attached: impl Fn(Pid) -> usize) -> Result<Running> {
    let create = |name: &str| {
        let path = Path::new(SCRATCH).join(name);
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    };
    command.stdin(Stdio::null()).stderr(create(output::MESSAGES)?);
    match sink {
        Sink::Tmpfs => command.stdout(create(output::OUTPUT)?),
        Sink::Null => command.stdout(Stdio::null()),
    };
    let mut running = Running::start(&mut command)?;
    let start = clock::start();
    // A program attaches what it has one by one: it is done when nothing comes to that for a while.
    let (mut last, mut since) = (0, clock::start());
    while last == 0 || since.elapsed() < BETWEEN {
        let now = attached(running.pid());
        if now != last {
            (last, since) = (now, clock::start());
        }
        if running.has_ended()? || start.elapsed() > PATIENCE {
            bail!("did not attach: {}", output::last_message());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

/// A tracer at work.
pub(super) struct Attached {
    tracer: Tracer,
    sink: Sink,
    how: How,
}

enum How {
    Nothing,
    Empty(Box<Ebpf>),
    Program(Running),
}

/// What became of a tracer.
#[derive(Clone, Copy, Debug)]
pub(super) struct TracerResult {
    /// Transitions it told of; unknown where it does not tell.
    pub(super) reported: Option<u64>,
    /// What its program used.
    pub(super) usage: Usage,
}

impl Attached {
    /// The BPF programs that ran, while statistics are on.
    pub(super) fn programs(&self) -> Vec<fdinfo::Program> {
        match &self.how {
            How::Nothing => Vec::new(),
            How::Empty(_) => fdinfo::programs(getpid()),
            How::Program(running) => fdinfo::programs(running.pid()),
        }
    }

    /// CPU time its program has used so far.
    pub(super) fn cpu(&self) -> Result<Duration> {
        match &self.how {
            How::Program(running) => clock::process_cpu(running.pid()).context("cannot read the CPU time of a process"),
            How::Nothing | How::Empty(_) => Ok(Duration::ZERO),
        }
    }

    /// Ends it, once it has had time to read what there is.
    pub(super) fn finish(self) -> Result<TracerResult> {
        let mut outcome = TracerResult {
            reported: None,
            usage: Usage::default(),
        };
        match self.how {
            How::Nothing => {}
            How::Empty(ebpf) => {
                let programs = fdinfo::programs(getpid());
                drop(ebpf);
                unloading::wait(&programs)?;
            }
            How::Program(running) => {
                thread::sleep(DRAIN);
                outcome.usage = running.interrupt().with_context(output::last_message)?;
                if self.sink == Sink::Tmpfs {
                    outcome.reported = output::reported_transitions(self.tracer)?;
                }
            }
        }
        Ok(outcome)
    }
}
