//! Scans of the sockets that should pass, one after another, each on a thread of its own: there are records to read meanwhile.

use std::cmp::Reverse;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use hashbrown::{HashMap, HashSet};
use tcpwatch_common::TcpState;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::input::netns_selector::NetnsSelector;
use crate::input::socket_scan::SocketScan;
use crate::input::stacks::StackId;
use crate::input::{Input, Transition};
use crate::model::ending;
use crate::model::leaks::states;
use crate::source::owner_resolver::ProcThread;
use crate::source::socket_scan::{ScanRequest, ScansBefore};
use crate::source::stacks::Stacks;
use crate::sys::threads;

/// A scan waits this long at most for the names of its stacks: to read the symbols of a large program takes seconds.
const NAMING: Duration = Duration::from_secs(30);
/// Stacks named for a scan at most.
const STACKS_MAX: usize = 256;

type Scanned = Result<(SocketScan, ScansBefore)>;

/// What is scanned, and what the scans before found.
pub(super) struct StuckScans {
    request: ScanRequest,
    proc: Arc<ProcThread>,
    before: ScansBefore,
    running: Option<Running>,
    /// Where connections are opened, if that is wanted.
    stacks: Option<Stacks>,
    /// Sockets that the kernel ended since the last scan began, by their inode numbers. At most [`ScansBefore::MOST`]; further ones are
    /// left out, and the model counts them.
    ended: HashSet<NonZeroU32>,
    /// Scans that were over.
    scans: u64,
    /// Whether a scan failed, and a warning has said so.
    has_failed: bool,
}

/// A scan under way.
struct Running {
    over: oneshot::Receiver<Scanned>,
    netns: NetnsSelector,
    /// What was found, while its stacks are being named.
    found: Option<(SocketScan, ScansBefore)>,
    named: Option<oneshot::Receiver<()>>,
    /// When its stacks are waited for no longer.
    until: Instant,
}

impl StuckScans {
    /// Begins the first scan: somebody waits for it, and to read /proc takes as long as to load the kernel side.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub(super) fn start(request: ScanRequest, proc: Arc<ProcThread>) -> Result<Self> {
        let mut scans = Self {
            request,
            proc,
            before: ScansBefore::default(),
            running: None,
            stacks: None,
            ended: HashSet::new(),
            scans: 0,
            has_failed: false,
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

    /// Whether a scan is complete but for the names of its stacks.
    pub(super) fn is_naming(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.found.is_some())
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
                is_base: self.is_first(),
            }),
            Err(why) => self.failed(&why),
        }
    }

    fn failed(&mut self, why: &anyhow::Error) {
        if !std::mem::replace(&mut self.has_failed, true) {
            log::warn!("cannot scan the sockets, and tries again: {why:#}");
        }
    }

    fn spawn(&mut self) -> Result<()> {
        for inode in self.ended.drain() {
            self.before.ended(inode);
        }
        let (request, before, proc) = (self.request.clone(), self.before.clone(), Arc::clone(&self.proc));
        let netns = self.request.netns.clone();
        let (scan_sender, over) = oneshot::channel();
        threads::spawn("scan", move || {
            let _ = scan_sender.send(request.scan(&before, Some(&proc)));
        })?;
        self.running = Some(Running {
            over,
            netns,
            found: None,
            named: None,
            until: Instant::now(),
        });
        Ok(())
    }

    /// Waits for the scan under way, and for the names of its stacks.
    ///
    /// # Errors
    /// The first scan failed; a later one is tried again.
    pub(super) async fn over(&mut self) -> Scanned {
        loop {
            let Some(running) = &mut self.running else {
                return pending().await;
            };
            if running.found.is_none() {
                let found = (&mut running.over).await;
                match found.unwrap_or_else(|_| Err(anyhow!("the thread that scans the sockets died"))) {
                    Ok((mut scan, before)) => {
                        running.until = Instant::now() + NAMING;
                        running.named = self.stacks.as_ref().map(|stacks| {
                            let ids = opened_at(stacks, &before, self.request.older_ns, &mut scan);
                            stacks.name(&ids)
                        });
                        running.found = Some((scan, before));
                    }
                    Err(why) => {
                        self.running = None;
                        if self.scans == 0 {
                            return Err(why);
                        }
                        self.failed(&why);
                        continue;
                    }
                }
            }
            if let Some(named) = &mut running.named {
                // What has no name by then is shown without.
                let _ = timeout_at(running.until, named).await;
            }
            if let Some(found) = self.found() {
                return Ok(found);
            }
        }
    }

    /// Takes what the scan under way has found, with as many stacks as have names by now; `None` where it is not over.
    pub(super) fn found(&mut self) -> Option<(SocketScan, ScansBefore)> {
        let running = self.running.take_if(|running| running.found.is_some())?;
        let (mut scan, before) = running.found?;
        if let Some(stacks) = &self.stacks {
            scan.stacks = stacks.named();
        }
        let is_of_others = running.netns != self.request.netns;
        Some((scan, if is_of_others { ScansBefore::default() } else { before }))
    }

    /// Takes what a scan found.
    pub(super) fn take(&mut self, (mut scan, before): (SocketScan, ScansBefore)) -> SocketScan {
        self.scans += 1;
        self.has_failed = false;
        self.before = before;
        // Nobody else needs it, so it is not recorded either.
        let open = scan.open.take();
        if let (Some(stacks), Some(open)) = (&self.stacks, open) {
            // What the kernel ended is in no dump.
            let is_kept = |inode| self.before.has_ended(inode) || self.ended.contains(&inode);
            stacks.retain(scan.started_ns, |inode| {
                open.contains(&inode) || NonZeroU32::new(inode).is_some_and(is_kept)
            });
        }
        scan
    }

    /// Notes the socket of `event`, if the kernel ended it in a state that should pass: its descriptor may be open still.
    pub(super) fn transition(&mut self, event: &Transition) {
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
/// although they ended; the stacks to name, those of the most sockets first.
fn opened_at(stacks: &Stacks, before: &ScansBefore, older_ns: u64, scan: &mut SocketScan) -> Vec<StackId> {
    let inodes = before
        .may_be_stuck(scan.ended_ns, older_ns)
        .chain(scan.held.keys().copied());
    let opened_at: HashMap<_, _> = inodes
        .filter_map(|inode| Some((inode, stacks.opening_stack(inode.get())?)))
        .collect();
    let mut counts: HashMap<StackId, u64> = HashMap::new();
    for id in opened_at.values() {
        *counts.entry(*id).or_default() += 1;
    }
    let mut ids: Vec<_> = counts.into_iter().collect();
    ids.sort_unstable_by_key(|&(id, sockets)| (Reverse(sockets), id));
    scan.opened_at = Some(opened_at);
    ids.into_iter().take(STACKS_MAX).map(|(id, _)| id).collect()
}
