//! The live source: turns records, counters and scans of the running kernel into inputs.

mod awaited_process;
mod host_counters;
mod interval_reader;
mod listener_drops;
mod no_room;
mod seeding;
mod state_counter;
mod stuck_scans;

use std::future::pending;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustix::thread::CapabilitySet;

use self::awaited_process::AwaitedProcess;
use self::interval_reader::IntervalReader;
use self::no_room::no_room;
use self::seeding::Seeding;
use self::stuck_scans::StuckScans;
use super::ebpf::{self, Choice, Kernel, KernelNeeds, LatencyGroups, NamespacesUnknown, Request, Stream};
use super::namespace_names::name_all;
use super::owner_resolver::{OwnerResolver, proc_thread};
use super::socket_scan::{ScanRequest, ScansBefore};
use super::stacks::{self, Stacks};
use crate::clock;
use crate::input::listener::Listener;
use crate::input::namespace::NamespaceNames;
use crate::input::needs::Needs;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::Owner;
use crate::input::socket_scan::SocketScan;
use crate::input::{EndCounts, Input, Loss, Record, Session, Transition};
use crate::model::filter::Filter;
use crate::model::input_filter::Asks;
use crate::sys::caps;
use crate::sys::cgroup::Hierarchy;
use crate::sys::netns::{self, Namespace};

/// Records to read in one batch: enough to make the cost of a batch small, and few enough to stay in the CPU cache.
const BATCH: usize = 1024;
/// The path of this program, also when its file was deleted.
const OURSELVES: &str = "/proc/self/exe";

/// What to watch and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Selects connections.
    pub filter: Filter,
    /// Selects network namespaces.
    pub netns: NetnsSelector,
    /// Selects the hook.
    pub hook: Choice,
    /// Size of the ring buffer of records, bytes.
    pub ring_bytes: u32,
}

/// Why [`Live::ready`] returned.
pub enum Ready {
    /// Records are ready.
    Records,
    /// A scan of stuck sockets ended; pass the result to [`Live::end_scan`].
    Scan(Box<(SocketScan, ScansBefore)>),
}

/// The BPF programs, and everything else that is read from the kernel.
pub struct Live {
    kernel: Kernel,
    needs: Needs,
    filter: Filter,
    counts: Option<IntervalReader>,
    stream: Option<Stream>,
    owners: Option<OwnerResolver>,
    scans: Option<StuckScans>,
    is_detached: bool,
    awaited: Option<AwaitedProcess>,
    /// The names of several namespaces, until they are emitted.
    names: Option<NamespaceNames>,
    /// Namespaces of `--netns` that nothing else here keeps open: the kernel gives the number of one that is gone to the next.
    _namespaces: Vec<Namespace>,
    /// Finds the owners of preexisting listeners, until the kernel side has them.
    seeding: Option<Seeding>,
}

impl Live {
    /// Loads and attaches the BPF programs for `needs`, and opens all other readers. Needs a tokio runtime. Once the programs are loaded,
    /// each thread that goes on tells `keep` the capabilities that it needs.
    ///
    /// # Errors
    /// One line: what is not possible, why, and what to try.
    pub fn start(options: &Options, needs: Needs, keep: fn(CapabilitySet)) -> Result<Self> {
        let filter = options.filter.clone();
        let root = Path::new("/");
        // A mount of the hierarchy needs privileges that the thread may not have.
        let hierarchy = needs.owners().then(|| Hierarchy::open(root)).flatten();
        let proc = Arc::new(proc_thread(root, hierarchy));
        let awaited = AwaitedProcess::find(&filter.owner, &proc)?;
        let request = scan_request(options, needs);
        let scans = request.map(|request| StuckScans::start(request, Arc::clone(&proc)));
        let mut scans = scans.transpose()?;
        let Attached {
            mut kernel,
            netns,
            namespaces,
        } = attach(
            options,
            KernelNeeds {
                namespaces: needs.reads_counts(),
                latency: needs.latency.map(|by| LatencyGroups::new(by, !filter.owner.is_any())),
                ..needs.into()
            },
        )?;
        let stream = needs.records().then(|| kernel.stream()).transpose()?;
        let seeds = needs.seeds_listeners();
        let seeding = seeds.then(|| Seeding::start(&namespaces, Arc::clone(&proc)));
        let names = (netns == NetnsSelector::All).then(|| name_all(root, &namespaces));
        let (mut counts, mut held) = (None, Vec::new());
        if needs.reads_counts() {
            let (netns, proc) = (netns.clone(), Arc::clone(&proc));
            let sockets = filter.of_sockets();
            counts = Some(IntervalReader::start(&mut kernel, sockets, netns, namespaces, proc)?);
        } else if netns != NetnsSelector::All {
            held = namespaces;
        }
        let shows_stacks = needs.stuck.is_some_and(|stuck| stuck.stacks);
        let kept = caps::of_run(netns != NetnsSelector::Own, shows_stacks);
        keep(kept);
        if proc.has_thread() {
            // Where it is refused, the thread hangs and reads nothing.
            let _ = proc.post(move |_| keep(kept));
        }
        if let Some(scans) = &mut scans {
            let stacks = shows_stacks
                .then(|| Stacks::follow(kernel.stacks()?, Path::new(OURSELVES)))
                .transpose()?;
            scans.watch(netns, stacks);
        }
        let owners = needs.owners().then(|| OwnerResolver::new(proc));
        Ok(Self {
            kernel,
            needs,
            filter,
            counts,
            stream,
            owners,
            scans,
            is_detached: false,
            awaited,
            names,
            _namespaces: held,
            seeding,
        })
    }

    /// Whether no process that the filter selects was there at the start, nor is now. Waits for /proc.
    #[must_use]
    pub fn misses_process(&self) -> bool {
        self.awaited.as_ref().is_some_and(AwaitedProcess::is_missing)
    }

    /// Whether the scan that finds the owners of preexisting listeners is still running.
    pub fn is_seeding(&mut self) -> bool {
        self.advance_seeding();
        self.seeding.as_ref().is_some_and(Seeding::is_reading)
    }

    /// The facts that are known at the start of the run.
    #[must_use]
    pub fn session(&self) -> Session {
        Session {
            monotonic_ns: clock::monotonic_ns(),
            reasons: self.kernel.reasons().clone(),
            missed_resets: self.kernel.missed_resets(),
            knows_namespaces: self.kernel.knows_namespaces(),
            watches: true,
        }
    }

    /// The BPF programs.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Whether counters are read at the end of each interval.
    #[must_use]
    pub fn has_counts(&self) -> bool {
        self.counts.is_some()
    }

    /// Whether there are records to read.
    #[must_use]
    pub fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether something must be read between the ends of intervals.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.stream.is_some() || self.seeding.is_some()
    }

    /// Waits until a scan of stuck sockets ends, an owner lookup is answered, or a part of the ring buffer is filled. The kernel
    /// side does not wake the reader for fewer records, so read the stream on a timer too.
    ///
    /// # Errors
    /// The poll fails, or the sockets or processes cannot be read.
    pub async fn ready(&mut self) -> Result<Ready> {
        let Self {
            stream, scans, owners, ..
        } = self;
        let scanned = async {
            match scans {
                Some(scans) => scans.over().await,
                None => pending().await,
            }
        };
        let filled = async {
            match stream {
                Some(stream) => stream.filled().await,
                None => pending().await,
            }
        };
        let answered = async {
            match owners {
                Some(owners) => owners.answered().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            found = scanned => Ok(Ready::Scan(Box::new(found?))),
            filled = filled => { filled?; Ok(Ready::Records) }
            () = answered => Ok(Ready::Records),
        }
    }

    /// Reads a batch of records, and the results of owner lookups. Returns whether there may be more records.
    pub fn read_stream(&mut self, each: &mut dyn FnMut(Input)) -> bool {
        self.advance_seeding();
        // Where the stream is read to its end below, all records made until now are known then.
        let before = tick();
        let Self {
            kernel,
            needs,
            stream,
            owners,
            scans,
            filter,
            ..
        } = self;
        let mut taken = 0;
        if let Some(stream) = stream {
            let asks = Asks::new(*needs, &filter.owner);
            taken = stream.drain(BATCH, |record| match record {
                Record::Transition(event) => {
                    if let Some(owners) = owners {
                        ask(asks, &event, None, owners);
                    }
                    if let Some(scans) = scans {
                        scans.transition(&event);
                    }
                    each(Input::Transition(event));
                }
                Record::Connection(life) => {
                    if let Some(owners) = owners {
                        ask(asks, &life.last, life.closer, owners);
                    }
                    each(Input::Connection(life));
                }
                Record::Amendment(id, evidence) => each(Input::CloseAmended { id, evidence }),
            });
            let loss = Loss {
                lost: kernel.lost() + stream.undecoded(),
                missed_resets: kernel.missed_resets(),
                unknown_owners: 0,
                emptied: taken < BATCH,
            };
            if let Some(owners) = owners {
                owners.exchange(each);
            }
            each(Input::Loss(loss));
        } else if let Some(owners) = owners {
            owners.exchange(each);
        }
        kernel.flush_log();
        each(before);
        taken == BATCH
    }

    /// Walks the ephemeral ports. This can take some time.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn walk_ports(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        // Under a filter, what is opened does not show when the ports run out.
        if self.needs.churn.is_some()
            && self.filter.is_any_socket()
            && let Some(counts) = &mut self.counts
        {
            counts.ports(each)?;
        }
        Ok(())
    }

    /// Reads everything that is read at the end of an interval.
    ///
    /// # Errors
    /// A file or map that could be read before cannot be read now.
    pub fn end_interval(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        self.kernel.flush_log();
        if let Some(names) = self.names.take() {
            each(Input::NamespaceNames(names));
        }
        if let Some(counts) = &mut self.counts {
            let owners = &mut self.owners;
            counts.sample(&mut self.kernel, self.needs.churn.is_some(), &mut |input| {
                if let (Input::ListenerDrops(listeners), Some(owners)) = (&input, owners.as_mut()) {
                    let inodes = listeners.iter().filter_map(Listener::asks_owner);
                    inodes.for_each(|inode| owners.ask_listener(inode));
                }
                each(input);
            })?;
        } else {
            each(tick());
        }
        if !self.is_detached {
            self.begin_scan(each);
        }
        self.read_latency(each)?;
        each(Input::IntervalEnd);
        if let Some(owners) = &mut self.owners {
            owners.exchange(each);
        }
        Ok(())
    }

    /// Whether times are measured, and must be read every second.
    #[must_use]
    pub fn measures_latency(&self) -> bool {
        self.needs.latency.is_some()
    }

    /// Reads the times measured since the last call.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn read_latency(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        let Some(sample) = self.kernel.latency()? else {
            return Ok(());
        };
        if let Some(owners) = &mut self.owners
            && Asks::new(self.needs, &self.filter.owner).cgroups
        {
            let now = clock::unix_ns();
            let measured = sample.measured.iter().filter_map(|measured| measured.owner);
            measured.for_each(|owner| owners.ask_cgroup(owner, now));
        }
        each(Input::Latency(Box::new(sample)));
        if let Some(owners) = &mut self.owners {
            owners.exchange(each);
        }
        Ok(())
    }

    /// Detaches the hook, and waits for running programs. After that the counts and the records are complete.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<EndCounts> {
        self.kernel.detach()?;
        self.is_detached = true;
        if let (Some(counts), Some(_)) = (&mut self.counts, &self.stream) {
            counts.detached()?;
        }
        let ledger = self.kernel.settled_ledger();
        Ok(EndCounts {
            moves: ledger.moves,
            lost: ledger.lost + self.stream.as_ref().map_or(0, Stream::undecoded),
            missed: self.kernel.missed(),
            dropped: 0,
            unmatched: 0,
        })
    }

    /// Whether stuck sockets are scanned.
    #[must_use]
    pub fn scans_stuck(&self) -> bool {
        self.scans.is_some()
    }

    /// Whether nothing else is needed.
    #[must_use]
    pub fn only_scans_stuck(&self) -> bool {
        self.needs.only_stuck()
    }

    /// Whether a scan of stuck sockets is under way.
    #[must_use]
    pub fn is_scanning(&self) -> bool {
        self.scans.as_ref().is_some_and(StuckScans::is_scanning)
    }

    /// Emits the result of a scan. After the first scan it starts the second one at once. Call this after reading all records,
    /// because a socket may have left its state during the scan. Returns whether later scans are compared with this one.
    pub fn end_scan(&mut self, found: (SocketScan, ScansBefore), each: &mut dyn FnMut(Input)) -> bool {
        let Some(scans) = &mut self.scans else { return false };
        let scan = Box::new(scans.take(found));
        let missed = self.kernel.missed();
        each(tick());
        each(Input::SocketScan { scan, missed });
        if scans.is_first() {
            scans.begin(each);
        }
        scans.is_base()
    }

    /// Starts a scan of stuck sockets, if scans are needed and none is running.
    pub fn begin_scan(&mut self, each: &mut dyn FnMut(Input)) {
        if let Some(scans) = &mut self.scans {
            scans.begin(each);
        }
    }

    /// Whether a scan of stuck sockets is complete but for the names of its stacks.
    #[must_use]
    pub fn is_naming(&self) -> bool {
        self.scans.as_ref().is_some_and(StuckScans::is_naming)
    }

    /// Takes the result of a scan of stuck sockets that is complete but for the names of its stacks.
    pub fn unnamed_scan(&mut self) -> Option<(SocketScan, ScansBefore)> {
        self.scans.as_mut().and_then(StuckScans::found)
    }

    /// Whether lookups of owners are not answered yet.
    #[must_use]
    pub fn awaits_answers(&self) -> bool {
        self.owners.as_ref().is_some_and(OwnerResolver::is_waiting)
    }

    /// Stops waiting for answers. Owners that are not known now stay unknown.
    pub fn stop_waiting(&mut self, each: &mut dyn FnMut(Input)) {
        if let Some(owners) = &mut self.owners {
            owners.stop(each);
        }
    }

    /// Warns on stderr, at the end, about facts that are unknown because a map or buffer was full.
    pub fn warn_of_no_room(&self) {
        if !self.needs.owners() {
            return;
        }
        for words in no_room(&self.kernel.ledger(), self.kernel.hook()) {
            log::warn!("{words}");
        }
        let unknown = self.kernel.lost_stacks() + self.scans.as_ref().map_or(0, StuckScans::evicted);
        if unknown > 0 {
            log::warn!("the stacks of {unknown} connections are missing: there was no room for them");
        }
    }

    /// Gives the kernel side the owners of preexisting listeners, once they are known.
    fn advance_seeding(&mut self) {
        if self
            .seeding
            .as_mut()
            .is_some_and(|seeding| seeding.advance(&mut self.kernel))
        {
            self.seeding = None;
        }
    }
}

/// Runs one scan of stuck sockets, without BPF programs, and emits it as inputs.
///
/// # Errors
/// The sockets or processes cannot be read.
pub fn scan_once(options: &Options, needs: Needs, each: &mut dyn FnMut(Input)) -> Result<()> {
    each(Input::Session(Box::default()));
    if let Some(request) = scan_request(options, needs) {
        let (scan, _) = request.scan(&ScansBefore::default(), None)?;
        each(tick());
        each(Input::SocketScan {
            scan: Box::new(scan),
            missed: None,
        });
    }
    Ok(())
}

fn scan_request(options: &Options, needs: Needs) -> Option<ScanRequest> {
    let stuck = needs.stuck?;
    Some(ScanRequest {
        netns: options.netns.clone(),
        filter: Filter {
            states: stuck.states,
            ..options.filter.clone()
        },
        older_ns: stuck.older_ns,
        open: stuck.stacks,
    })
}

fn tick() -> Input {
    Input::Tick {
        time: clock::now(),
        monotonic_ns: clock::monotonic_ns(),
    }
}

/// Asks `owners` for the cgroups of the processes that `event` and its connection's `closer` name, and for the owner if it is unknown.
fn ask(asks: Asks, event: &Transition, closer: Option<Owner>, owners: &mut OwnerResolver) {
    if asks.cgroups {
        for owner in event.owner.into_iter().chain(closer) {
            owners.ask_cgroup(owner, event.unix_ns);
        }
    }
    if asks.holders {
        owners.ask_holder(event);
    }
}

/// The attached BPF programs, and the watched namespaces.
struct Attached {
    kernel: Kernel,
    netns: NetnsSelector,
    namespaces: Vec<Namespace>,
}

/// Loads and attaches the BPF programs.
fn attach(options: &Options, needs: KernelNeeds) -> Result<Attached> {
    let mut scope = (options.netns.clone(), Vec::new());
    let mut attached = |hook, netns: &NetnsSelector| {
        let namespaces = netns::resolve(Path::new("/"), netns)?;
        let inode = match namespaces.as_slice() {
            [one] if *netns != NetnsSelector::All => one.inode,
            _ => 0,
        };
        scope = (netns.clone(), namespaces);
        Kernel::attached(
            &Request {
                object: ebpf::object::EMBEDDED,
                filter: &options.filter.for_kernel(inode).map_err(anyhow::Error::msg)?,
                ports: &options.filter.port_words(),
                needs: KernelNeeds {
                    namespaces: needs.namespaces && *netns == NetnsSelector::All,
                    ..needs
                },
                ring_bytes: options.ring_bytes,
                stacks_ring_bytes: stacks::RING_BYTES,
            },
            hook,
        )
    };
    let kernel = ebpf::open(options.hook, |hook| match attached(hook, &options.netns) {
        Err(why) if options.netns == NetnsSelector::Own && why.is::<NamespacesUnknown>() => {
            attached(hook, &NetnsSelector::All)
        }
        kernel => kernel,
    })?;
    for words in kernel.unknown() {
        log::warn!("{words}");
    }
    let (netns, namespaces) = scope;
    if netns != options.netns {
        let _ = writeln!(
            io::stderr(),
            "tcpwatch: watching all network namespaces: without usable BTF the classic hook cannot distinguish them"
        );
    }
    Ok(Attached {
        kernel,
        netns,
        namespaces,
    })
}
