//! Loads the kernel side, with the running kernel's offsets and the user's filter in its `.rodata`, and attaches it.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, RingBuf};
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::{BtfTracePoint, Program, ProgramError, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use log::{Level, Log};
use rustix::process::{Resource, Rlimit, setrlimit};
use tcpwatch_common::histogram;
use tcpwatch_common::ledger::{Count, STATES};
use tcpwatch_common::params::LIVES_AND_OPENINGS;
use tcpwatch_common::{ClassicLayout, Filter, Ledger, Params, ResetLayout, Transition, names};

use super::ledger::LedgerMap;
use super::stacks::StackRing;
use super::stream::Stream;
use super::{misses, object};
use crate::model::ending::Reasons;
use crate::model::latency::LatencyBy;
use crate::sys::btf::{KernelBtf, Layouts};
use crate::sys::release::Release;
use crate::sys::{caps, cpus, lockdown, pidns, tracefs};

/// Sockets the classic hook remembers at once, those closed that their application still holds among them: with their stories, 16 MB
/// of kernel memory.
const CLASSIC_LIVES: u32 = 65_536;

/// What cannot be had where the kernel is too old for it (5.15), or does not tell its types.
const NO_STACKS: &str = "user stacks cannot be had; leave out --stacks";

/// Which hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The BTF-typed tracepoint.
    TpBtf,
    /// The classic tracepoint.
    Tracepoint,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
        })
    }
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The object.
    pub object: &'a [u8],
    /// Where to attach; `None` for walks of the sockets alone.
    pub hook: Option<Hook>,
    /// What to count.
    pub filter: &'a Filter,
    /// The three port sets.
    pub ports: &'a [u64],
    /// The stream; `None` for none.
    pub stream: Option<StreamOptions>,
    /// How to group histograms of time in states; `None` for no histograms.
    pub histograms: Option<LatencyBy>,
    /// Bytes of the ring buffer of user stacks; `None` for no stacks.
    pub stacks: Option<u32>,
}

impl Options<'_> {
    /// Whether owners and times of single sockets are wanted.
    pub(super) fn stories(&self) -> bool {
        self.stream.is_some() || self.histograms.is_some()
    }
}

/// What the stream is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// Bytes of its ring buffer.
    pub ring_bytes: u32,
    /// What it carries.
    pub carries: Carries,
}

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Every transition.
    Transitions,
    /// Finished connections.
    Lives,
    /// Finished connections, and the transitions to `ESTABLISHED`.
    LivesAndOpenings,
}

/// The link that holds the hook.
enum Link {
    TpBtf(BtfTracePointLinkId),
    Tracepoint(TracePointLinkId),
}

/// The loaded kernel side. Dropping it detaches everything; nothing is pinned.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Option<Btf>,
    /// The count of sockets that is kept, and what its bank held when it began.
    pub(super) count: Count,
    pub(super) before_count: [i64; STATES],
    link: Option<Link>,
    logger: Option<EbpfLogger<&'static dyn Log>>,
    hook: Option<Hook>,
    ledger: LedgerMap,
    reasons: Reasons,
    /// The programs that hear of resets, where all of them do.
    pub(super) resets: Option<[&'static str; 2]>,
}

impl Kernel {
    /// Loads and, where a hook is given, attaches.
    ///
    /// # Errors
    /// One line: what the kernel refused, why, and what to type.
    pub fn load(options: &Options<'_>) -> Result<Self> {
        let missing = caps::missing_for_bpf();
        if !missing.is_empty() {
            bail!(
                "watching the kernel needs CAP_BPF and CAP_PERFMON (missing: {}); run it with sudo",
                missing.join(" and ")
            );
        }
        if lockdown::forbids_bpf_reads(Path::new("/")) {
            bail!(
                "the kernel is locked down (confidentiality) and lets no BPF program read its memory; tcpwatch snapshot works"
            );
        }
        object::check_abi(options.object)?;
        if Release::running() < Release::NO_MEMLOCK {
            let unlimited = Rlimit {
                current: None,
                maximum: None,
            };
            // Where this is refused, the maps may fit all the same; if not, that error says more.
            let _ = setrlimit(Resource::Memlock, unlimited);
        }
        let typed = options.hook != Some(Hook::Tracepoint) || options.stacks.is_some();
        let kernel_btf = match KernelBtf::read(Path::new("/")) {
            Ok(btf) => Some(btf),
            Err(why) if options.stacks.is_some() => return Err(why.context(NO_STACKS)),
            Err(why) if typed => return Err(why.context("no hook tp_btf; try --hook tracepoint")),
            Err(_) => None,
        };
        // Both read megabytes of BTF, each in its own way: this is what a start takes longest for.
        let (btf, loader, layouts) = thread::scope(|scope| {
            let btf = kernel_btf.as_ref().filter(|_| typed);
            let btf = btf.map(|btf| scope.spawn(|| btf.aya()));
            let loader = scope.spawn(EbpfLoader::new);
            let layouts = kernel_btf.as_ref().map(KernelBtf::layouts);
            let died = |_| anyhow!("a thread that reads BTF died");
            (
                btf.map(|thread| thread.join().map_err(died)),
                loader.join().map_err(died),
                layouts,
            )
        });
        let loader = loader?;
        let btf = match btf {
            Some(parsed) => Some(parsed??),
            None => None,
        };
        let mut layouts = match layouts {
            Some(Ok(layouts)) => layouts,
            Some(Err(error)) if options.stacks.is_some() => return Err(error.context(NO_STACKS)),
            Some(Err(error)) if typed => return Err(error.context("no hook tp_btf; try --hook tracepoint")),
            Some(Err(_)) | None => Layouts::unknown(),
        };
        if options.filter.netns != 0 && layouts.sock.known == 0 {
            bail!("without BTF the classic hook cannot tell network namespaces apart; type --netns all");
        }
        layouts.task.pidns = pidns::other_than_first(Path::new("/"));
        let classic_hook = options.hook == Some(Hook::Tracepoint);
        if !classic_hook && !options.stories() && options.stacks.is_none() {
            return Self::with_layouts(
                options,
                loader,
                btf,
                &layouts,
                ClassicLayout::UNKNOWN,
                ResetLayout::UNKNOWN,
            );
        }
        let root = Path::new("/");
        tracefs::with_tracefs(|reached| {
            let classic = match (classic_hook, reached) {
                (true, Ok(())) => tracefs::classic_layout(root, kernel_btf.as_ref())?,
                (true, Err(why)) => return Err(why),
                (false, Ok(())) => ClassicLayout::UNKNOWN,
                (false, Err(why)) => {
                    log::warn!("who accepts connections is unknown: {why:#}");
                    ClassicLayout::UNKNOWN
                }
            };
            let reset = tracefs::reset_layout(root, kernel_btf.as_ref()).unwrap_or_else(|why| {
                if classic_hook {
                    log::warn!("how connections end and whose they are is unknown: {why:#}");
                }
                ResetLayout::UNKNOWN
            });
            Self::with_layouts(options, loader, btf, &layouts, classic, reset)
        })
    }

    fn with_layouts(
        options: &Options<'_>,
        loader: EbpfLoader<'_>,
        btf: Option<Btf>,
        layouts: &Layouts,
        classic: ClassicLayout,
        mut reset: ResetLayout,
    ) -> Result<Self> {
        reset.typed_reason = u32::from(layouts.typed_reason);
        let ring_bytes = options.stream.map(|stream| stream.ring_bytes);
        let params = Params {
            stream: u32::from(options.stream.is_some()),
            cpus: cpus::possible(Path::new("/"))?,
            wake_bytes: ring_bytes.unwrap_or(0) / 4,
            wake_mask: wake_mask(ring_bytes.unwrap_or(0)),
            nests: u32::from(Release::running() < Release::NO_NESTING),
            late_peers: u32::from(Release::running() < Release::CHILD_HAS_PEER),
            stories: u32::from(options.stories()),
            lives: match options.stream.map(|stream| stream.carries) {
                None | Some(Carries::Transitions) => 0,
                Some(Carries::Lives) => 1,
                Some(Carries::LivesAndOpenings) => LIVES_AND_OPENINGS,
            },
            histograms: match options.histograms {
                None => histogram::BY_NONE,
                Some(LatencyBy::All) => histogram::BY_ALL,
                Some(LatencyBy::Lport) => histogram::BY_LPORT,
                Some(LatencyBy::Remote) => histogram::BY_REMOTE,
                Some(LatencyBy::Process) => histogram::BY_PROCESS,
            },
        };
        let log_level = log_level();
        // The loader borrows what was made here, and so may live no longer.
        let mut loader = loader;
        loader
            .btf(None)
            // Of a second try, after a refusal: with no log at all the kernel takes it for invalid, and hides its reason.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(names::GLOBAL_FILTER, bytemuck::bytes_of(options.filter), true)
            .override_global(names::GLOBAL_SOCK, bytemuck::bytes_of(&layouts.sock), true)
            .override_global(names::GLOBAL_TASK, bytemuck::bytes_of(&layouts.task), true)
            .override_global(names::GLOBAL_RESET, bytemuck::bytes_of(&reset), true)
            .override_global(names::GLOBAL_CLASSIC, bytemuck::bytes_of(&classic), true)
            .override_global(names::GLOBAL_PARAMS, bytemuck::bytes_of(&params), true)
            .override_global(aya_log::LEVEL, &log_level, true)
            .map_max_entries(names::MAP_LEDGER, params.cpus)
            .map_max_entries(names::MAP_EVENTS, ring_bytes.unwrap_or(4096))
            .map_max_entries(names::MAP_STACKS, options.stacks.unwrap_or(4096));
        if options.hook == Some(Hook::Tracepoint) {
            let kept = if options.stories() {
                names::MAP_STORIES_BY_ADDRESS
            } else {
                names::MAP_LIVES_BY_ADDRESS
            };
            loader.map_max_entries(kept, CLASSIC_LIVES);
        }
        let mut ebpf = loader
            .load(options.object)
            .context("the kernel refuses tcpwatch's BPF maps")?;
        let ledger = LedgerMap::of(
            ebpf.take_map(names::MAP_LEDGER)
                .context("the BPF object has no ledger")?,
        )?;
        let mut ports: Array<_, u64> = Array::try_from(
            ebpf.map_mut(names::MAP_PORTS)
                .context("the BPF object has no port sets")?,
        )?;
        for (index, word) in (0..).zip(options.ports).filter(|(_, word)| **word != 0) {
            ports.set(index, word, 0)?;
        }
        let logger = match log_level {
            0 => None,
            _ => Some(EbpfLogger::init(&mut ebpf).context("cannot read the log of the kernel side")?),
        };
        let mut kernel = Self {
            ebpf,
            btf,
            count: Count::default(),
            before_count: [0; STATES],
            link: None,
            logger,
            hook: options.hook,
            ledger,
            reasons: Reasons::new(&layouts.reasons),
            resets: None,
        };
        if let Some(hook) = options.hook {
            // First what explains, then what is to be explained.
            let unheard = kernel.attach_beside(hook, layouts, &reset, options);
            if unheard.contains(&names::PROG_DESTROY_TRACEPOINT) {
                // Who does not hear of a socket's death forgets it at its end, and is told so by its layout.
                let btf = kernel.btf.take();
                drop(kernel);
                reset.destroy_skaddr = 0;
                return Self::with_layouts(options, EbpfLoader::new(), btf, layouts, classic, reset);
            }
        }
        if options.stacks.is_some() {
            kernel.attach_stacks(layouts, &reset).context(NO_STACKS)?;
        }
        kernel.attach()?;
        Ok(kernel)
    }

    /// Attaches the hook, if there is one.
    fn attach(&mut self) -> Result<()> {
        match self.hook {
            None => {}
            Some(Hook::TpBtf) => {
                let btf = self.btf.as_ref().context("no BTF")?;
                let program: &mut BtfTracePoint = self
                    .ebpf
                    .program_mut(names::PROG_TP_BTF)
                    .context("the BPF object has no tp_btf program")?
                    .try_into()?;
                program
                    .load(tracefs::NAME, btf)
                    .map_err(|error| refused(names::PROG_TP_BTF, error))?;
                self.link = Some(Link::TpBtf(
                    program
                        .attach()
                        .context("the kernel refuses to attach to tp_btf/inet_sock_set_state")?,
                ));
            }
            Some(Hook::Tracepoint) => {
                let program: &mut TracePoint = self
                    .ebpf
                    .program_mut(names::PROG_TRACEPOINT)
                    .context("the BPF object has no tracepoint program")?
                    .try_into()?;
                program.load().map_err(|error| refused(names::PROG_TRACEPOINT, error))?;
                let link = program
                    .attach(tracefs::CATEGORY, tracefs::NAME)
                    .context("the kernel refuses to attach to the tracepoint sock:inet_sock_set_state")?;
                self.link = Some(Link::Tracepoint(link));
            }
        }
        Ok(())
    }

    /// What the kernel's numbers for the reason of a reset stand for.
    #[must_use]
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// The hook that is attached.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        self.hook
    }

    /// Detaches the hook: from now on nothing is counted and nothing is sent. What was, can still be read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<()> {
        match (
            self.link.take(),
            self.program_name().and_then(|name| self.ebpf.program_mut(name)),
        ) {
            (Some(Link::TpBtf(link)), Some(Program::BtfTracePoint(program))) => program.detach(link)?,
            (Some(Link::Tracepoint(link)), Some(Program::TracePoint(program))) => program.detach(link)?,
            _ => {}
        }
        Ok(())
    }

    /// The name of the attached program.
    fn program_name(&self) -> Option<&'static str> {
        self.hook.map(|hook| match hook {
            Hook::TpBtf => names::PROG_TP_BTF,
            Hook::Tracepoint => names::PROG_TRACEPOINT,
        })
    }

    /// The ledger, summed over the CPUs.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.ledger.sum()
    }

    /// Records lost so far, more cheaply than by [`Kernel::ledger`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ledger.lost().0
    }

    /// The ledger once nothing moves it any more: after [`Kernel::detach`] a run may still be under way.
    #[must_use]
    pub fn settled_ledger(&self) -> Ledger {
        const TRIES: u32 = 100;
        let mut ledger = self.ledger();
        for _ in 0..TRIES {
            thread::sleep(Duration::from_millis(1));
            let again = self.ledger();
            if again == ledger {
                break;
            }
            ledger = again;
        }
        ledger
    }

    /// Runs of the attached program that the kernel skipped; `None` where it does not count them.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        self.skipped(self.program_name()?)
    }

    /// Resets that were not heard of: the kernel skipped a run, or there was no room for what they change. `None` where resets are
    /// not watched, or the kernel does not count what it skips.
    #[must_use]
    pub fn unheard_resets(&self) -> Option<u64> {
        let mut unheard = self.ledger.lost().1;
        for name in self.resets? {
            unheard += self.skipped(name)?;
        }
        Some(unheard)
    }

    /// Runs of the program `name` that the kernel skipped; `None` where it does not count them.
    fn skipped(&self, name: &str) -> Option<u64> {
        if self.hook == Some(Hook::Tracepoint) && Release::running() < Release::COUNTS_CLASSIC_MISSES {
            return None;
        }
        misses::of(self.ebpf.program(name)?.fd().ok()?.as_fd())
    }

    /// Passes on what the kernel side has logged.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// User stacks for which there was no room in their ring buffer.
    #[must_use]
    pub fn lost_stacks(&self) -> u64 {
        self.ledger().lost_stacks
    }

    /// The user stacks, where they are wanted. Called once.
    ///
    /// # Errors
    /// They were taken already, or cannot be mapped.
    pub fn stacks(&mut self) -> Result<StackRing> {
        let map = self
            .ebpf
            .take_map(names::MAP_STACKS)
            .context("the stacks are taken already")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer of stacks")?;
        Ok(StackRing::new(ring))
    }

    /// The stream. Called once, within a tokio runtime.
    ///
    /// # Errors
    /// It was taken already, or cannot be mapped.
    pub fn stream(&mut self) -> Result<Stream> {
        let map = self
            .ebpf
            .take_map(names::MAP_EVENTS)
            .context("the stream is taken already")?;
        let ring = RingBuf::try_from(map).context("cannot map the ring buffer; try a smaller --ring-size")?;
        Ok(Stream::new(ring)?)
    }
}

/// How often a CPU looks whether to wake the reader: some sixty times while a ring of `bytes` fills.
fn wake_mask(bytes: u32) -> u32 {
    // The kernel heads each record with 8 bytes (`BPF_RINGBUF_HDR_SZ`).
    let records = bytes / (u32::try_from(size_of::<Transition>()).unwrap_or(u32::MAX) + 8);
    (records / 64).checked_ilog2().map_or(0, |power| (1 << power) - 1)
}

/// The level at which the kernel side logs, 0 for not at all: what the log lets through under its name.
fn log_level() -> u8 {
    Level::iter()
        .filter(|level| log::log_enabled!(target: "tcpwatch_ebpf", *level))
        .map(|level| level as u8)
        .max()
        .unwrap_or(0)
}

/// Why the kernel would not take a program, in one line.
pub(super) fn refused(name: &str, error: ProgramError) -> anyhow::Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            log::debug!("verifier log of {name}:\n{verifier_log}");
            let last = verifier_log.to_string();
            let why = last
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty() && !line.starts_with("processed"))
                .unwrap_or("no reason given")
                .to_owned();
            anyhow!("the kernel refuses the BPF program {name}: {io_error} ({why})")
        }
        other => anyhow!(other).context(format!("cannot load the BPF program {name}")),
    }
}
