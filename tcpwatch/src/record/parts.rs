//! The parts of a recording that is rotated: each is a recording of its own, in a directory with its number. The oldest is removed while
//! there is more than is to be kept.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Result;

use super::files::{Files, PieceRows};
use super::index::Header;
use super::output_dir::OutputDir;

/// How much of a recording is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Bytes at most, if the part under way has not more alone; `None` for any number.
    pub bytes: Option<u64>,
    /// The last of so long at least, ns; `None` for all.
    pub time_ns: Option<u64>,
}

impl Kept {
    /// Whether the oldest part, which ended `ago_ns` ago, is to be removed from a recording of `bytes`.
    fn is_exceeded(self, bytes: u64, ago_ns: u64) -> bool {
        self.bytes.is_some_and(|most| bytes > most) || self.time_ns.is_some_and(|least| ago_ns >= least)
    }
}

/// Writes the parts of a recording, or the only one.
pub(super) struct Parts {
    dir: Arc<OutputDir>,
    kept: Option<Kept>,
    /// The parts that are complete, the oldest first.
    complete: VecDeque<CompletePart>,
    /// The number of the part under way.
    number: u64,
    files: Files,
    /// When its last piece ended, `CLOCK_MONOTONIC` in ns.
    ended_ns: u64,
    written: Arc<AtomicU64>,
}

struct CompletePart {
    number: u64,
    names: Vec<String>,
    bytes: u64,
    ended_ns: u64,
}

/// The directory of part `number`.
pub(super) fn name(number: u64) -> String {
    number.to_string()
}

impl Parts {
    /// Begins the first part in `dir`, or the recording itself where there are no parts. `written` counts the bytes.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn create(
        dir: Arc<OutputDir>,
        header: Header,
        kept: Option<Kept>,
        written: Arc<AtomicU64>,
    ) -> Result<Self> {
        let number = 1;
        let place = match kept {
            Some(_) => Arc::new(dir.create_dir(&name(number))?),
            None => Arc::clone(&dir),
        };
        Ok(Self {
            files: Files::create(place, header, Arc::clone(&written))?,
            dir,
            kept,
            complete: VecDeque::new(),
            number,
            ended_ns: 0,
            written,
        })
    }

    /// Writes a piece, and removes what is not kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&mut self, rows: PieceRows) -> Result<()> {
        self.ended_ns = rows.ended_ns;
        self.files.write(rows)?;
        let Some(kept) = self.kept else {
            return Ok(());
        };
        let complete = self.complete.iter().map(|part| part.bytes);
        let mut bytes = self.files.bytes() + complete.sum::<u64>();
        while let Some(oldest) = self.complete.front()
            && kept.is_exceeded(bytes, self.ended_ns.saturating_sub(oldest.ended_ns))
        {
            let names = oldest.names.iter().map(String::as_str);
            if let Err(error) = self.dir.remove_dir(&name(oldest.number), names) {
                // Somebody removed it, or put something there: the recording goes on.
                log::warn!("{error:#}");
            }
            bytes -= oldest.bytes;
            self.complete.pop_front();
        }
        Ok(())
    }

    /// Ends the part under way, and begins the next.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn begin(&mut self, header: Header) -> Result<()> {
        let number = self.number + 1;
        let place = Arc::new(self.dir.create_dir(&name(number))?);
        let next = Files::create(place, header, Arc::clone(&self.written))?;
        // Only now, so that the end of a part says that nothing is missing after it.
        self.files.end()?;
        self.complete.push_back(CompletePart {
            number: self.number,
            names: self.files.names(),
            bytes: self.files.bytes(),
            ended_ns: self.ended_ns,
        });
        (self.number, self.files) = (number, next);
        Ok(())
    }

    /// Writes that nothing follows.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn end(&mut self) -> Result<()> {
        self.files.end()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;
    use std::{fs, thread};

    use jiff::Timestamp;
    use tcpwatch_common::TcpState;
    use tcpwatch_common::ledger::STATES;
    use tempfile::TempDir;

    use super::*;
    use crate::input::needs::Needs;
    use crate::input::socket_scan::SocketScan;
    use crate::input::{EndCounts, Input, LedgerSample, Loss, Session, Transition};
    use crate::model::filter::Filter;
    use crate::model::frame::Frame;
    use crate::model::world::World;
    use crate::record::files::INDEX;
    use crate::record::tables::Tables;
    use crate::record::{Format, Recorder, Recording, Table, export};

    const SECOND: u64 = 1_000_000_000;
    const SECONDS: u64 = 40;
    /// Transitions in each second.
    const EACH: u64 = 5;
    const NEEDS: Needs = Needs {
        counts: true,
        transitions: true,
        connections: false,
        churn: None,
        latency: None,
        stuck: None,
    };

    fn tick(second: u64) -> Input {
        Input::Tick {
            time: Timestamp::from_second(second.try_into().unwrap()).unwrap(),
            monotonic_ns: second * SECOND,
        }
    }

    fn moves(count: u64) -> [[u64; STATES]; STATES] {
        let mut moves = [[0; STATES]; STATES];
        moves[7][2] = count;
        moves
    }

    /// A run of [`SECONDS`], with a scan every ten.
    fn run() -> Vec<Input> {
        let ledger = |count| {
            Input::Ledger(Box::new(LedgerSample {
                moves: moves(count),
                sockets: [0; STATES],
                ends: Vec::new(),
                uncounted_ends: 0,
                lost: 0,
                missed: Some(0),
                missed_resets: None,
                unmarked: 0,
                drift: None,
            }))
        };
        let session = Session {
            monotonic_ns: SECOND,
            ..Session::default()
        };
        let mut inputs = vec![
            Input::Session(Box::new(session)),
            ledger(0),
            tick(1),
            Input::IntervalEnd,
        ];
        for second in 2..=SECONDS {
            let transition = Transition {
                monotonic_ns: second * SECOND - 1,
                ..Transition::between(TcpState::Close, TcpState::SynSent)
            };
            inputs.extend((0..EACH).map(|_| Input::Transition(transition)));
            let loss = Loss {
                emptied: true,
                ..Loss::default()
            };
            inputs.extend([Input::Loss(loss), tick(second)]);
            if second % 10 == 0 {
                let scan = Box::new(SocketScan::default());
                inputs.extend([
                    Input::ScanStart { is_base: second == 10 },
                    Input::SocketScan { scan, missed: Some(0) },
                ]);
            }
            inputs.extend([ledger(EACH * (second - 1)), tick(second), Input::IntervalEnd]);
        }
        let counts = EndCounts {
            moves: moves(EACH * (SECONDS - 1)),
            ..EndCounts::default()
        };
        inputs.extend([Input::StreamEnd, Input::End(Box::new(counts))]);
        inputs
    }

    fn record(kept: Kept, inputs: &[Input]) -> TempDir {
        let place = tempfile::tempdir().unwrap();
        let header = Header::new(vec!["record".to_owned()]);
        let mut recorder = Recorder::create(place.path(), &header, Some(kept)).unwrap();
        for input in inputs {
            recorder.take(input).unwrap();
        }
        recorder.finish(true).unwrap();
        place
    }

    fn read(dir: &Path) -> (Vec<Input>, Option<String>) {
        let mut recording = Recording::open(dir).unwrap();
        let mut inputs = Vec::new();
        loop {
            match recording.next(&|_| true) {
                Ok(Some(input)) => inputs.push(input),
                Ok(None) => return (inputs, None),
                Err(error) => return (inputs, Some(error.to_string())),
            }
        }
    }

    /// The frames of a run after its first, which is of no interval; without the totals, which are compared elsewhere.
    fn frames(inputs: &[Input]) -> Vec<Frame> {
        let mut world = World::new(NEEDS, Filter::default());
        let shown = inputs.iter().filter_map(|input| {
            let mut frame = world.apply(input.clone())?.clone();
            frame.transitions.totals = None;
            (!frame.is_empty()).then_some(frame)
        });
        shown.skip(1).collect()
    }

    fn numbers(dir: &Path) -> Vec<u64> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut numbers: Vec<u64> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        numbers.sort_unstable();
        numbers
    }

    const KEPT: Kept = Kept {
        bytes: None,
        time_ns: Some(16 * SECOND),
    };

    #[test]
    fn what_is_kept_is_shown_as_it_was() {
        let inputs = run();
        let place = record(KEPT, &inputs);
        let (read, why) = read(place.path());
        assert_eq!(why, None);
        let (all, kept) = (frames(&inputs), frames(&read));
        assert!(all.ends_with(&kept), "{kept:#?}");
        let intervals = kept.iter().filter(|frame| frame.counts.is_some()).count();
        // Each part has two seconds, of which the oldest is removed once all but it have sixteen.
        assert!((16..=18).contains(&intervals), "{intervals} of the last 16 s");
        assert_eq!(numbers(place.path()).len(), 9, "{:?}", numbers(place.path()));
    }

    #[test]
    fn the_totals_are_those_of_what_is_kept() {
        let place = record(KEPT, &run());
        let (read, _) = read(place.path());
        let count = read
            .iter()
            .filter(|input| matches!(input, Input::Transition(_)))
            .count() as u64;
        let Some(Input::End(counts)) = read.last() else {
            panic!("no end")
        };
        assert_eq!(counts.moves, moves(count));
        assert!(count >= 16 * EACH);
    }

    #[test]
    fn each_row_is_exported_once() {
        let place = record(KEPT, &run());
        let transitions = read(place.path()).0.into_iter();
        let transitions = transitions.filter(|input| matches!(input, Input::Transition(_)));
        let out = place.path().join("out");
        let mut recording = Recording::open(place.path()).unwrap();
        let rows = export(&mut recording, &out, Format::Csv).unwrap();
        let count = |table| rows.iter().find(|(of, _)| *of == table).unwrap().1;
        assert_eq!(count(Table::Transitions), transitions.count() as u64);
        assert_eq!(count(Table::Sessions), 1, "that of the first part alone");
    }

    #[test]
    fn each_part_is_a_recording() {
        let inputs = run();
        let place = record(KEPT, &inputs);
        let all = frames(&inputs);
        let mut parts = numbers(place.path())
            .into_iter()
            .map(|number| place.path().join(name(number)));
        let last = parts.next_back().unwrap();
        for part in parts {
            let (read, why) = read(&part);
            assert_eq!(why, None);
            let shown = frames(&read);
            assert!(all.windows(shown.len()).any(|some| some == shown), "{}", part.display());
        }
        assert!(all.ends_with(&frames(&read(&last).0)));
    }

    #[test]
    fn no_more_bytes_are_kept() {
        let most = 64 << 10;
        let kept = Kept {
            bytes: Some(most),
            time_ns: None,
        };
        let place = tempfile::tempdir().unwrap();
        let dir = Arc::new(OutputDir::create(place.path()).unwrap());
        let header = || Header::new(vec!["record".to_owned()]);
        let mut parts = Parts::create(dir, header(), Some(kept), Arc::default()).unwrap();
        let mut tables = Tables::default();
        for seq in 1..=100 {
            parts.begin(header()).unwrap();
            tables.push(seq, &tick(seq));
            let batches = tables.take().unwrap();
            let ended_ns = seq * SECOND;
            parts.write(PieceRows { seq, ended_ns, batches }).unwrap();
        }
        let numbers = numbers(place.path());
        let files = numbers
            .iter()
            .flat_map(|&number| fs::read_dir(place.path().join(name(number))).unwrap());
        let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(numbers[0] > 1, "{numbers:?}");
        assert!((most / 2..=most).contains(&size), "{size} bytes");
    }

    #[test]
    fn a_part_that_is_missing_is_told() {
        let place = record(KEPT, &run());
        let parts = numbers(place.path());
        fs::remove_dir_all(place.path().join(name(parts[2]))).unwrap();
        let (_, why) = read(place.path());
        let missing = format!("the recording {} has no part {}", place.path().display(), parts[2]);
        assert_eq!(why, Some(missing));
    }

    #[test]
    fn a_recording_that_ended_at_a_border_was_cut_off() {
        let place = record(KEPT, &run());
        let last = place.path().join(name(*numbers(place.path()).last().unwrap()));
        for file in fs::read_dir(&last).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        let cut_off = Some(format!(
            "the recording {} was cut off: it has no end",
            place.path().display()
        ));
        assert_eq!(read(place.path()).1, cut_off, "there is no index");
        fs::write(last.join("index"), "").unwrap();
        assert_eq!(read(place.path()).1, cut_off, "it is empty");
    }

    #[test]
    fn other_recordings_are_no_parts() {
        let (place, other) = (record(KEPT, &run()), record(KEPT, &run()));
        let numbers = numbers(place.path());
        let next = place.path().join(name(numbers[1]));
        fs::remove_dir_all(&next).unwrap();
        fs::rename(other.path().join(name(numbers[1])), &next).unwrap();
        let why = format!("{} is another recording than the part before it", next.display());
        assert_eq!(read(place.path()).1, Some(why));
    }

    #[test]
    fn a_part_that_cannot_be_removed_does_not_end_the_run() {
        let place = tempfile::tempdir().unwrap();
        let header = Header::new(vec!["record".to_owned()]);
        let mut recorder = Recorder::create(place.path(), &header, Some(KEPT)).unwrap();
        let (first, rest) = (&run()[..30], &run()[30..]);
        first.iter().try_for_each(|input| recorder.take(input)).unwrap();
        // Another thread writes it.
        let index = place.path().join("1").join(INDEX);
        for _ in 0..10_000 {
            if !index.exists() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        fs::write(place.path().join("1/notes"), "somebody's").unwrap();
        rest.iter().try_for_each(|input| recorder.take(input)).unwrap();
        recorder.finish(true).unwrap();
        assert!(place.path().join("1/notes").exists());
        assert_eq!(read(place.path()).1, None, "what has no index is no part");
    }

    #[test]
    fn latencies_are_those_of_what_is_kept() {
        use crate::input::latency::{LatencyBy, LatencySample};
        let needs = Needs {
            latency: Some(LatencyBy::All),
            ..NEEDS
        };
        let mut second = 0;
        let with_latency = run().into_iter().flat_map(|input| {
            let is_end = input == Input::IntervalEnd;
            second += u64::from(is_end);
            let sample = LatencySample {
                unmeasured: 10 * second,
                ..LatencySample::default()
            };
            is_end
                .then(|| Input::Latency(Box::new(sample)))
                .into_iter()
                .chain([input])
        });
        let inputs: Vec<Input> = with_latency.collect();
        let place = record(KEPT, &inputs);
        let unmeasured = |inputs: &[Input]| -> Vec<u64> {
            let mut world = World::new(needs, Filter::default());
            let shown = inputs
                .iter()
                .filter_map(|input| Some(world.apply(input.clone())?.latency.as_ref()?.unmeasured));
            shown.collect()
        };
        let kept = unmeasured(&read(place.path()).0);
        assert!(kept.len() >= 16 && kept.iter().all(|&count| count == 10), "{kept:?}");
        assert!(unmeasured(&inputs).ends_with(&kept));
    }

    #[test]
    fn a_part_that_is_being_removed_is_left_out() {
        let inputs = run();
        let place = record(KEPT, &inputs);
        fs::remove_file(place.path().join(name(numbers(place.path())[0])).join("index")).unwrap();
        let (read, why) = read(place.path());
        assert_eq!(why, None);
        assert!(frames(&inputs).ends_with(&frames(&read)));
    }

    #[test]
    fn a_run_without_inputs_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("new");
        let recorder = Recorder::create(&dir, &Header::new(Vec::new()), Some(KEPT)).unwrap();
        recorder.finish(true).unwrap();
        assert!(!dir.exists());
    }
}
