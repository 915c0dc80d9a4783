//! Reads a recording, whether it is one or has parts.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use arrow_array::RecordBatch;

use super::files::INDEX;
use super::index::{Header, PartStart};
use super::part_reader::PartReader;
use super::parts;
use super::tables::Table;
use crate::input::Input;

/// A recording, from its first input that is kept to the last that is whole.
pub struct Recording {
    dir: PathBuf,
    part: PartReader,
    /// The number of that part; 0 where there are no parts.
    number: u64,
    /// The numbers of the parts that follow.
    later: VecDeque<u64>,
    /// How it starts, where parts before were removed.
    start: Option<PartStart>,
    is_redacted: bool,
}

impl Recording {
    /// Opens the recording in the directory `dir`.
    ///
    /// # Errors
    /// There is none, or a newer version wrote it.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut later = if dir.join(INDEX).exists() {
            VecDeque::new()
        } else {
            part_numbers(dir)
        };
        let first = later.pop_front();
        let part = PartReader::open(&first.map_or_else(|| dir.to_owned(), |first| dir.join(parts::name(first))))?;
        Ok(Self {
            dir: dir.to_owned(),
            start: part.header().start.clone(),
            part,
            number: first.unwrap_or_default(),
            later,
            is_redacted: false,
        })
    }

    /// What is known of the run.
    #[must_use]
    pub const fn header(&self) -> &Header {
        self.part.header()
    }

    /// From now on, reads pseudonyms instead of addresses and names.
    pub const fn redact(&mut self) {
        self.is_redacted = true;
        self.part.redact();
    }

    /// The next input of the tables that `wanted` selects, in the order of the run; `None` after the last. Of the totals only the moves
    /// are those of the parts that are there; all else is of the whole run.
    ///
    /// # Errors
    /// The recording is damaged or was cut off, and this is where. What came before is whole.
    pub fn next(&mut self, wanted: &dyn Fn(Table) -> bool) -> Result<Option<Input>> {
        loop {
            if let Some(mut input) = self.part.next(wanted)? {
                if let (Input::End(counts), Some(start)) = (&mut input, &self.start) {
                    start.deduct(counts);
                }
                return Ok(Some(input));
            }
            if !self.begin_next_part()? {
                return Ok(None);
            }
        }
    }

    /// The next rows of all tables, for an export; `None` after the last.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) fn next_batches(&mut self) -> Result<Option<Vec<(Table, RecordBatch)>>> {
        loop {
            if let Some(batches) = self.part.next_batches()? {
                return Ok(Some(batches));
            }
            if !self.begin_next_part()? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the next part; whether there is one.
    fn begin_next_part(&mut self) -> Result<bool> {
        let Some(number) = self.later.pop_front() else {
            return Ok(false);
        };
        let next = self.number + 1;
        ensure!(
            number == next,
            "the recording {} has no part {next}",
            self.dir.display()
        );
        self.number = number;
        let place = self.dir.join(parts::name(number));
        let has_begun = fs::metadata(place.join(INDEX)).is_ok_and(|index| index.len() > 0);
        ensure!(
            has_begun || !self.later.is_empty(),
            "the recording {} was cut off: it has no end",
            self.dir.display()
        );
        let part = PartReader::open(&place)?;
        let (before, header) = (self.header(), part.header());
        ensure!(
            header.start.is_some() && (header.salt, &header.args) == (before.salt, &before.args),
            "{} is another recording than the part before it",
            place.display()
        );
        self.part = part;
        self.part.skip_repeated();
        if self.is_redacted {
            self.part.redact();
        }
        Ok(true)
    }
}

/// The numbers of the parts in `dir`, in order. The oldest is left out where it is being removed.
fn part_numbers(dir: &Path) -> VecDeque<u64> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // A link is no part: it may lead anywhere.
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let numbers = dirs.filter_map(|entry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        // What is no number as it is written here is something else.
        (entry.file_name() == *parts::name(number)).then_some(number)
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    let is_being_removed = |number: &u64| !dir.join(parts::name(*number)).join(INDEX).exists();
    numbers.into_iter().skip_while(is_being_removed).collect()
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

    use super::super::index::{Batch, FORMAT, Line, Piece};
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
        let mut recorder = Recorder::create(&dir, &Header::new(vec!["stat".to_owned()]), None).unwrap();
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
        let again = Recorder::create(&dir, &Header::new(Vec::new()), None).err().unwrap();
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
