//! Loads the kernel side, with the running kernel's offsets and the user's filter in its `.rodata`, and attaches it.

use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, RingBuf};
use aya::programs::tp_btf::BtfTracePointLinkId;
use aya::programs::trace_point::TracePointLinkId;
use aya::programs::{BtfTracePoint, TracePoint};
use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use log::{Level, Log};
use rustix::process::{Resource, Rlimit, setrlimit};
use tcpwatch_common::ledger::{BANKS, Count, STATES};
use tcpwatch_common::params::ABSENT;
use tcpwatch_common::{ClassicLayout, Filter, Ledger, Params, ResetLayout, Transition, names};

use super::chain::Suffix;
use super::feature::{FeatureKind, Features};
use super::ledger::LedgerMap;
use super::needs::Needs;
use super::probe::Helpers;
use super::stacks::StackRing;
use super::stream::Stream;
use super::{chain, misses, object, probe};
use crate::model::ending::Reasons;
use crate::sys::btf::{KernelBtf, Layouts};
use crate::sys::{caps, cpus, lockdown, pidns, tracefs};

/// Sockets that the table by address holds at once, closed ones that an application still holds among them: 16 MB of kernel memory
/// where infos are needed.
const TABLE_SOCKETS: u32 = 65_536;

/// Bytes of a ring buffer that is not used.
const PAGE: u32 = 4096;

/// The remedy where user stacks cannot be had.
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
pub struct Request<'a> {
    /// The object.
    pub object: &'a [u8],
    /// What to count.
    pub filter: &'a Filter,
    /// The three port sets.
    pub ports: &'a [u64],
    /// What is needed beside counts.
    pub needs: Needs,
    /// Bytes of the ring buffer of records.
    pub ring_bytes: u32,
    /// Bytes of the ring buffer of user stacks.
    pub stacks_ring_bytes: u32,
}

impl Request<'_> {
    /// Bytes of the ring buffer of records; a page where none are needed.
    fn records_bytes(&self) -> u32 {
        if self.needs.records() { self.ring_bytes } else { PAGE }
    }

    /// Bytes of the ring buffer of stacks, likewise.
    fn stacks_bytes(&self) -> u32 {
        if self.needs.stacks {
            self.stacks_ring_bytes
        } else {
            PAGE
        }
    }
}

/// The types of the running kernel, in the two shapes that are needed of them.
struct KernelTypes {
    /// As the kernel has them; `None` where it has none.
    kernel: Option<KernelBtf>,
    /// For aya, which finds the types of hooks and iterators; `None` where no typed program is loaded.
    btf: Option<Arc<Btf>>,
    /// Where the fields are that the programs read.
    layouts: Layouts,
}

/// A link that holds an entry program.
enum Link {
    Typed(&'static str, BtfTracePointLinkId),
    Classic(TracePointLinkId),
}

/// The loaded kernel side. Dropping it detaches everything; nothing is pinned.
pub struct Kernel {
    pub(super) ebpf: Ebpf,
    pub(super) btf: Option<Arc<Btf>>,
    /// The count of sockets that is kept, and what its bank held when it began.
    pub(super) count: Count,
    pub(super) before_count: [i64; STATES],
    /// The last one attached comes last.
    links: Vec<Link>,
    logger: Option<EbpfLogger<&'static dyn Log>>,
    hook: Option<Hook>,
    features: Features,
    ledger: LedgerMap,
    reasons: Reasons,
    /// The programs that see resets, where all of them are attached.
    pub(super) resets: Option<[&'static str; 2]>,
}

impl Kernel {
    /// Loads the programs of `hook` and attaches them.
    ///
    /// # Errors
    /// One line: what the kernel refused, why, and what to type.
    pub fn attached(request: &Request<'_>, hook: Hook) -> Result<Self> {
        let loader = prepare(request)?;
        match hook {
            Hook::TpBtf => Self::typed(request, loader),
            Hook::Tracepoint => Self::classic(request, loader),
        }
    }

    /// Loads the maps for walks of the sockets, and no hook.
    ///
    /// # Errors
    /// As [`Kernel::attached`].
    pub fn for_walks(request: &Request<'_>) -> Result<Self> {
        let loader = prepare(request)?;
        let types = kernel_types(true, request.needs)?;
        let helpers = Helpers::default();
        Self::with_maps(
            request,
            loader,
            &types,
            helpers,
            &ClassicLayout::UNKNOWN,
            &ResetLayout::UNKNOWN,
        )
    }

    /// Loads and attaches the programs on `tp_btf`.
    fn typed(request: &Request<'_>, loader: EbpfLoader<'_>) -> Result<Self> {
        let types = kernel_types(true, request.needs)?;
        let needs = request.needs;
        if !needs.connection_data() && !needs.stacks {
            return Self::typed_with(request, loader, types, ResetLayout::UNKNOWN);
        }
        tracefs::with_tracefs(|reached| {
            let reset = match reached {
                Ok(()) => tracefs::reset_layout(Path::new("/"), types.kernel.as_ref()).unwrap_or(ResetLayout::UNKNOWN),
                Err(why) => {
                    log::warn!("the processes that accept connections are unknown: {why:#}");
                    ResetLayout::UNKNOWN
                }
            };
            Self::typed_with(request, loader, types, reset)
        })
    }

    fn typed_with(
        request: &Request<'_>,
        loader: EbpfLoader<'_>,
        types: KernelTypes,
        mut reset: ResetLayout,
    ) -> Result<Self> {
        reset.typed_reason = u32::from(types.layouts.typed_reason);
        let layouts = &types.layouts;
        let classic = ClassicLayout::UNKNOWN;
        let best = Helpers::all();
        let mut kernel = Self::with_maps(request, loader, &types, best, &classic, &reset)?;
        // What the programs may call is part of their `.rodata`, which is written before the kernel can be asked.
        let mut features = Features::default();
        let mut helpers = probe::helpers(&mut kernel, &mut features)?;
        if helpers != best {
            drop(kernel);
            kernel = Self::with_maps(request, EbpfLoader::new(), &types, helpers, &classic, &reset)?;
        }
        kernel.features = features;
        let refused = kernel.attach_aux_programs(Hook::TpBtf, layouts, &reset, request);
        if !helpers.sk_storage && refused.contains(&names::PROG_DESTROY_TP_BTF) {
            // Where no program sees the death of a socket, the table drops it at its close.
            let features = std::mem::take(&mut kernel.features);
            drop(kernel);
            helpers.destroy = false;
            kernel = Self::with_maps(request, EbpfLoader::new(), &types, helpers, &classic, &reset)?;
            kernel.features = features;
            kernel.attach_aux_programs(Hook::TpBtf, layouts, &reset, request);
        }
        if request.needs.stacks {
            kernel.attach_stacks(layouts, &reset).context(NO_STACKS)?;
        }
        kernel.hook = Some(Hook::TpBtf);
        chain::load(&mut kernel, request, Suffix::Typed)?;
        if helpers.second_copy {
            chain::load(&mut kernel, request, Suffix::TypedCopy)?;
        }
        // The kernel calls programs in the order in which they were attached, and the second copy must come after the first.
        kernel.attach_entry(Suffix::Typed)?;
        if helpers.second_copy {
            kernel.attach_entry(Suffix::TypedCopy)?;
        }
        Ok(kernel)
    }

    /// Loads and attaches the programs on the classic tracepoint.
    fn classic(request: &Request<'_>, loader: EbpfLoader<'_>) -> Result<Self> {
        let types = match kernel_types(request.needs.stacks, request.needs) {
            Ok(types) => types,
            Err(why) if request.needs.stacks => return Err(why.context(NO_STACKS)),
            Err(_) if request.filter.netns != 0 => {
                bail!("without BTF the classic hook cannot tell network namespaces apart; type --netns all")
            }
            Err(_) => KernelTypes {
                kernel: None,
                btf: None,
                layouts: Layouts::unknown(),
            },
        };
        let root = Path::new("/");
        tracefs::with_tracefs(|reached| {
            reached?;
            let classic = tracefs::classic_layout(root, types.kernel.as_ref())?;
            let mut reset = tracefs::reset_layout(root, types.kernel.as_ref()).unwrap_or_else(|why| {
                log::warn!("endings and owners of connections are unknown: {why:#}");
                ResetLayout::UNKNOWN
            });
            let layouts = &types.layouts;
            let mut helpers = Helpers {
                destroy: reset.destroy_skaddr != 0,
                ..Helpers::default()
            };
            let mut kernel = Self::with_maps(request, loader, &types, helpers, &classic, &reset)?;
            let refused = kernel.attach_aux_programs(Hook::Tracepoint, layouts, &reset, request);
            if refused.contains(&names::PROG_DESTROY_TRACEPOINT) {
                drop(kernel);
                helpers.destroy = false;
                reset.destroy_skaddr = 0;
                kernel = Self::with_maps(request, EbpfLoader::new(), &types, helpers, &classic, &reset)?;
                kernel.attach_aux_programs(Hook::Tracepoint, layouts, &reset, request);
            }
            if request.needs.stacks {
                kernel.attach_stacks(layouts, &reset).context(NO_STACKS)?;
            }
            kernel.hook = Some(Hook::Tracepoint);
            let uncounted = (!layouts.counts_classic_skips).then(|| "this kernel does not count them".to_owned());
            kernel.features.note(FeatureKind::SkippedRuns, uncounted);
            chain::load(&mut kernel, request, Suffix::Classic)?;
            kernel.attach_entry(Suffix::Classic)?;
            Ok(kernel)
        })
    }

    /// Makes the maps, and writes `.rodata`.
    fn with_maps(
        request: &Request<'_>,
        loader: EbpfLoader<'_>,
        types: &KernelTypes,
        helpers: Helpers,
        classic: &ClassicLayout,
        reset: &ResetLayout,
    ) -> Result<Self> {
        let layouts = &types.layouts;
        let mut task = layouts.task;
        if helpers.pt_regs {
            task.stack = ABSENT;
        }
        let needs = request.needs;
        let ring_bytes = request.records_bytes();
        let cpus = cpus::possible(Path::new("/"))?;
        let params = Params {
            needs: needs.bits(),
            latency_by: needs.latency_by(),
            cpus,
            wake_bytes: ring_bytes / 4,
            wake_mask: wake_mask(ring_bytes),
            sk_storage: u32::from(helpers.sk_storage),
            marks: u32::from(helpers.marks),
            second_copy: u32::from(helpers.second_copy),
            task_btf: u32::from(helpers.task_btf),
            socket_cookie: u32::from(helpers.cookie),
            forget_at_close: u32::from(!helpers.destroy),
        };
        let log_level = log_level();
        // The loader borrows what was made here, and so may live no longer.
        let mut loader = loader;
        loader
            .btf(None)
            // Of a second try, after a refusal: without any log the kernel hides its reason.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(names::GLOBAL_FILTER, bytemuck::bytes_of(request.filter), true)
            .override_global(names::GLOBAL_SOCK, bytemuck::bytes_of(&layouts.sock), true)
            .override_global(names::GLOBAL_TASK, bytemuck::bytes_of(&task), true)
            .override_global(names::GLOBAL_RESET, bytemuck::bytes_of(reset), true)
            .override_global(names::GLOBAL_CLASSIC, bytemuck::bytes_of(classic), true)
            .override_global(names::GLOBAL_PARAMS, bytemuck::bytes_of(&params), true)
            .override_global(aya_log::LEVEL, &log_level, true)
            .map_max_entries(names::MAP_LEDGER, cpus * BANKS)
            .map_max_entries(names::MAP_EVENTS, ring_bytes)
            .map_max_entries(names::MAP_STACKS, request.stacks_bytes());
        if !helpers.sk_storage {
            let table = if needs.owners || needs.connections {
                names::MAP_INFOS_BY_ADDRESS
            } else {
                names::MAP_STATES_BY_ADDRESS
            };
            loader.map_max_entries(table, TABLE_SOCKETS);
        }
        let mut ebpf = loader
            .load(request.object)
            .context("the kernel refuses tcpwatch's BPF maps")?;
        let ledger = LedgerMap::of(
            ebpf.take_map(names::MAP_LEDGER)
                .context("the BPF object has no ledger")?,
        )?;
        let mut ports: Array<_, u64> = Array::try_from(
            ebpf.map_mut(names::MAP_PORTS)
                .context("the BPF object has no port sets")?,
        )?;
        for (index, word) in (0..).zip(request.ports).filter(|(_, word)| **word != 0) {
            ports.set(index, word, 0)?;
        }
        let logger = match log_level {
            0 => None,
            _ => Some(EbpfLogger::init(&mut ebpf).context("cannot read the log of the kernel side")?),
        };
        Ok(Self {
            ebpf,
            btf: types.btf.clone(),
            count: Count::default(),
            before_count: [0; STATES],
            links: Vec::new(),
            logger,
            hook: None,
            features: Features::default(),
            ledger,
            reasons: Reasons::new(&layouts.reasons),
            resets: None,
        })
    }

    /// Attaches the entry program of one chain.
    fn attach_entry(&mut self, suffix: Suffix) -> Result<()> {
        let name = suffix.entry();
        let program = self
            .ebpf
            .program_mut(name)
            .with_context(|| format!("the BPF object has no program {name}"))?;
        let link = if suffix == Suffix::Classic {
            let program: &mut TracePoint = program.try_into()?;
            let attached = program.attach(tracefs::CATEGORY, tracefs::NAME);
            Link::Classic(attached.context("the kernel refuses to attach to the tracepoint sock:inet_sock_set_state")?)
        } else {
            let program: &mut BtfTracePoint = program.try_into()?;
            let attached = program.attach();
            Link::Typed(
                name,
                attached.context("the kernel refuses to attach to tp_btf/inet_sock_set_state")?,
            )
        };
        self.links.push(link);
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

    /// What this kernel was found to offer.
    #[must_use]
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Whether marks keep the counts exact from the first row on.
    #[must_use]
    pub fn marks(&self) -> bool {
        self.hook == Some(Hook::TpBtf) && self.features.is_on(FeatureKind::ExactMarks)
    }

    /// Detaches the hook: from now on nothing is counted and nothing is sent. What was, can still be read.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<()> {
        // The second copy goes first: without the first it would take over every event.
        while let Some(link) = self.links.pop() {
            match link {
                Link::Typed(name, link) => {
                    let program = self.ebpf.program_mut(name).context("the program is gone")?;
                    <&mut BtfTracePoint>::try_from(program)?.detach(link)?;
                }
                Link::Classic(link) => {
                    let name = Suffix::Classic.entry();
                    let program = self.ebpf.program_mut(name).context("the program is gone")?;
                    <&mut TracePoint>::try_from(program)?.detach(link)?;
                }
            }
        }
        Ok(())
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

    /// Events of the whole host that no copy of the programs handled, before any filter; `None` where the kernel does not count the
    /// runs that it skips.
    #[must_use]
    pub fn missed(&self) -> Option<u64> {
        let skipped = self.skipped(self.entry()?)?;
        let ledger = self.ledger();
        Some(skipped.saturating_sub(ledger.taken_over) + ledger.too_deep)
    }

    /// The name of the entry program that is attached first.
    fn entry(&self) -> Option<&'static str> {
        self.hook.map(|hook| match hook {
            Hook::TpBtf => Suffix::Typed.entry(),
            Hook::Tracepoint => Suffix::Classic.entry(),
        })
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
    pub(super) fn skipped(&self, name: &str) -> Option<u64> {
        if self.hook == Some(Hook::Tracepoint) && !self.features.is_on(FeatureKind::SkippedRuns) {
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

/// Checks what can be checked before anything is loaded, and makes the loader.
fn prepare<'a>(request: &Request<'_>) -> Result<EbpfLoader<'a>> {
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
    object::check_abi(request.object)?;
    // Before Linux 5.11 maps count against this limit. Where it cannot be raised, the maps may fit all the same.
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let _ = setrlimit(Resource::Memlock, unlimited);
    Ok(EbpfLoader::new())
}

/// Reads the types of the running kernel; for aya too, where `typed` programs are loaded.
fn kernel_types(typed: bool, needs: Needs) -> Result<KernelTypes> {
    let root = Path::new("/");
    let kernel = KernelBtf::read(root)?;
    // Each of the two goes through megabytes of BTF in its own way: a start takes longest for this.
    let (btf, layouts) = thread::scope(|scope| -> Result<_> {
        let btf = if typed {
            let thread = thread::Builder::new().spawn_scoped(scope, || kernel.aya());
            Some(thread.context("cannot start a thread")?)
        } else {
            None
        };
        let layouts = kernel.layouts();
        let btf = match btf {
            Some(thread) => Some(thread.join().map_err(|_| anyhow!("the thread that reads BTF died"))??),
            None => None,
        };
        Ok((btf, layouts?))
    })?;
    let mut layouts = layouts;
    if needs.connection_data() || needs.stacks {
        layouts.task.pidns = pidns::other_than_first(root);
    }
    Ok(KernelTypes {
        kernel: Some(kernel),
        btf: btf.map(Arc::new),
        layouts,
    })
}
