//! Scans of the sockets that should pass, one after another, each on a thread of its own: there are records to read meanwhile.

use std::cmp::Reverse;
use std::future::pending;
use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use hashbrown::{HashMap, HashSet};
use tcpwatch_common::TcpState;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::input::netns_selector::NetnsSelector;
use crate::input::socket_scan::SocketScan;
use crate::input::stacks::StackId;
use crate::input::{Event, Input};
use crate::model::ending;
use crate::model::leaks::states;
use crate::source::socket_scan::{ScanRequest, ScansBefore};
use crate::source::stacks::Stacks;
use crate::sys::threads;

/// A scan is waited for this long: what /proc says of one process may wait for that process, and then for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a scan that took longer, /proc is left alone for this long.
const WITHOUT_PROC: Duration = Duration::from_mins(1);
/// Stacks named for a scan at most: to name one that was never met takes milliseconds.
const STACKS_MAX: usize = 256;

type Scanned = Result<(SocketScan, ScansBefore)>;

/// What is scanned, and what the scans before found.
pub(super) struct StuckScans {
    request: ScanRequest,
    before: ScansBefore,
    running: Option<Running>,
    /// Where connections are opened, if that is wanted.
    stacks: Option<Stacks>,
    /// Sockets that the kernel ended since the last scan began, by their inode numbers.
    ended: HashSet<NonZeroU32>,
    /// Scans that were over.
    scans: u64,
    /// When /proc may be read again.
    proc_again: Option<Instant>,
    /// A scan that took too long: /proc is not read before it is over, for its thread may be stuck there for ever.
    hung: Option<oneshot::Receiver<Scanned>>,
    /// Whether there was no thread for a scan, and a warning has said so.
    was_impossible: bool,
}

/// A scan under way.
struct Running {
    over: oneshot::Receiver<Scanned>,
    netns: NetnsSelector,
    until: Instant,
}

impl StuckScans {
    /// Begins the first scan: somebody waits for it, and to read /proc takes as long as to load the kernel side.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub(super) fn start(request: ScanRequest) -> Result<Self> {
        let mut scans = Self {
            request,
            before: ScansBefore::default(),
            running: None,
            stacks: None,
            ended: HashSet::new(),
            scans: 0,
            proc_again: None,
            hung: None,
            was_impossible: false,
        };
        scans.spawn()?;
        Ok(scans)
    }

    /// The network namespaces to scan from the next scan on, where it turned out that others are watched.
    pub(super) fn watch(&mut self, netns: NetnsSelector, stacks: Option<Stacks>) {
        if self.request.netns != netns {
            self.request.netns = netns;
            self.before = ScansBefore::default();
        }
        self.stacks = stacks;
    }

    /// Whether a scan is under way.
    pub(super) fn is_scanning(&self) -> bool {
        self.running.is_some()
    }

    /// Whether only the first scan is over.
    pub(super) fn is_first(&self) -> bool {
        self.scans == 1
    }

    /// Whether the last scan that was over is what later ones are compared with: the first was under way before transitions were
    /// read.
    pub(super) fn is_base(&self) -> bool {
        self.scans == 2
    }

    /// Begins a scan unless one is under way, and says so to `each`; where there can be no thread, the next call tries again.
    pub(super) fn begin(&mut self, each: &mut dyn FnMut(Input)) {
        if self.running.is_some() {
            return;
        }
        match self.spawn() {
            Ok(()) => each(Input::ScanStart {
                is_base: self.scans == 1,
            }),
            Err(why) => {
                if !self.was_impossible {
                    log::warn!("cannot scan the sockets, and tries again: {why:#}");
                }
                self.was_impossible = true;
            }
        }
    }

    fn spawn(&mut self) -> Result<()> {
        for inode in self.ended.drain() {
            self.before.ended(inode);
        }
        let (request, before) = (self.request.clone(), self.before.clone());
        self.hung
            .take_if(|hung| !matches!(hung.try_recv(), Err(TryRecvError::Empty)));
        let reads_proc = self.hung.is_none() && self.proc_again.is_none_or(|again| Instant::now() >= again);
        let netns = self.request.netns.clone();
        let (tell, over) = oneshot::channel();
        threads::spawn("scan", move || {
            let _ = tell.send(request.scan(&before, reads_proc));
        })?;
        self.running = Some(Running {
            over,
            netns,
            until: Instant::now() + PATIENCE,
        });
        Ok(())
    }

    /// Waits for the scan under way.
    pub(super) async fn over(&mut self) -> Scanned {
        match &mut self.running {
            Some(running) => {
                let found = (&mut running.over).await;
                let is_of_others = running.netns != self.request.netns;
                self.running = None;
                let (look, before) = found.map_err(|_| anyhow!("the thread that scans the sockets died"))??;
                Ok((look, if is_of_others { ScansBefore::default() } else { before }))
            }
            None => pending().await,
        }
    }

    /// Takes what a scan found.
    pub(super) fn take(&mut self, (mut look, before): (SocketScan, ScansBefore)) -> SocketScan {
        self.scans += 1;
        self.before = before;
        if let Some(stacks) = &self.stacks {
            name(stacks, &self.before, &self.ended, self.request.older_ns, &mut look);
        }
        look
    }

    /// Waits for a scan no longer than it may take: the next does without /proc.
    ///
    /// # Errors
    /// It cannot do without, for owners are asked for.
    pub(super) fn give_up_in_time(&mut self, each: &mut dyn FnMut(Input)) -> Result<()> {
        if let Some(scan) = self.running.take_if(|scan| Instant::now() >= scan.until) {
            self.hung = Some(scan.over);
            if !self.request.filter.owner.is_any() {
                bail!("reading /proc takes more than 10 s: leave out --pid, --comm and --cgroup");
            }
            log::warn!("reading /proc takes more than 10 s: the owners of sockets are unknown for the next minute");
            self.proc_again = Some(Instant::now() + WITHOUT_PROC);
            self.begin(each);
        }
        Ok(())
    }

    /// Notes the socket of `event`, if the kernel ended it in a state that should pass: its descriptor may be open still.
    pub(super) fn transition(&mut self, event: &Event) {
        if event.to == TcpState::Close
            && states().contains(event.from)
            && let (Some(inode), Some(evidence)) = (event.inode, event.evidence)
            && ending::leaves_descriptor(evidence) != Some(false)
            // Who shuts down, reads to the end and closes then, as is usual, passes FIN_WAIT2 quickly.
            && (event.from == TcpState::CloseWait || event.dwell_ns.is_none_or(|ns| ns >= self.request.older_ns))
            && self.ended.len() < ScansBefore::MOST
        {
            self.ended.insert(inode);
        }
    }

    /// Connections whose stacks had no room.
    pub(super) fn evicted(&self) -> u64 {
        self.stacks.as_ref().map_or(0, Stacks::evicted)
    }
}

/// Adds to `look` where the sockets were opened that may be stuck by what `before` knows, `older_ns` making them so, or that are held
/// although they ended; `ended` have ended since.
fn name(stacks: &Stacks, before: &ScansBefore, ended: &HashSet<NonZeroU32>, older_ns: u64, look: &mut SocketScan) {
    if let Some(open) = &look.open {
        // What the kernel ended is in no dump.
        let is_kept = |inode| before.has_ended(inode) || ended.contains(&inode);
        stacks.retain(look.started_ns, |inode| {
            open.contains(&inode) || NonZeroU32::new(inode).is_some_and(is_kept)
        });
    }
    let inodes = before
        .may_be_stuck(look.ended_ns, older_ns)
        .chain(look.held.keys().copied());
    let opened_at: HashMap<_, _> = inodes
        .filter_map(|inode| Some((inode, stacks.of(inode.get())?)))
        .collect();
    let mut counts: HashMap<StackId, u64> = HashMap::new();
    for id in opened_at.values() {
        *counts.entry(*id).or_default() += 1;
    }
    let mut ids: Vec<_> = counts.into_iter().collect();
    ids.sort_unstable_by_key(|&(id, sockets)| (Reverse(sockets), id));
    let named = ids.into_iter().take(STACKS_MAX);
    look.stacks = named.filter_map(|(id, _)| Some((id, stacks.symbolised(id)?))).collect();
    look.opened_at = Some(opened_at);
}
