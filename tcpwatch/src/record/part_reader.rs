//! Reads a part of a recording, or a recording that has only one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::ops::{Bound, RangeBounds};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use arrow_array::{Array as _, RecordBatch, UInt64Array};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::Schema;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rustix::fs::OFlags;

use super::columns::OTHER_TYPE;
use super::files::{INDEX, file_name};
use super::index::{Batch, FORMAT, Header, Line, Piece};
use super::message::{self, UNPACKED_MAX};
use super::redact::Pseudonyms;
use super::tables::{Read, SEQ, Table};
use crate::input::Input;

/// The longest line of an index, bytes: a piece names each table once.
const LINE_MAX: usize = 1 << 20;

/// A part of a recording, from its first input to the last that is whole.
pub(super) struct PartReader {
    dir: PathBuf,
    header: Header,
    index: BufReader<File>,
    /// Lines of the index that were read.
    lines: u64,
    /// `seq` of the last row of the pieces that were read.
    seq: u64,
    tables: HashMap<Table, TableReader>,
    /// The rows of the piece under way, by table.
    rows: Vec<Box<dyn Read>>,
    /// The table that the next row is of.
    at: usize,
    /// `seq` of the first row of the other tables: until then the rows of the table at hand come first.
    others_seq: u64,
    is_over: bool,
    /// Rows up to this `seq` are not read.
    skipped_seq: u64,
    /// Whether pseudonyms are read instead of addresses and names.
    is_redacted: bool,
}

impl PartReader {
    /// Opens the part in the directory `dir`.
    ///
    /// # Errors
    /// There is none, or a newer version wrote it.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(INDEX);
        let text = || format!("cannot read the recording {}", dir.display());
        let index = match open_regular(&path) {
            Ok(index) => index,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let why = if dir.exists() {
                    "it has no index"
                } else {
                    "it does not exist"
                };
                bail!("{}: {why}; try a directory made by --record", text())
            }
            Err(error) => return Err(error).with_context(text),
        };
        let mut index = BufReader::new(index);
        let line = read_line(&mut index).with_context(text)?.unwrap_or_default();
        ensure!(!line.is_empty(), "{}: its index is empty", text());
        // A newer version is reported first: its first line may have another form.
        if let Some(format) = format_of(&line)
            && format > FORMAT
        {
            bail!(
                "{}: its format is {format}, and this tcpwatch reads up to {FORMAT}; try a newer tcpwatch",
                text()
            );
        }
        let Line::Run(header) = Line::parse(&line).with_context(|| format!("{}: line 1 of its index", text()))? else {
            bail!("{}: its index does not begin with the run", text());
        };
        Ok(Self {
            dir: dir.to_owned(),
            header,
            index,
            lines: 1,
            seq: 0,
            tables: HashMap::new(),
            rows: Vec::new(),
            at: 0,
            others_seq: 0,
            is_over: false,
            skipped_seq: 0,
            is_redacted: false,
        })
    }

    /// What is known of the run.
    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// From now on, reads pseudonyms instead of addresses and names.
    pub(super) const fn redact(&mut self) {
        self.is_redacted = true;
    }

    /// Leaves out what repeats the parts before.
    pub(super) fn skip_repeated(&mut self) {
        self.skipped_seq = self.header.start.as_ref().map_or(0, |start| start.seq);
    }

    /// The next input of the tables that `wanted` selects, in the order of the run; `None` after the last.
    ///
    /// # Errors
    /// The recording is damaged or was cut off, and this is where. What came before is whole.
    pub(super) fn next(&mut self, wanted: &dyn Fn(Table) -> bool) -> Result<Option<Input>> {
        loop {
            if let Some(input) = self.next_of_piece()? {
                return Ok(Some(input));
            }
            if self.is_over {
                return Ok(None);
            }
            if let Some(piece) = self.next_piece()? {
                self.read_piece(&piece, wanted)?;
            }
        }
    }

    /// The next rows of all tables, for an export; `None` after the last.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) fn next_batches(&mut self) -> Result<Option<Vec<(Table, RecordBatch)>>> {
        let piece = self.next_piece()?;
        piece.map(|piece| self.batches(&piece, &|_| true)).transpose()
    }

    /// The next piece; `None` after the last.
    fn next_piece(&mut self) -> Result<Option<Piece>> {
        match self.next_line()? {
            Line::Run(_) => bail!("{}: a second run begins", self.place()),
            Line::End => {
                self.is_over = true;
                Ok(None)
            }
            Line::Piece(piece) => Ok(Some(piece)),
        }
    }

    /// The next input of the piece under way; `None` if there is none.
    fn next_of_piece(&mut self) -> Result<Option<Input>> {
        let seq = |rows: &[Box<dyn Read>], at: usize| rows.get(at).and_then(|rows| rows.next_seq());
        if seq(&self.rows, self.at).is_none_or(|seq| seq >= self.others_seq) {
            let mut firsts: Vec<(u64, usize)> = (0..self.rows.len())
                .filter_map(|at| Some((seq(&self.rows, at)?, at)))
                .collect();
            firsts.sort_unstable();
            let Some(&(_, first)) = firsts.first() else {
                return Ok(None);
            };
            self.at = first;
            self.others_seq = firsts.get(1).map_or(u64::MAX, |&(seq, _)| seq);
        }
        self.rows[self.at].next().map(Some).with_context(|| self.place())
    }

    fn next_line(&mut self) -> Result<Line> {
        self.lines += 1;
        let line = read_line(&mut self.index).with_context(|| self.place())?;
        let Some(line) = line else {
            bail!("the recording {} was cut off: it has no end", self.dir.display());
        };
        Line::parse(&line).with_context(|| self.place())
    }

    fn read_piece(&mut self, piece: &Piece, wanted: &dyn Fn(Table) -> bool) -> Result<()> {
        (self.at, self.others_seq) = (0, 0);
        let batches = self.batches(piece, wanted)?;
        let rows = batches.iter().map(|(table, batch)| table.read(batch));
        self.rows = rows.collect::<Result<_>>().with_context(|| self.place())?;
        Ok(())
    }

    /// The rows of the tables of `piece` that `wanted` selects.
    fn batches(&mut self, piece: &Piece, wanted: &dyn Fn(Table) -> bool) -> Result<Vec<(Table, RecordBatch)>> {
        ensure!(piece.seq >= self.seq, "{}", self.place());
        let seqs = (Bound::Excluded(self.seq), Bound::Included(piece.seq));
        self.seq = piece.seq;
        let mut room = UNPACKED_MAX;
        let mut batches: Vec<(Table, RecordBatch)> = Vec::new();
        for batch in piece.batches.iter().filter(|batch| wanted(batch.table)) {
            let path = self.dir.join(file_name(batch.table));
            let is_again = batches.iter().any(|(table, _)| *table == batch.table);
            let mut read = || -> Result<RecordBatch> {
                ensure!(!is_again, "it is twice in a piece");
                let file = match self.tables.entry(batch.table) {
                    Entry::Occupied(file) => file.into_mut(),
                    Entry::Vacant(place) => place.insert(TableReader::open(&path, batch.table)?),
                };
                let rows = file.read(batch, &mut room)?;
                let rows = after(self.skipped_seq, &rows, &seqs)?;
                if self.is_redacted {
                    return Pseudonyms { salt: self.header.salt }.batch(&rows);
                }
                Ok(rows)
            };
            let rows = read().with_context(|| format!("{} is damaged at byte {}", path.display(), batch.offset))?;
            batches.push((batch.table, rows));
        }
        Ok(batches)
    }

    /// The line of the index that was read last.
    fn place(&self) -> String {
        format!("line {} of {} is damaged", self.lines, self.dir.join(INDEX).display())
    }
}

/// The `rows` after `skipped`, once it is checked that their `seq` increase and are in the range that a piece has.
fn after(skipped: u64, rows: &RecordBatch, seqs: &impl RangeBounds<u64>) -> Result<RecordBatch> {
    let column = rows.column_by_name(SEQ).context("the column seq is missing")?;
    let column = column.as_any().downcast_ref::<UInt64Array>().context(OTHER_TYPE)?;
    let found = column.values();
    let are_in_range = [found.first(), found.last()]
        .into_iter()
        .flatten()
        .all(|seq| seqs.contains(seq));
    ensure!(
        column.null_count() == 0 && are_in_range && found.is_sorted_by(|one, next| one < next),
        "its rows differ from the index"
    );
    let first = found.partition_point(|&seq| seq <= skipped);
    Ok(rows.slice(first, rows.num_rows() - first))
}

/// Opens a regular file, without following a link: a recording may be a stranger's.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    Ok(file)
}

/// The version of the format that a first line names, whatever else it has.
fn format_of(line: &[u8]) -> Option<u32> {
    let json: serde_json::Value = serde_json::from_slice(line.get(9..)?).ok()?;
    json["run"]["format"].as_u64()?.try_into().ok()
}

/// A line without its end; `None` at the end of the file. A line that has no end was cut off, and is an error.
fn read_line(index: &mut BufReader<File>) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = std::io::Read::take(index, LINE_MAX as u64).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    ensure!(line.pop() == Some(b'\n'), "the line was cut off");
    Ok(Some(line))
}

/// The file of a table.
struct TableReader {
    file: File,
    schema: Schema,
    decoder: StreamDecoder,
}

impl TableReader {
    fn open(path: &Path, table: Table) -> Result<Self> {
        Ok(Self {
            file: open_regular(path)?,
            schema: table.schema()?,
            decoder: StreamDecoder::new(),
        })
    }

    /// The rows of `batch`, for which there are `room` bytes; they have less then.
    fn read(&mut self, batch: &Batch, room: &mut u64) -> Result<RecordBatch> {
        ensure!(batch.length <= *room, "the piece is too large");
        // A file that was cut off is not as long as the index says.
        let there = self.file.metadata()?.len();
        ensure!(
            batch.offset.saturating_add(batch.length) <= there,
            "the file ends before"
        );
        let mut bytes = vec![0; usize::try_from(batch.length)?];
        self.file.read_exact_at(&mut bytes, batch.offset)?;
        ensure!(crc32fast::hash(&bytes) == batch.crc, "the checksum is wrong");
        let unpacked = message::check(&bytes, &self.schema)?.max(batch.length);
        *room = room.checked_sub(unpacked).context("the piece is too large")?;
        let mut buffer = Buffer::from_vec(bytes);
        let rows = self.decoder.decode(&mut buffer)?.context("there are no rows")?;
        ensure!(buffer.is_empty(), "there is more than one batch");
        Ok(rows)
    }
}
