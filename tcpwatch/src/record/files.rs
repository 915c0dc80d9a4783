//! The files of a recording, or of a part of one: the index and a file a table.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use arrow_array::{Array as _, RecordBatch};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use hashbrown::HashMap;

use super::index::{Batch, Header, Line, Piece};
use super::message::UNPACKED_MAX;
use super::output_dir::OutputDir;
use super::tables::Table;

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;

/// The name of the index.
pub(super) const INDEX: &str = "index";

/// The rows of a piece.
pub(super) struct PieceRows {
    /// The last `seq` of them.
    pub seq: u64,
    /// When they ended, `CLOCK_MONOTONIC` in ns.
    pub ended_ns: u64,
    /// Those of each table that has some.
    pub batches: Vec<(Table, RecordBatch)>,
}

/// The files of a recording, or of a part of one.
pub(super) struct Files {
    dir: Arc<OutputDir>,
    index: File,
    tables: HashMap<Table, TableWriter>,
    /// Bytes in them.
    bytes: u64,
    /// Counts the bytes of all parts as they are written.
    written: Arc<AtomicU64>,
}

impl Files {
    /// Creates the index in `dir`, with its first line.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn create(dir: Arc<OutputDir>, header: Header, written: Arc<AtomicU64>) -> Result<Self> {
        let mut files = Self {
            index: dir.create_file(INDEX)?,
            dir,
            tables: HashMap::new(),
            bytes: 0,
            written,
        };
        files.add_line(&Line::Run(header))?;
        Ok(files)
    }

    /// Writes a piece, and lists it then.
    ///
    /// # Errors
    /// It cannot be written, or is too large to be read again.
    pub(super) fn write(&mut self, rows: PieceRows) -> Result<()> {
        self.ensure_readable(&rows)?;
        let mut batches = Vec::new();
        for (table, batch) in rows.batches {
            if !self.tables.contains_key(&table) {
                self.tables
                    .insert(table, TableWriter::create(&self.dir, table, &batch)?);
            }
            if let Some(file) = self.tables.get_mut(&table) {
                let batch = file.write(table, &batch, &self.written)?;
                self.bytes += batch.length;
                batches.push(batch);
            }
        }
        self.add_line(&Line::Piece(Piece { seq: rows.seq, batches }))
    }

    /// Writes that nothing follows.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn end(&mut self) -> Result<()> {
        self.add_line(&Line::End)
    }

    /// Bytes in them.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Their names, the index first: without it the rest is no recording.
    pub(super) fn names(&self) -> Vec<String> {
        let tables = self.tables.keys().map(|table| file_name(*table));
        [INDEX.to_owned()].into_iter().chain(tables).collect()
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
        written.with_context(|| format!("cannot record to {}", self.dir.path().join(INDEX).display()))?;
        self.bytes += text.len() as u64;
        self.written.fetch_add(text.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

/// The name of the file of `table`.
pub(super) fn file_name(table: Table) -> String {
    format!("{}.arrows", table.name())
}

/// The file of a table.
struct TableWriter {
    stream: StreamWriter<Summed>,
    path: PathBuf,
}

impl TableWriter {
    fn create(dir: &OutputDir, table: Table, first: &RecordBatch) -> Result<Self> {
        let name = file_name(table);
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
