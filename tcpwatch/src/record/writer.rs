//! Writes a recording.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow_array::{Array as _, RecordBatch};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use hashbrown::HashMap;

use super::index::{Batch, Header, Line, Piece};
use super::message::UNPACKED_MAX;
use super::output_dir::OutputDir;
use super::tables::{Table, Tables};
use crate::input::Input;
use crate::sys::threads;

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

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

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
    pieces: Option<SyncSender<PieceRows>>,
    writer: Option<JoinHandle<Result<()>>>,
    /// Bytes that the writer has written.
    written: Arc<AtomicU64>,
    dir: Arc<OutputDir>,
    /// Whether the run came to its end.
    is_whole: Arc<AtomicBool>,
}

/// The rows of a piece, and the last `seq` of them.
struct PieceRows {
    seq: u64,
    batches: Vec<(Table, RecordBatch)>,
}

impl Recorder {
    /// Begins a recording in the directory `dir`, which must not exist, or be empty.
    ///
    /// # Errors
    /// The directory has files, or cannot be written to.
    pub fn create(dir: &Path, header: &Header) -> Result<Self> {
        let dir = Arc::new(OutputDir::create(dir)?);
        let written = Arc::new(AtomicU64::new(0));
        let mut files = Files::create(Arc::clone(&dir), Arc::clone(&written))?;
        files.add_line(&Line::Run(header.clone()))?;
        let (pieces, waiting) = sync_channel::<PieceRows>(WAITING);
        let is_whole = Arc::new(AtomicBool::new(false));
        let ends_whole = Arc::clone(&is_whole);
        let writer = threads::spawn("recorder", move || {
            for rows in waiting {
                files.write(rows)?;
            }
            if ends_whole.load(Ordering::Relaxed) {
                files.add_line(&Line::End)?;
            }
            Ok(())
        })?;
        Ok(Self {
            tables: Tables::default(),
            seq: 0,
            since_ns: 0,
            now_ns: 0,
            weight: 0,
            pieces: Some(pieces),
            writer: Some(writer),
            written,
            dir,
            is_whole,
        })
    }

    /// Records `input`.
    ///
    /// # Errors
    /// What came before could not be written, or the disk takes nothing for [`PATIENCE`].
    pub fn take(&mut self, input: &Input) -> Result<()> {
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

    /// Writes what is left, and, if the run `is_whole`, that nothing follows. A run that had no input leaves nothing.
    ///
    /// # Errors
    /// Something cannot be written.
    pub fn finish(mut self, is_whole: bool) -> Result<()> {
        self.is_whole.store(is_whole, Ordering::Relaxed);
        let last = if self.seq > 0 { self.write() } else { Ok(()) };
        self.pieces = None;
        last?;
        self.join()?;
        match Arc::try_unwrap(self.dir) {
            Ok(dir) if self.seq == 0 => dir.remove("index"),
            _ => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        let batches = self.tables.take()?;
        self.weight = 0;
        let mut rows = Some(PieceRows { seq: self.seq, batches });
        let Some(pieces) = self.pieces.clone() else {
            // Why nothing is written any more was reported.
            return Ok(());
        };
        let mut is_over = false;
        self.wait(|| match rows.take().map(|rows| pieces.try_send(rows)) {
            Some(Err(TrySendError::Full(back))) => {
                rows = Some(back);
                Some(0)
            }
            Some(Err(TrySendError::Disconnected(_))) => {
                is_over = true;
                None
            }
            _ => None,
        })?;
        if is_over {
            self.pieces = None;
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

/// The files of a recording.
struct Files {
    dir: Arc<OutputDir>,
    index: File,
    tables: HashMap<Table, TableWriter>,
    /// Counts the bytes of the tables.
    written: Arc<AtomicU64>,
}

impl Files {
    fn create(dir: Arc<OutputDir>, written: Arc<AtomicU64>) -> Result<Self> {
        Ok(Self {
            index: dir.create_file("index")?,
            dir,
            tables: HashMap::new(),
            written,
        })
    }

    /// Writes a piece, and lists it then.
    fn write(&mut self, rows: PieceRows) -> Result<()> {
        self.ensure_readable(&rows)?;
        let mut batches = Vec::new();
        for (table, batch) in rows.batches {
            if !self.tables.contains_key(&table) {
                self.tables
                    .insert(table, TableWriter::create(&self.dir, table, &batch)?);
            }
            if let Some(file) = self.tables.get_mut(&table) {
                batches.push(file.write(table, &batch, &self.written)?);
            }
        }
        self.add_line(&Line::Piece(Piece { seq: rows.seq, batches }))
    }

    /// Checks that a reader takes so many bytes.
    fn ensure_readable(&self, rows: &PieceRows) -> Result<()> {
        let mut size = 0;
        for column in rows.batches.iter().flat_map(|(_, batch)| batch.columns()) {
            size += column.to_data().get_slice_memory_size()? as u64;
        }
        ensure!(
            size <= UNPACKED_MAX,
            "cannot record to {}: there are {size} bytes to record at once; try a filter",
            self.dir.path().display()
        );
        Ok(())
    }

    fn add_line(&mut self, line: &Line) -> Result<()> {
        let text = line.to_text()?;
        let written = self.index.write_all(text.as_bytes());
        written.with_context(|| format!("cannot record to {}", self.dir.path().join("index").display()))
    }
}

/// The file of a table.
struct TableWriter {
    stream: StreamWriter<Summed>,
    path: PathBuf,
}

impl TableWriter {
    fn create(dir: &OutputDir, table: Table, first: &RecordBatch) -> Result<Self> {
        let name = format!("{}.arrows", table.name());
        let path = dir.path().join(&name);
        let to = Summed {
            file: dir.create_file(&name)?,
            bytes: Vec::new(),
            offset: 0,
        };
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
        let stream = StreamWriter::try_new_with_options(to, &first.schema(), options)?;
        Ok(Self { stream, path })
    }

    fn write(&mut self, table: Table, batch: &RecordBatch, written: &AtomicU64) -> Result<Batch> {
        self.stream.write(batch)?;
        let to = self.stream.get_mut();
        let batch = to.write_out(table, written);
        batch.with_context(|| format!("cannot record to {}", self.path.display()))
    }
}

/// Collects what is written for a piece, and writes it at once.
struct Summed {
    file: File,
    bytes: Vec<u8>,
    /// Bytes in the file.
    offset: u64,
}

impl Summed {
    fn write_out(&mut self, table: Table, written: &AtomicU64) -> Result<Batch> {
        // A slow disk is not one that takes nothing.
        for bytes in self.bytes.chunks(CHUNK) {
            self.file.write_all(bytes)?;
            written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let batch = Batch {
            table,
            offset: self.offset,
            length: self.bytes.len() as u64,
            crc: crc32fast::hash(&self.bytes),
        };
        self.offset += batch.length;
        self.bytes.clear();
        Ok(batch)
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
