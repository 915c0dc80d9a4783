//! The running kernel: what it sends, and what is read beside it, as inputs.

mod host_counters;
mod interval_reader;
mod listener_drops;
mod no_room;
mod state_counter;
mod stuck_scans;

use std::future::pending;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use hashbrown::HashSet;

use self::interval_reader::IntervalReader;
use self::no_room::no_room;
use self::stuck_scans::StuckScans;
use super::ebpf::{self, Choice, Kernel, KernelNeeds, NamespacesUnknown, Request, Stream};
use super::namespace::PreexistingListeners;
use super::owner_resolver::OwnerResolver;
use super::socket_scan::{ScanRequest, ScansBefore};
use super::stacks::{self, Stacks};
use crate::clock;
use crate::input::needs::Needs;
use crate::input::netns_selector::NetnsSelector;
use crate::input::owner::Owner;
use crate::input::socket_owner::Unseen;
use crate::input::socket_scan::SocketScan;
use crate::input::{EndCounts, Event, Input, Loss, Record, Session};
use crate::model::filter::Filter;
use crate::model::unseen;
use crate::sys::netns::{self, Namespace};

/// Records taken before other things are seen to: enough that asking for them costs little, and so few that they stay in the cache.
const BATCH: usize = 1024;

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The connections.
    pub filter: Filter,
    /// The network namespaces.
    pub netns: NetnsSelector,
    /// The hook.
    pub hook: Choice,
    /// Bytes of the ring buffer of records.
    pub ring_bytes: u32,
}

/// What there is to take from the source.
pub enum Ready {
    /// Records.
    Records,
    /// What a scan of stuck sockets found, for [`Live::end_scan`].
    Scan(Box<(SocketScan, ScansBefore)>),
}

/// The kernel side, and what is read beside it.
pub struct Live {
    kernel: Kernel,
    needs: Needs,
    filter: Filter,
    counts: Option<IntervalReader>,
    stream: Option<Stream>,
    owners: Option<OwnerResolver>,
    scans: Option<StuckScans>,
    is_detached: bool,
    /// Sockets that listened before, until the kernel side is told whose they are.
    listeners: Option<Result<PreexistingListeners>>,
}

impl Live {
    /// Loads and attaches the kernel side, with what `needs` takes, and opens what is read beside it. Within a tokio runtime.
    ///
    /// # Errors
    /// One line: what cannot be had, why, and what to type.
    pub fn start(options: &Options, needs: Needs) -> Result<Self> {
        let filter = options.filter.clone();
        let request = scan_request(options, needs, false);
        let mut scans = request.map(StuckScans::start).transpose()?;
        let Attached {
            mut kernel,
            netns,
            namespaces,
        } = attach(options, needs.into())?;
        let stream = needs.records().then(|| kernel.stream()).transpose()?;
        // What cannot be read is said now, and not after the first interval.
        needs.latency.map(|by| kernel.latency(by)).transpose()?;
        let (mut owners, mut listeners) = (None, None);
        if needs.owners() {
            let mut resolver = OwnerResolver::new(Path::new("/"));
            if needs.seeds_listeners() {
                listeners = Some(PreexistingListeners::find(&namespaces));
                // Also where nobody listens: who holds what is open is known then, and may not be when it is closed.
                resolver.scan();
            }
            owners = Some(resolver);
        }
        if let Some(scans) = &mut scans {
            let stacks = needs.stuck.filter(|stuck| stuck.stacks);
            let stacks = stacks.map(|_| Stacks::follow(kernel.stacks()?)).transpose()?;
            scans.watch(netns.clone(), stacks);
        }
        let counts = if needs.reads_counts() {
            Some(IntervalReader::start(&mut kernel, &filter, netns, namespaces)?)
        } else {
            None
        };
        Ok(Self {
            kernel,
            needs,
            filter,
            counts,
            stream,
            owners,
            scans,
            is_detached: false,
            listeners,
        })
    }

    /// Whether a scan is under way by which the kernel side will know the owners of the sockets that listen already.
    pub fn is_seeding(&mut self) -> bool {
        self.catch_up();
        self.listeners.is_some() && self.owners.as_ref().is_some_and(OwnerResolver::is_scanning)
    }

    /// What is known when the run starts.
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

    /// The kernel side.
    #[must_use]
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Whether counters are read at the ends of intervals.
    #[must_use]
    pub fn has_counts(&self) -> bool {
        self.counts.is_some()
    }

    /// Whether there are records to read.
    #[must_use]
    pub fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether there is something to read between the ends of intervals.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.stream.is_some() || self.listeners.is_some()
    }

    /// Waits until a scan of stuck sockets is over, or the kernel side says that a share of the ring is filled. It does not say so for
    /// less: read the stream on a timer as well.
    ///
    /// # Errors
    /// The poll fails, or sockets or processes cannot be read.
    pub async fn ready(&mut self) -> Result<Ready> {
        let Self { stream, scans, .. } = self;
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
        tokio::select! {
            biased;
            found = scanned => Ok(Ready::Scan(Box::new(found?))),
            filled = filled => { filled?; Ok(Ready::Records) }
        }
    }

    /// Reads a batch of records, and the answers to those that asked who holds their sockets; whether there may be more.
    pub fn read_stream(&mut self, each: &mut dyn FnMut(Input)) -> bool {
        self.catch_up();
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
            let asks = Asks {
                holders: needs.rows(),
                cgroups: needs.rows() || needs.stuck.is_some() && !filter.owner.cgroups.is_empty(),
            };
            let owners = owners.as_mut().filter(|_| asks.holders || asks.cgroups);
            let mut rows = owners.map(|owners| RowOwners::new(owners, asks));
            taken = stream.drain(BATCH, |record| match record {
                Record::Transition(event) => {
                    if let Some(rows) = &mut rows {
                        rows.ask(&event, None, each);
                    }
                    if let Some(scans) = scans {
                        scans.transition(&event);
                    }
                    each(Input::Transition(event));
                }
                Record::Connection(life) => {
                    if let Some(rows) = &mut rows {
                        rows.ask(&life.last, life.closer, each);
                    }
                    each(Input::Connection(life));
                }
                Record::Amendment(id, evidence) => each(Input::CloseAmended { id, evidence }),
            });
            if let Some(rows) = &mut rows {
                rows.answers(each);
            }
            each(Input::Loss(Loss {
                lost: kernel.lost() + stream.undecoded(),
                missed_resets: kernel.missed_resets(),
                emptied: taken < BATCH,
            }));
        }
        kernel.flush_log();
        each(tick());
        taken == BATCH
    }

    /// Walks the ephemeral ports, which may take a while.
    ///
    /// # Errors
    /// The sockets cannot be read.
    pub fn walk_ports(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        if self.needs.churn
            && let Some(counts) = &mut self.counts
            && let Some(ports) = counts.ports(&self.filter)?
        {
            each(Input::Ports(Box::new(ports)));
        }
        Ok(())
    }

    /// Reads all that is read at the end of an interval.
    ///
    /// # Errors
    /// Something that could be read before cannot be read now.
    pub fn end_interval(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        self.kernel.flush_log();
        if let Some(counts) = &mut self.counts {
            counts.sample(&mut self.kernel, &self.filter, self.needs.churn, each)?;
        } else {
            each(tick());
        }
        if !self.is_detached {
            self.begin_scan(each);
        }
        if let Some(by) = self.needs.latency {
            each(Input::Latency(Box::new(self.kernel.latency(by)?)));
        }
        each(Input::IntervalEnd);
        Ok(())
    }

    /// Detaches the hook, and waits for the runs that are under way: all that will ever be counted and sent has been.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&mut self) -> Result<EndCounts> {
        self.kernel.detach()?;
        self.is_detached = true;
        let ledger = self.kernel.settled_ledger();
        if let Some(counts) = &mut self.counts {
            counts.detached();
        }
        Ok(EndCounts {
            moves: ledger.moves,
            lost: ledger.lost + self.stream.as_ref().map_or(0, Stream::undecoded),
            missed: self.kernel.missed(),
            dropped: 0,
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

    /// Takes what a scan found, and begins the second at once after the first. To be called after the records that there were have been
    /// read: a socket that left meanwhile is not there any more. Returns whether later scans are compared with this one.
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

    /// Begins a scan of stuck sockets, if scans are needed and none is running.
    pub fn begin_scan(&mut self, each: &mut dyn FnMut(Input)) {
        if let Some(scans) = &mut self.scans {
            scans.begin(each);
        }
    }

    /// Waits for a scan no longer than it may take.
    ///
    /// # Errors
    /// No scan can do without what takes too long.
    pub fn give_up_in_time(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        match &mut self.scans {
            Some(scans) => scans.give_up_in_time(each),
            None => Ok(()),
        }
    }

    /// Whether records wait for an answer that a scan may give.
    #[must_use]
    pub fn has_lookups(&self) -> bool {
        self.owners.as_ref().is_some_and(OwnerResolver::has_lookups)
    }

    /// Waits for no scan any more: what is not known by now is unknown.
    pub fn stop_lookups(&mut self) {
        if let Some(owners) = &mut self.owners {
            owners.stop_scanning();
        }
    }

    /// Says on stderr, at the end, what is unknown because the kernel had no room for it.
    pub fn warn_of_no_room(&self) {
        if !self.needs.owners() {
            return;
        }
        for words in no_room(&self.kernel.ledger(), self.kernel.hook()) {
            log::warn!("{words}");
        }
        let unknown = self.kernel.lost_stacks() + self.scans.as_ref().map_or(0, StuckScans::evicted);
        if unknown > 0 {
            log::warn!("where {unknown} connections were opened is unknown: there was no room for their stacks");
        }
    }

    /// Takes what a scan found, and tells the kernel side who listens already.
    fn catch_up(&mut self) {
        let Some(owners) = &mut self.owners else { return };
        owners.catch_up();
        if owners.is_scanning() || self.listeners.is_none() {
            return;
        }
        if owners.owners().is_err() {
            // It failed, or took too long, and said so.
            owners.scan_if_due();
            return;
        }
        if let Some(listeners) = self.listeners.take() {
            warn_of_listeners(&listeners.and_then(|listeners| listeners.seed(&mut self.kernel, owners.owners()?)));
        }
    }
}

/// One scan of stuck sockets, for which nothing need be loaded, as inputs.
///
/// # Errors
/// Sockets or processes cannot be read, or no process is one that was asked for.
pub fn scan_once(options: &Options, needs: Needs, each: &mut dyn FnMut(Input)) -> Result<()> {
    each(Input::Session(Box::default()));
    if let Some(request) = scan_request(options, needs, true) {
        let (look, _) = request.scan(&ScansBefore::default(), true)?;
        each(tick());
        each(Input::SocketScan {
            scan: Box::new(look),
            missed: None,
        });
    }
    Ok(())
}

fn scan_request(options: &Options, needs: Needs, must_match: bool) -> Option<ScanRequest> {
    let stuck = needs.stuck?;
    Some(ScanRequest {
        netns: options.netns.clone(),
        filter: options.filter.clone(),
        older_ns: stuck.older_ns,
        must_match,
        open: stuck.stacks,
    })
}

fn tick() -> Input {
    Input::Tick {
        time: clock::now(),
        monotonic_ns: clock::monotonic_ns(),
    }
}

/// What is to be found in /proc about records.
#[derive(Clone, Copy)]
struct Asks {
    /// Who holds the sockets whose owners nobody saw.
    holders: bool,
    /// The cgroups of owners.
    cgroups: bool,
}

/// What a batch of records asks of /proc.
struct RowOwners<'a> {
    resolver: &'a mut OwnerResolver,
    asks: Asks,
    /// The processes whose cgroups were sent with this batch.
    sent: HashSet<Owner>,
}

impl<'a> RowOwners<'a> {
    fn new(resolver: &'a mut OwnerResolver, asks: Asks) -> Self {
        Self {
            resolver,
            asks,
            sent: HashSet::new(),
        }
    }

    /// Sends the cgroups of the processes that `event` and its connection's `closer` name, and looks up the owner where it is unknown.
    fn ask(&mut self, event: &Event, closer: Option<Owner>, each: &mut dyn FnMut(Input)) {
        for owner in event.owner.into_iter().chain(closer) {
            self.cgroup(owner, event.unix_ns, each);
        }
        if self.asks.holders {
            self.resolver.look_up(event);
        }
    }

    /// Sends the answers that there are by now.
    fn answers(&mut self, each: &mut dyn FnMut(Input)) {
        let mut answers = Vec::new();
        self.resolver.answers(|inode, owner| answers.push((inode, owner)));
        for (inode, owner) in answers {
            if let Some(owner) = owner {
                self.cgroup(owner, clock::unix_ns(), each);
            }
            each(Input::SocketOwner { inode, owner });
        }
    }

    /// Sends the cgroup of `owner`, who had a connection at `unix_ns`.
    fn cgroup(&mut self, owner: Owner, unix_ns: i64, each: &mut dyn FnMut(Input)) {
        if self.asks.cgroups && self.sent.insert(owner) {
            let cgroup = self.resolver.cgroup(&owner, unix_ns);
            each(Input::CgroupPath { owner, cgroup });
        }
    }
}

/// The kernel side, and the namespaces that it looks at.
struct Attached {
    kernel: Kernel,
    netns: NetnsSelector,
    namespaces: Vec<Namespace>,
}

/// Loads and attaches the kernel side.
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
                needs,
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
            "tcpwatch: looking at all network namespaces: without usable BTF the classic hook cannot tell them apart"
        );
    }
    Ok(Attached {
        kernel,
        netns,
        namespaces,
    })
}

/// Says on stderr which of the owners of the sockets that listen already could not be `told`, and why.
fn warn_of_listeners(told: &Result<Unseen>) {
    match told.as_ref().map(unseen::unseen_warning) {
        Ok(None) => {}
        Ok(Some(words)) => log::warn!("{words}"),
        Err(why) => log::warn!("the owners of the sockets that listen already are unknown: {why:#}"),
    }
}
