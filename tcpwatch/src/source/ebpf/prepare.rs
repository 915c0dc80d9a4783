//! Prepares the BPF programs: reads the types of the running kernel, probes its features, creates the maps, and writes the
//! kernel's offsets and the user's filter into `.rodata`.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Array, MapError};
use aya::{Btf, EbpfError, EbpfLoader, VerifierLogLevel};
use aya_log::EbpfLogger;
use log::Level;
use rustix::io::Errno;
use tcpwatch_common::ledger::{BANKS, Count, STATES};
use tcpwatch_common::params::{ABSENT, LAST_EVENTS_BITS};
use tcpwatch_common::{ClassicLayout, Filter, Params, Transition, names};

use super::feature::Features;
use super::histograms::Histograms;
use super::kernel::{Hook, Kernel, Skips};
use super::ledger::LedgerMap;
use super::map_sizes;
use super::memory_budget::Budget;
use super::needs::KernelNeeds;
use super::object;
use super::probe::{self, Helpers};
use super::refusal::{NOT_PERMITTED, is_denied, is_one_of, not_permitted, one_line};
use crate::input::reset_reasons::Reasons;
use crate::sys::btf::{KernelBtf, Layouts};
use crate::sys::tracefs::AuxRecords;
use crate::sys::{caps, cpus, descriptor_limit, lockdown, memlock, pidns, threads, tracefs};

/// The maximum number of descriptors for maps, programs and links.
const DESCRIPTORS: u64 = 96;

/// Size of an unused ring buffer, bytes.
const PAGE: u32 = 4096;

/// The classic hook cannot watch one network namespace. Holds the reason why BTF is not usable.
#[derive(Clone, Debug)]
pub struct NamespacesUnknown(String);

impl fmt::Display for NamespacesUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(why) = self;
        write!(
            f,
            "the classic hook cannot distinguish network namespaces: {why}; try --netns all"
        )
    }
}

impl Error for NamespacesUnknown {}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The BPF object.
    pub object: &'a [u8],
    /// The sockets to count.
    pub filter: &'a Filter,
    /// The three port sets.
    pub ports: &'a [u64],
    /// The needs beyond counts.
    pub needs: KernelNeeds,
    /// Size of the ring buffer of records, bytes.
    pub ring_bytes: u32,
    /// Size of the ring buffer of user stacks, bytes.
    pub stacks_ring_bytes: u32,
}

impl Request<'_> {
    /// Size of the ring buffer of records, bytes; one page if no records are needed.
    pub(super) fn records_bytes(&self) -> u32 {
        if self.needs.records() { self.ring_bytes } else { PAGE }
    }

    /// Size of the ring buffer of stacks, bytes; one page if no stacks are needed.
    pub(super) fn stacks_bytes(&self) -> u32 {
        if self.needs.stacks {
            self.stacks_ring_bytes
        } else {
            PAGE
        }
    }
}

/// The types of the running kernel, for tcpwatch and for aya.
struct KernelTypes {
    /// The kernel's BTF; `None` if it is unusable.
    kernel: Option<KernelBtf>,
    /// The same for aya, which looks up types of hooks and iterators; `None` if no typed program is loaded.
    btf: Option<Arc<Btf>>,
    /// Offsets of the fields that the programs read.
    layouts: Layouts,
}

/// Everything that is needed to create the maps and programs.
struct Plan<'a> {
    request: &'a Request<'a>,
    budget: Budget,
    types: KernelTypes,
    classic: ClassicLayout,
    records: AuxRecords,
    helpers: Helpers,
}

/// The BPF object with its maps, before any program is attached.
pub(super) struct Prepared<'a> {
    pub(super) kernel: Kernel,
    plan: Plan<'a>,
}

impl<'a> Prepared<'a> {
    /// The request.
    pub(super) fn request(&self) -> &'a Request<'a> {
        self.plan.request
    }

    /// Offsets of the fields that the programs read.
    pub(super) fn layouts(&self) -> &Layouts {
        &self.plan.types.layouts
    }

    /// Record layouts of the tracepoints other than the hook.
    pub(super) fn records(&self) -> &AuxRecords {
        &self.plan.records
    }

    /// The features that the programs may use.
    pub(super) fn helpers(&self) -> Helpers {
        self.plan.helpers
    }

    /// Prepares again without a program for the destruction of sockets. The table by address then drops a socket at its close.
    pub(super) fn without_destroy(self) -> Result<Self> {
        let Self { kernel, mut plan } = self;
        plan.helpers.destroy = false;
        let kernel = plan.remake(kernel)?;
        Ok(Self { kernel, plan })
    }
}

/// Prepares the BPF programs for `hook`, and calls `work` with them. tracefs is reachable only inside `work`.
///
/// # Errors
/// One line: what the kernel refuses, why, and what to try; or an error of `work`.
pub(super) fn prepared<T: Send>(
    request: &Request<'_>,
    hook: Hook,
    work: impl FnOnce(Prepared<'_>) -> Result<T> + Send,
) -> Result<T> {
    let budget = check(request, hook == Hook::Tracepoint)?;
    let (loader, types) = loader_and_types(loads_typed(hook, request.needs), request.needs)?;
    match hook {
        Hook::TpBtf => typed(request, budget, loader, types?, work),
        Hook::Tracepoint => classic(request, budget, loader, types, work),
    }
}

impl Kernel {
    /// Creates the maps for walks of the sockets, and attaches nothing.
    ///
    /// # Errors
    /// One line: what the kernel refuses, why, and what to try.
    pub fn for_walks(request: &Request<'_>) -> Result<Self> {
        let budget = check(request, false)?;
        let (loader, types) = loader_and_types(true, request.needs)?;
        let plan = Plan {
            request,
            budget,
            types: types?,
            classic: ClassicLayout::UNKNOWN,
            records: AuxRecords::NONE,
            // Walks keep no state of sockets, and need no table.
            helpers: Helpers::all(),
        };
        plan.create_maps(loader, 0)
    }
}

/// Prepares for `tp_btf`.
fn typed<T: Send>(
    request: &Request<'_>,
    budget: Budget,
    loader: EbpfLoader<'_>,
    types: KernelTypes,
    work: impl FnOnce(Prepared<'_>) -> Result<T> + Send,
) -> Result<T> {
    let needs = request.needs;
    if !needs.connection_data() && !needs.stacks {
        return typed_with(request, budget, loader, types, AuxRecords::NONE).and_then(work);
    }
    tracefs::with_tracefs(|reached| {
        let records = aux_records(reached, &types, false);
        typed_with(request, budget, loader, types, records).and_then(work)
    })
}

/// Prepares for `tp_btf` with the layouts of tracepoint records.
fn typed_with<'a>(
    request: &'a Request<'a>,
    budget: Budget,
    loader: EbpfLoader<'_>,
    types: KernelTypes,
    mut records: AuxRecords,
) -> Result<Prepared<'a>> {
    records.layout.typed_reason = u32::from(types.layouts.typed_reason);
    let mut plan = Plan {
        request,
        budget,
        types,
        classic: ClassicLayout::UNKNOWN,
        records,
        helpers: Helpers::all(),
    };
    let mut kernel = plan.create_maps(loader, 0)?;
    let helpers = probe::helpers(&mut kernel, plan.types.layouts.runs)?;
    if helpers != plan.helpers {
        plan.helpers = helpers;
        kernel = plan.remake(kernel)?;
    }
    kernel.marks = helpers.marks;
    Ok(Prepared { kernel, plan })
}

/// Reads the record layouts of the other tracepoints, if tracefs was `reached`; with `classic` also the ones of the classic
/// hook.
fn aux_records(reached: Result<()>, types: &KernelTypes, classic: bool) -> AuxRecords {
    match reached {
        Ok(()) => AuxRecords::read(Path::new("/"), types.kernel.as_ref(), classic),
        Err(why) => AuxRecords::unreachable(&why),
    }
}

/// Prepares for the classic tracepoint.
fn classic<T: Send>(
    request: &Request<'_>,
    budget: Budget,
    loader: EbpfLoader<'_>,
    types: Result<KernelTypes>,
    work: impl FnOnce(Prepared<'_>) -> Result<T> + Send,
) -> Result<T> {
    let types = match types {
        Ok(types) => types,
        Err(why) if request.needs.stacks => return Err(why),
        Err(why) if request.filter.netns != 0 => return Err(NamespacesUnknown(format!("{why:#}")).into()),
        Err(why) => KernelTypes {
            kernel: None,
            btf: None,
            layouts: Layouts {
                task_unknown: Some(format!("{why:#}")),
                ..Layouts::unknown()
            },
        },
    };
    let root = Path::new("/");
    tracefs::with_tracefs(|reached| {
        reached?;
        let mut plan = Plan {
            classic: tracefs::classic_layout(root, types.kernel.as_ref())?,
            records: aux_records(Ok(()), &types, true),
            helpers: Helpers::on_classic(types.btf.is_some()),
            request,
            budget,
            types,
        };
        let mut kernel = plan.create_maps(loader, 0)?;
        let helpers = probe::classic_helpers(&mut kernel, plan.types.layouts.counts_classic_skips)?;
        if helpers != plan.helpers {
            plan.helpers = helpers;
            kernel = plan.remake(kernel)?;
        }
        work(Prepared { kernel, plan })
    })
}

/// Whether typed programs are loaded for `hook`. The classic hook needs some for process names and for user stacks.
fn loads_typed(hook: Hook, needs: KernelNeeds) -> bool {
    hook == Hook::TpBtf || needs.owners || needs.stacks
}

impl Plan<'_> {
    /// Creates the maps and programs again, and keeps the probe results of `kernel`. The helpers are part of `.rodata`, which
    /// is already frozen.
    fn remake(&self, mut kernel: Kernel) -> Result<Kernel> {
        let features = mem::take(&mut kernel.features);
        let (marks, skips, map_bytes) = (kernel.marks, kernel.skips, kernel.map_bytes);
        // Free its descriptors before new ones are opened.
        drop(kernel);
        Ok(Kernel {
            marks,
            features,
            skips,
            ..self.create_maps(EbpfLoader::new(), map_bytes)?
        })
    }

    /// The needs of the command and the features of the kernel, which has `cpus` CPUs.
    fn params(&self, cpus: u32, preemptible: bool) -> Params {
        let Self {
            request,
            types,
            helpers,
            ..
        } = self;
        let (needs, ring_bytes) = (request.needs, request.records_bytes());
        let [latency_by, latency_owners] = needs.latency_params();
        let runs = types.layouts.runs;
        Params {
            needs: needs.bits(request.filter),
            latency_by,
            latency_owners,
            cpus,
            wake_bytes: ring_bytes / 4,
            wake_mask: wake_mask(ring_bytes),
            sk_storage: u32::from(helpers.sk_storage),
            marks: u32::from(helpers.marks),
            prog_active: runs.map_or(ABSENT, |runs| runs.prog_active),
            array_values: runs.map_or(ABSENT, |runs| runs.array_values),
            preemptible: u32::from(preemptible),
            task_btf: u32::from(helpers.task_btf),
            socket_cookie: u32::from(helpers.cookie),
            forget_at_close: u32::from(!helpers.destroy),
        }
    }

    /// Creates the maps and writes `.rodata`. `earlier` is the size in bytes of maps that were created before and that the
    /// kernel may not have freed yet.
    fn create_maps(&self, loader: EbpfLoader<'_>, earlier: u64) -> Result<Kernel> {
        let Self {
            request,
            budget: _,
            types,
            classic,
            records,
            helpers,
        } = self;
        let layouts = &types.layouts;
        let mut task = layouts.task;
        if helpers.pt_regs {
            task.stack = ABSENT;
        }
        let preemptible = helpers.second_copy && layouts.runs.is_some_and(|runs| runs.preemptible);
        let last_events = if preemptible { 1 << LAST_EVENTS_BITS } else { 1 };
        let cpus = cpus::possible(Path::new("/"))?;
        let params = self.params(cpus, preemptible);
        let log_level = log_level();
        // The loader borrows local values, so it must not outlive them.
        let mut loader = loader;
        loader
            .btf(None)
            // After a refusal aya loads the program again with this level, because without a log the kernel gives no reason.
            .verifier_log_level(VerifierLogLevel::STATS)
            .override_global(names::GLOBAL_FILTER, bytemuck::bytes_of(request.filter), true)
            .override_global(names::GLOBAL_SOCK, bytemuck::bytes_of(&layouts.sock), true)
            .override_global(names::GLOBAL_TASK, bytemuck::bytes_of(&task), true)
            .override_global(names::GLOBAL_RESET, bytemuck::bytes_of(&records.layout), true)
            .override_global(names::GLOBAL_CLASSIC, bytemuck::bytes_of(classic), true)
            .override_global(names::GLOBAL_PARAMS, bytemuck::bytes_of(&params), true)
            .override_global(aya_log::LEVEL, &log_level, true)
            .map_max_entries(names::MAP_LEDGER, cpus * BANKS)
            .map_max_entries(names::MAP_EVENTS, request.records_bytes())
            .map_max_entries(names::MAP_LAST_EVENTS, last_events)
            .map_max_entries(names::MAP_TOTALS, map_sizes::totals(request.needs, cpus))
            .map_max_entries(names::MAP_STACKS, request.stacks_bytes());
        let tables = map_sizes::tables(request.needs, !helpers.sk_storage, helpers.entries_on_demand);
        for table in &tables {
            loader.map_max_entries(table.name, table.entries);
        }
        let map_bytes = map_sizes::map_bytes(request, cpus, &tables);
        self.budget.ensure(request, map_bytes + earlier)?;
        let object = if helpers.entries_on_demand {
            Cow::Borrowed(request.object)
        } else {
            object::preallocated(request.object)?.into()
        };
        let mut ebpf = loader.load(&object).map_err(maps_refused)?;
        let ledger = LedgerMap::open(
            ebpf.take_map(names::MAP_LEDGER)
                .context("the BPF object has no ledger")?,
        )?;
        let histograms = request
            .needs
            .latency
            .map(|by| Histograms::new(&mut ebpf, by))
            .transpose();
        let histograms = histograms.context("cannot count lengths of time")?;
        let mut ports: Array<_, u64> = Array::try_from(
            ebpf.map_mut(names::MAP_PORTS)
                .context("the BPF object has no port sets")?,
        )?;
        for (index, word) in (0..).zip(request.ports).filter(|(_, word)| **word != 0) {
            ports.set(index, word, 0)?;
        }
        let logger = match log_level {
            0 => None,
            _ => Some(EbpfLogger::init(&mut ebpf).context("cannot read the log of the BPF programs")?),
        };
        Ok(Kernel {
            ebpf,
            btf: types.btf.clone(),
            count: Count::default(),
            before_count: [0; STATES],
            links: Vec::new(),
            logger,
            hook: None,
            marks: false,
            features: Features::default(),
            knows_namespaces: layouts.sock.known != 0,
            counts_namespaces: request.needs.namespaces,
            unknown: Vec::new(),
            map_bytes: map_bytes + earlier,
            skips: Skips::Uncounted,
            missed: AtomicU64::new(0),
            ledger,
            histograms,
            reasons: Reasons::new(&layouts.reasons),
            resets: None,
        })
    }
}

/// How often a CPU checks whether to wake the reader: about sixty times while a ring of `bytes` fills.
fn wake_mask(bytes: u32) -> u32 {
    // The kernel puts a header of 8 bytes before each record (`BPF_RINGBUF_HDR_SZ`).
    let records = bytes / (u32::try_from(size_of::<Transition>()).unwrap_or(u32::MAX) + 8);
    (records / 64).checked_ilog2().map_or(0, |power| (1 << power) - 1)
}

/// The log level of the BPF programs, from the level of the target `tcpwatch_ebpf`; 0 is off.
fn log_level() -> u8 {
    Level::iter()
        .filter(|level| log::log_enabled!(target: "tcpwatch_ebpf", *level))
        .map(|level| level as u8)
        .max()
        .unwrap_or(0)
}

/// Explains why the kernel creates no maps. Before Linux 5.11 it returns EPERM if `RLIMIT_MEMLOCK` is too low.
fn maps_refused(error: EbpfError) -> anyhow::Error {
    let words = "the kernel refuses tcpwatch's BPF maps";
    let io_error = match &error {
        EbpfError::MapError(MapError::CreateError { io_error, .. }) => io_error,
        // If the kernel refuses aya's trial program, aya leaves out the maps of global data and then fails to relocate them.
        EbpfError::RelocationError(_) => return anyhow!("the kernel refuses every BPF program: {NOT_PERMITTED}"),
        _ => return anyhow!(error).context(words),
    };
    if is_denied(io_error) {
        anyhow!("{words}: {}", not_permitted())
    } else if is_one_of(io_error, &[Errno::NOMEM]) {
        anyhow!("{words}: not enough memory; try a larger memory.max of the cgroup of this process")
    } else if is_one_of(io_error, &[Errno::INVAL]) {
        // Every kernel accepts these maps with their types, so it refused BPF_BTF_LOAD.
        anyhow!("{words}: {}; {NOT_PERMITTED}", one_line(&anyhow!(error)))
    } else {
        anyhow!(error).context(words)
    }
}

/// Checks privileges, descriptors and memory before anything is loaded. `by_address`: a table of sockets is needed.
fn check(request: &Request<'_>, by_address: bool) -> Result<Budget> {
    let missing = caps::missing_for_bpf();
    if !missing.is_empty() {
        bail!(
            "cannot watch the kernel: it needs CAP_BPF and CAP_PERFMON (missing: {}); try sudo",
            missing.join(" and ")
        );
    }
    if lockdown::forbids_bpf_reads(Path::new("/")) {
        bail!(
            "cannot watch the kernel: it is locked down (confidentiality), so BPF programs cannot read its \
            memory; try tcpwatch snapshot"
        );
    }
    object::check_abi(request.object)?;
    // Each program and each map takes one, and a chain has about a dozen of each.
    descriptor_limit::ensure_free(DESCRIPTORS)?;
    let cpus = cpus::possible(Path::new("/"))?;
    let tables = map_sizes::tables(request.needs, by_address, true);
    let budget = Budget::now();
    budget.ensure(request, map_sizes::map_bytes(request, cpus, &tables))?;
    let _remaining = memlock::raise();
    Ok(budget)
}

/// Creates the loader and reads the types of the running kernel, in parallel: the loader also reads them.
///
/// # Errors
/// One line: a thread cannot be started.
fn loader_and_types<'a>(typed: bool, needs: KernelNeeds) -> Result<(EbpfLoader<'a>, Result<KernelTypes>)> {
    thread::scope(|scope| {
        let loader = threads::spawn_scoped(scope, "btf", EbpfLoader::new)?;
        let read = kernel_types(typed, needs);
        let loader = loader
            .join()
            .map_err(|_| anyhow!("the thread that reads BTF panicked"))?;
        Ok((loader, read))
    })
}

/// Reads the types of the running kernel; also for aya, if `typed` programs are loaded.
fn kernel_types(typed: bool, needs: KernelNeeds) -> Result<KernelTypes> {
    let root = Path::new("/");
    let kernel = KernelBtf::read(root)?;
    let mut layouts = kernel.layouts()?;
    if needs.connection_data() || needs.stacks {
        layouts.task.pidns = pidns::other_than_first(root);
    }
    let btf = if typed { Some(Arc::new(kernel.aya()?)) } else { None };
    Ok(KernelTypes {
        kernel: Some(kernel),
        btf,
        layouts,
    })
}
