//! Reads a recording.

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
use super::index::{Batch, FORMAT, Header, Line, Piece};
use super::message::{self, UNPACKED_MAX};
use super::redact::Pseudonyms;
use super::tables::{Read, SEQ, Table};
use crate::input::Input;

/// The longest line of an index, bytes: a piece names each table once.
const LINE_MAX: usize = 1 << 20;

/// A recording, from its first input to the last that is whole.
pub struct Recording {
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
    /// Whether pseudonyms are read instead of addresses and names.
    is_redacted: bool,
}

impl Recording {
    /// Opens the recording in the directory `dir`.
    ///
    /// # Errors
    /// There is none, or a newer version wrote it.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("index");
        let text = || format!("cannot read the recording {}", dir.display());
        let index = match open_regular(&path) {
            Ok(index) => index,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("{}: it has no index; try a directory made by --record", text())
            }
            Err(error) => return Err(error).with_context(text),
        };
        let mut index = BufReader::new(index);
        let line = read_line(&mut index).with_context(text)?.unwrap_or_default();
        ensure!(!line.is_empty(), "{}: its index is empty", text());
        // A later version may have more in it: whatever its form, a newer one is told first.
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
            is_redacted: false,
        })
    }

    /// What is known of the run.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// From now on, reads pseudonyms instead of addresses and names.
    pub const fn redact(&mut self) {
        self.is_redacted = true;
    }

    /// The next input of the tables that `wanted` selects, in the order of the run; `None` after the last.
    ///
    /// # Errors
    /// The recording is damaged or was cut off, and this is where. What came before is whole.
    pub fn next(&mut self, wanted: &dyn Fn(Table) -> bool) -> Result<Option<Input>> {
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
            let path = self.dir.join(format!("{}.arrows", batch.table.name()));
            let is_again = batches.iter().any(|(table, _)| *table == batch.table);
            let mut read = || -> Result<RecordBatch> {
                ensure!(!is_again, "it is twice in a piece");
                let file = match self.tables.entry(batch.table) {
                    Entry::Occupied(file) => file.into_mut(),
                    Entry::Vacant(place) => place.insert(TableReader::open(&path, batch.table)?),
                };
                let rows = file.read(batch, &mut room)?;
                check_seqs(&rows, &seqs)?;
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
        format!("line {} of {} is damaged", self.lines, self.dir.join("index").display())
    }
}

/// Checks that the `seq` of `rows` increase, and are in the range that a piece has.
fn check_seqs(rows: &RecordBatch, seqs: &impl RangeBounds<u64>) -> Result<()> {
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
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::num::NonZeroU32;
    use std::os::unix::fs::PermissionsExt as _;

    use arrow_ipc::reader::StreamReader;
    use arrow_ipc::writer::StreamWriter;
    use hashbrown::HashSet;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    use tempfile::TempDir;

    use super::*;
    use crate::input::namespace::{Namespace, Scope};
    use crate::input::reset_reasons::{Reason, Reasons};
    use crate::input::socket_scan::SocketScan;
    use crate::input::stacks::{Stack, StackFrame, StackId, Why};
    use crate::input::{EndCounts, HostFacts, Session};
    use crate::model::test_rng::TestRng;
    use crate::model::world::tests::{input, usual_time};
    use crate::record::{Format, Recorder, export};

    fn record(inputs: &[Input]) -> (TempDir, PathBuf) {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("recording");
        let mut recorder = Recorder::create(&dir, &Header::new(vec!["stat".to_owned()])).unwrap();
        for input in inputs {
            recorder.take(input).unwrap();
        }
        recorder.finish(true).unwrap();
        (place, dir)
    }

    /// What is read, and why no more of it.
    fn read(dir: &Path) -> (Vec<Input>, Option<String>) {
        let mut recording = match Recording::open(dir) {
            Ok(recording) => recording,
            Err(error) => return (Vec::new(), Some(format!("{error:#}"))),
        };
        let mut inputs = Vec::new();
        loop {
            match recording.next(&|_| true) {
                Ok(Some(input)) => inputs.push(input),
                Ok(None) => return (inputs, None),
                Err(error) => return (inputs, Some(format!("{error:#}"))),
            }
        }
    }

    /// What the generator of inputs does not make.
    fn rare() -> Vec<Input> {
        let frame = |function: Option<&str>| StackFrame {
            function: function.map(str::to_owned),
            module: Some("app".to_owned()),
            address: Some(u64::MAX),
            file: None,
            unnamed: None,
            line: Some(7),
        };
        let stack = |finished| Stack {
            frames: vec![frame(Some("main")), frame(None)],
            caller_known: true,
            finished,
        };
        let one = NonZeroU32::MIN;
        vec![
            Input::Session(Box::new(Session {
                monotonic_ns: 5,
                reasons: Reasons::from(vec![(3, Reason::AbortOnData), (9, Reason::Keepalive)]),
                missed_resets: Some(0),
                knows_namespaces: true,
                watches: true,
            })),
            Input::Ports(None),
            Input::HostFacts(Box::new(HostFacts {
                namespace: Some(Namespace {
                    inode: 7,
                    scope: Scope::Other(Some("/run/netns/blue".to_owned())),
                    first: false,
                }),
                ..HostFacts::default()
            })),
            Input::SocketScan {
                scan: Box::new(SocketScan {
                    namespaces: BTreeMap::from([(1, None), (2, Some("blue".to_owned()))]),
                    listeners: HashSet::from([(1, 80), (2, 443)]),
                    open: Some(HashSet::new()),
                    opened_at: Some([(one, StackId(4))].into_iter().collect()),
                    stacks: [(StackId(4), stack(Ok(()))), (StackId(5), stack(Err(Why::TooDeep)))]
                        .into_iter()
                        .collect(),
                    ..SocketScan::default()
                }),
                missed: None,
            },
            Input::StreamEnd,
            Input::End(Box::new(EndCounts {
                moves: [[3; 16]; 16],
                lost: 1,
                missed: None,
                dropped: 2,
                unmatched: 3,
            })),
        ]
    }

    #[test]
    fn a_recording_is_for_its_owner_alone() {
        let (_place, dir) = record(&rare());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        for file in fs::read_dir(&dir).unwrap() {
            assert_eq!(mode(&file.unwrap().path()), 0o600);
        }
        let again = Recorder::create(&dir, &Header::new(Vec::new())).err().unwrap();
        assert_eq!(
            again.to_string(),
            format!(
                "cannot write to {}: there are files in it; try a new directory",
                dir.display()
            )
        );
    }

    #[test]
    fn what_is_not_wanted_is_not_read() {
        let (_place, dir) = record(&rare());
        fs::remove_file(dir.join("scans.arrows")).unwrap();
        let mut recording = Recording::open(&dir).unwrap();
        let mut count = 0;
        while recording.next(&|table| table != Table::Scans).unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, rare().len() - 1);
        assert!(read(&dir).1.unwrap().contains("scans.arrows"));
    }

    #[test]
    fn a_newer_format_is_refused_with_both_versions() {
        let (_place, dir) = record(&rare());
        let newer = Header {
            format: FORMAT + 1,
            ..Header::new(Vec::new())
        };
        fs::write(dir.join("index"), Line::Run(newer).to_text().unwrap()).unwrap();
        let (_, why) = read(&dir);
        let why = why.unwrap();
        assert!(
            why.contains("its format is 2, and this tcpwatch reads up to 1"),
            "{why}"
        );
    }

    /// The recording of generated inputs, and the first batch of each table.
    fn stranger() -> (TempDir, PathBuf, Vec<(Table, Vec<u8>)>) {
        let mut runner = TestRunner::deterministic();
        let generated = vec(input(&usual_time()), 200).new_tree(&mut runner).unwrap().current();
        let (place, dir) = record(&generated.into_iter().chain(rare()).collect::<Vec<_>>());
        let index = fs::read_to_string(dir.join("index")).unwrap();
        let lines = index.lines().map(|line| Line::parse(line.as_bytes()).unwrap());
        let batches = lines.flat_map(|line| match line {
            Line::Piece(piece) => piece.batches,
            _ => Vec::new(),
        });
        let tables = batches.filter(|batch| batch.offset == 0).map(|batch| {
            let bytes = fs::read(dir.join(format!("{}.arrows", batch.table.name()))).unwrap();
            (batch.table, bytes[..usize::try_from(batch.length).unwrap()].to_vec())
        });
        let tables = tables.collect();
        (place, dir, tables)
    }

    /// The stream of `packed`, with columns that are as they are.
    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut reader = StreamReader::try_new(packed, None).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &reader.schema()).unwrap();
        writer.write(&reader.next().unwrap().unwrap()).unwrap();
        writer.get_ref().clone()
    }

    /// Reads and exports the only batch of `table`, of which the file in `dir` is to have `bytes`, with checksums that are right.
    fn read_crafted(dir: &Path, table: Table, bytes: &[u8]) -> Result<usize> {
        fs::write(dir.join(format!("{}.arrows", table.name())), bytes).unwrap();
        let batch = Batch {
            table,
            offset: 0,
            length: bytes.len() as u64,
            crc: crc32fast::hash(bytes),
        };
        let lines = [
            Line::Run(Header::new(Vec::new())),
            Line::Piece(Piece {
                seq: 10_000,
                batches: vec![batch],
            }),
            Line::End,
        ];
        let lines = lines.map(|line| line.to_text().unwrap());
        fs::write(dir.join("index"), lines.concat()).unwrap();
        let mut exported = Recording::open(dir)?;
        exported.redact();
        let place = tempfile::tempdir()?;
        export(&mut exported, &place.path().join("csv"), Format::Csv)?;
        let (mut recording, mut inputs) = (Recording::open(dir)?, 0);
        while recording.next(&|_| true)?.is_some() {
            inputs += 1;
        }
        Ok(inputs)
    }

    /// A recording may be made to do harm: its checksums are right, and its bytes are not.
    #[test]
    fn a_crafted_recording_is_read_or_refused_in_one_line() {
        const TIMES: u64 = 100;
        let (_place, dir, tables) = stranger();
        let mut rng = TestRng(7);
        let mut below = |most: u64| rng.next() % most;
        let (mut read, mut refused) = (0, 0);
        for (table, packed) in &tables {
            for whole in [packed.clone(), unpacked(packed)] {
                assert!(read_crafted(&dir, *table, &whole).unwrap() > 0, "{table:?}");
                for _ in 0..TIMES {
                    let mut bytes = whole.clone();
                    for _ in 0..=below(3) {
                        let at = usize::try_from(below(bytes.len() as u64)).unwrap();
                        let value = match below(4) {
                            0 => i64::MAX.to_le_bytes(),
                            1 => (-1_i64).to_le_bytes(),
                            2 => below(u64::MAX).to_le_bytes(),
                            _ => below(1 << 20).to_le_bytes(),
                        };
                        let length = [1, 2, 4, 8][usize::try_from(below(4)).unwrap()];
                        let to = bytes.iter_mut().skip(at).take(length);
                        to.zip(value).for_each(|(byte, value)| *byte = value);
                    }
                    match read_crafted(&dir, *table, &bytes) {
                        Ok(_) => read += 1,
                        Err(why) => {
                            let why = format!("{why:#}");
                            assert_eq!(why.lines().count(), 1, "{table:?}: {why}");
                            refused += 1;
                        }
                    }
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} were read, {refused} refused");
    }

    /// What a column claims to be unpacked is not believed.
    #[test]
    fn a_recording_that_claims_much_is_refused() {
        let (_place, dir, tables) = stranger();
        let (table, packed) = tables.iter().find(|(table, _)| *table == Table::Transitions).unwrap();
        let claims = |claim: i64| {
            let mut bytes = packed.clone();
            // The magic number of zstd follows the length of a column.
            let at = bytes
                .windows(4)
                .rposition(|four| four == [0x28, 0xb5, 0x2f, 0xfd])
                .unwrap();
            bytes[at - 8..at].copy_from_slice(&claim.to_le_bytes());
            format!("{:#}", read_crafted(&dir, *table, &bytes).unwrap_err())
        };
        for (claim, why) in [
            (1 << 40, "bytes, and 134217728 are possible"),
            (-2, "claims less than no bytes"),
        ] {
            assert!(claims(claim).contains(why), "{}", claims(claim));
        }
    }

    #[test]
    fn rows_that_the_index_does_not_list_are_refused() {
        let (_place, dir, tables) = stranger();
        let (_, transitions) = tables.iter().find(|(table, _)| *table == Table::Transitions).unwrap();
        let why = read_crafted(&dir, Table::Ticks, transitions).unwrap_err();
        assert!(format!("{why:#}").contains("its columns are not those"), "{why:#}");
        read_crafted(&dir, Table::Transitions, transitions).unwrap();
        let index = fs::read_to_string(dir.join("index")).unwrap();
        let mut lines = index.lines().map(|line| Line::parse(line.as_bytes()).unwrap());
        let lines = [lines.next().unwrap(), lines.next().unwrap()];
        let [run, Line::Piece(mut piece)] = lines else {
            panic!("{index}")
        };
        piece.seq = 1;
        let crafted = [run, Line::Piece(piece)].map(|line| line.to_text().unwrap());
        fs::write(dir.join("index"), crafted.concat()).unwrap();
        let (_, why) = read(&dir);
        assert!(why.unwrap().contains("its rows differ from the index"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_recorded_is_read_again(inputs in vec(input(&usual_time()), 0..300)) {
            let inputs: Vec<Input> = inputs.into_iter().chain(rare()).collect();
            let (_place, dir) = record(&inputs);
            prop_assert_eq!(read(&dir), (inputs, None));
        }

        /// Whatever happens to a file, what comes before that is read, and then it is told.
        #[test]
        fn a_damaged_recording_is_read_up_to_the_damage(
            inputs in vec(input(&usual_time()), 0..100),
            file in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            flip in 0..=255_u8,
        ) {
            let inputs: Vec<Input> = inputs.into_iter().chain(rare()).collect();
            let (_place, dir) = record(&inputs);
            let mut files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let path = file.get(&files);
            let mut bytes = fs::read(path).unwrap();
            let at = at.index(bytes.len());
            if flip == 0 {
                bytes.truncate(at);
            } else {
                bytes[at] ^= flip;
            }
            fs::write(path, bytes).unwrap();
            let (read, why) = read(&dir);
            prop_assert!(inputs.starts_with(&read));
            prop_assert!(why.is_some(), "{:?} byte {at}, {flip}", path);
        }
    }
}
