//! Writes a recording.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use super::base::Base;
use super::files::PieceRows;
use super::index::Header;
use super::output_dir::OutputDir;
use super::parts::{Kept, Parts};
use super::tables::Tables;
use crate::input::Input;
use crate::sys::{caps, threads};

/// How much time is lost at most where the process is killed: the rows of so long are written together.
const PIECE_NS: u64 = 1_000_000_000;

/// And so many rows of a table at most, so that a flood needs no more memory.
const PIECE_ROWS: usize = 1 << 16;

/// Pieces that wait to be written at most.
const WAITING: usize = 8;

/// How long the run, or its end, waits for a disk that takes nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether the disk took something.
const MOMENT: Duration = Duration::from_millis(1);

/// How many parts make up what is kept. One of them is removed at a time.
const PARTS: u64 = 8;

/// Records the inputs of a run.
///
/// What was written stays whole whatever happens: the index lists a piece only after all of it is in the files.
pub struct Recorder {
    tables: Tables,
    seq: u64,
    /// When the piece under way began, and the last tick, `CLOCK_MONOTONIC` in ns.
    since_ns: u64,
    now_ns: u64,
    /// How large the rows of the piece under way are: see [`weight`].
    weight: usize,
    work: Option<SyncSender<Work>>,
    writer: Option<JoinHandle<Result<()>>>,
    /// Bytes that the writer has written.
    written: Arc<AtomicU64>,
    dir: Arc<OutputDir>,
    /// Whether the run came to its end.
    is_whole: Arc<AtomicBool>,
    /// What is needed to begin parts; `None` where there is only one.
    rotation: Option<Rotation>,
}

/// What the writer does next.
enum Work {
    Write(PieceRows),
    BeginPart(Box<Header>),
}

/// When parts begin, and what with.
struct Rotation {
    kept: Kept,
    header: Header,
    base: Base,
    /// When the part under way began.
    since_ns: u64,
    /// The bytes that were written when its first interval ended; `None` before. What a part begins with counts for no share.
    since_bytes: Option<u64>,
}

impl Recorder {
    /// Begins a recording in the directory `dir`, which must not exist, or be empty. Of one that has `kept`, the oldest parts are removed
    /// while it grows.
    ///
    /// # Errors
    /// The directory has files, or may not be written to. Its files are created later, by the first of [`Self::take`] that writes.
    pub fn create(dir: &Path, header: &Header, kept: Option<Kept>) -> Result<Self> {
        let dir = Arc::new(OutputDir::create(dir)?);
        let written = Arc::new(AtomicU64::new(0));
        let (work, waiting) = sync_channel(WAITING);
        let is_whole = Arc::new(AtomicBool::new(false));
        let ends_whole = Arc::clone(&is_whole);
        let (to, first, bytes) = (Arc::clone(&dir), header.clone(), Arc::clone(&written));
        let writer = threads::spawn("recorder", move || {
            // The directory is ours.
            caps::keep_none();
            let mut waiting = waiting.into_iter().peekable();
            if waiting.peek().is_none() {
                // A run that fails, or is stopped, before it has anything to record leaves no files.
                return Ok(());
            }
            let mut parts = Parts::create(to, first, kept, bytes)?;
            for work in waiting {
                match work {
                    Work::Write(rows) => parts.write(rows)?,
                    Work::BeginPart(header) => parts.begin(*header)?,
                }
            }
            if ends_whole.load(Ordering::Relaxed) {
                parts.end()?;
            }
            Ok(())
        })?;
        Ok(Self {
            tables: Tables::default(),
            seq: 0,
            since_ns: 0,
            now_ns: 0,
            weight: 0,
            work: Some(work),
            writer: Some(writer),
            written,
            dir,
            is_whole,
            rotation: kept.map(|kept| Rotation::new(kept, header.clone())),
        })
    }

    /// Records `input`.
    ///
    /// # Errors
    /// What came before could not be written, or the disk takes nothing for [`PATIENCE`].
    pub fn take(&mut self, input: &Input) -> Result<()> {
        self.add(input)?;
        let Some(rotation) = &mut self.rotation else {
            return Ok(());
        };
        rotation.take(input);
        let bytes = self.written.load(Ordering::Relaxed);
        if *input == Input::IntervalEnd && rotation.is_over(self.now_ns, bytes) {
            (rotation.since_ns, rotation.since_bytes) = (self.now_ns, None);
            let base = rotation.base.inputs();
            let start = rotation.base.part_start(self.seq + base.len() as u64);
            let header = Header {
                start: Some(start),
                ..rotation.header.clone()
            };
            self.write()?;
            self.send(Work::BeginPart(Box::new(header)))?;
            for input in base {
                self.add(&input)?;
            }
        }
        Ok(())
    }

    /// Adds `input` to the piece under way, and writes that if it is over.
    fn add(&mut self, input: &Input) -> Result<()> {
        self.seq += 1;
        self.tables.push(self.seq, input);
        self.weight = self.weight.saturating_add(weight(input));
        if let Input::Tick { monotonic_ns, .. } = input {
            self.now_ns = *monotonic_ns;
        }
        let passed_ns = self.now_ns.saturating_sub(self.since_ns);
        // What an interval shows is written with it.
        let is_over = *input == Input::IntervalEnd && passed_ns >= PIECE_NS / 2;
        if passed_ns >= PIECE_NS || is_over || self.weight >= PIECE_ROWS {
            self.since_ns = self.now_ns;
            self.write()?;
        }
        Ok(())
    }

    /// Writes what is left, and, if the run `is_whole`, that nothing follows. A run that had no input leaves nothing, or its directory
    /// where that cannot be removed.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn finish(mut self, is_whole: bool) -> Result<()> {
        self.is_whole.store(is_whole, Ordering::Relaxed);
        let last = if self.seq > 0 { self.write() } else { Ok(()) };
        self.work = None;
        last?;
        self.join()?;
        if self.seq == 0 {
            self.dir.remove_if_new();
        }
        Ok(())
    }

    /// Has the rows of the piece under way written.
    fn write(&mut self) -> Result<()> {
        let batches = self.tables.take()?;
        self.weight = 0;
        let (seq, ended_ns) = (self.seq, self.now_ns);
        self.send(Work::Write(PieceRows { seq, ended_ns, batches }))
    }

    fn send(&mut self, work: Work) -> Result<()> {
        let Some(sender) = self.work.clone() else {
            // Why nothing is written any more was reported.
            return Ok(());
        };
        let mut work = Some(work);
        let mut is_over = false;
        self.wait(|| match work.take().map(|work| sender.try_send(work)) {
            Some(Err(TrySendError::Full(back))) => {
                work = Some(back);
                Some(0)
            }
            Some(Err(TrySendError::Disconnected(_))) => {
                is_over = true;
                None
            }
            _ => None,
        })?;
        if is_over {
            self.work = None;
            return self.join();
        }
        Ok(())
    }

    /// Waits for the writer, which has an error or no more pieces to come.
    fn join(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else {
            return Ok(());
        };
        let bytes = || self.written.load(Ordering::Relaxed);
        self.wait(|| (!writer.is_finished()).then(bytes))?;
        writer.join().map_err(|_| anyhow!("the thread that records failed"))?
    }

    /// Waits until `state` is `None`, for [`PATIENCE`] after it changed last.
    fn wait(&self, mut state: impl FnMut() -> Option<u64>) -> Result<()> {
        let (mut before, mut waited) = (None, Duration::ZERO);
        loop {
            let now = state();
            if now.is_none() {
                return Ok(());
            }
            if now != before {
                (before, waited) = (now, Duration::ZERO);
            }
            if waited >= PATIENCE {
                bail!(
                    "cannot record to {}: the disk took nothing for {} s",
                    self.dir.path().display(),
                    PATIENCE.as_secs()
                );
            }
            thread::sleep(MOMENT);
            waited += MOMENT;
        }
    }
}

impl Rotation {
    fn new(kept: Kept, header: Header) -> Self {
        Self {
            kept,
            header,
            base: Base::default(),
            since_ns: 0,
            since_bytes: None,
        }
    }

    fn take(&mut self, input: &Input) {
        if let Input::Session(session) = input {
            self.since_ns = session.monotonic_ns;
        }
        self.base.take(input);
    }

    /// Whether the part under way has its share at the end of an interval, at `now_ns`, when `bytes` are written.
    fn is_over(&mut self, now_ns: u64, bytes: u64) -> bool {
        let has = |share: Option<u64>, part: u64| share.is_some_and(|all| part >= all / PARTS);
        let since_bytes = *self.since_bytes.get_or_insert(bytes);
        has(self.kept.bytes, bytes - since_bytes) || has(self.kept.time_ns, now_ns.saturating_sub(self.since_ns))
    }
}

/// How large the row of `input` is, in rows of about the size of a transition.
fn weight(input: &Input) -> usize {
    match input {
        Input::SocketScan { scan, .. } => 1 + scan.sockets.len() + scan.held.len() + scan.stacks.len(),
        // The ports of a source are 16 KiB of bits.
        Input::Ports(Some(sample)) => 1 + sample.walk.destinations.len() + 64 * sample.walk.sources.len(),
        Input::Latency(sample) => 1 + 64 * sample.measured.len(),
        Input::ListenerDrops(listeners) => 1 + listeners.len(),
        Input::Ledger(_) => 16,
        _ => 1,
    }
}
