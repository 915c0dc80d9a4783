//! Writes a recording.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use arrow_array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use hashbrown::HashMap;

use super::index::{Batch, Header, Line, Piece};
use super::tables::{Table, Tables};
use crate::input::Input;
use crate::sys::threads;

/// How much time is lost at most where the process is killed: the rows of so long are written together.
const PIECE_NS: u64 = 1_000_000_000;

/// And so many rows of a table at most, so that a flood needs no more memory.
const PIECE_ROWS: usize = 1 << 16;

/// Pieces that wait to be written at most.
const WAITING: usize = 4;

/// How long the run waits for a disk that takes nothing, ms.
const PATIENCE_MS: u32 = 10_000;

/// Records the inputs of a run.
///
/// What was written stays whole whatever happens: the index lists a piece only after all of it is in the files.
pub struct Recorder {
    tables: Tables,
    seq: u64,
    /// When the piece under way began, and the last tick, `CLOCK_MONOTONIC` in ns.
    since_ns: u64,
    now_ns: u64,
    pieces: Option<SyncSender<PieceRows>>,
    writer: Option<JoinHandle<Result<()>>>,
    dir: PathBuf,
    /// Whether the directory did not exist before.
    is_new: bool,
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
        let is_new = make_empty(dir)?;
        let mut files = Files::create(dir)?;
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
            pieces: Some(pieces),
            writer: Some(writer),
            dir: dir.to_owned(),
            is_new,
            is_whole,
        })
    }

    /// Records `input`.
    ///
    /// # Errors
    /// What came before could not be written, or the disk takes nothing for 10 s.
    pub fn take(&mut self, input: &Input) -> Result<()> {
        self.seq += 1;
        let rows = self.tables.push(self.seq, input);
        if let Input::Tick { monotonic_ns, .. } = input {
            self.now_ns = *monotonic_ns;
        }
        let passed_ns = self.now_ns.saturating_sub(self.since_ns);
        // What an interval shows is written with it.
        let is_over = *input == Input::IntervalEnd && passed_ns >= PIECE_NS / 2;
        if passed_ns >= PIECE_NS || is_over || rows >= PIECE_ROWS {
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
        self.join().and(last)?;
        if self.seq == 0 {
            fs::remove_file(self.dir.join("index"))?;
            if self.is_new {
                fs::remove_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        let batches = self.tables.take()?;
        let mut rows = PieceRows { seq: self.seq, batches };
        for _ in 0..PATIENCE_MS {
            // Why nothing is written any more was reported.
            let Some(pieces) = &self.pieces else { return Ok(()) };
            match pieces.try_send(rows) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(back)) => rows = back,
                Err(TrySendError::Disconnected(_)) => {
                    self.pieces = None;
                    return self.join();
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        bail!(
            "cannot record to {}: the disk took nothing for 10 s",
            self.dir.display()
        );
    }

    fn join(&mut self) -> Result<()> {
        let ended = self.writer.take().map(JoinHandle::join);
        ended
            .unwrap_or(Ok(Ok(())))
            .map_err(|_| anyhow!("the thread that records failed"))?
    }
}

/// Makes the directory `dir`, for its owner alone, or checks that it is empty. Whether it is new.
pub(super) fn make_empty(dir: &Path) -> Result<bool> {
    let text = || format!("cannot write to {}", dir.display());
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map(|()| true).with_context(text),
    }
    if dir.read_dir().with_context(text)?.next().is_some() {
        bail!("{}: there are files in it; try a new directory", text());
    }
    Ok(false)
}

/// The files of a recording.
struct Files {
    dir: PathBuf,
    index: File,
    tables: HashMap<Table, TableWriter>,
}

impl Files {
    fn create(dir: &Path) -> Result<Self> {
        Ok(Self {
            index: create(&dir.join("index"))?,
            dir: dir.to_owned(),
            tables: HashMap::new(),
        })
    }

    /// Writes a piece, and lists it then.
    fn write(&mut self, rows: PieceRows) -> Result<()> {
        let mut batches = Vec::new();
        for (table, batch) in rows.batches {
            if !self.tables.contains_key(&table) {
                self.tables
                    .insert(table, TableWriter::create(&self.dir, table, &batch)?);
            }
            if let Some(file) = self.tables.get_mut(&table) {
                batches.push(file.write(table, &batch)?);
            }
        }
        self.add_line(&Line::Piece(Piece { seq: rows.seq, batches }))
    }

    fn add_line(&mut self, line: &Line) -> Result<()> {
        let text = line.to_text()?;
        let written = self.index.write_all(text.as_bytes());
        written.with_context(|| format!("cannot record to {}", self.dir.join("index").display()))
    }
}

/// The file of a table.
struct TableWriter {
    stream: StreamWriter<Summed>,
    path: PathBuf,
}

impl TableWriter {
    fn create(dir: &Path, table: Table, first: &RecordBatch) -> Result<Self> {
        let path = dir.join(format!("{}.arrows", table.name()));
        let to = Summed {
            file: create(&path)?,
            bytes: Vec::new(),
            offset: 0,
        };
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD))?;
        let stream = StreamWriter::try_new_with_options(to, &first.schema(), options)?;
        Ok(Self { stream, path })
    }

    fn write(&mut self, table: Table, batch: &RecordBatch) -> Result<Batch> {
        self.stream.write(batch)?;
        let to = self.stream.get_mut();
        let written = to.write_out(table);
        written.with_context(|| format!("cannot record to {}", self.path.display()))
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
    fn write_out(&mut self, table: Table) -> Result<Batch> {
        self.file.write_all(&self.bytes)?;
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

/// Creates a file that its owner alone may read: a recording names users' programs and peers.
pub(super) fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write to {}", path.display()))
}
