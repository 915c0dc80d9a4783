//! Standard output, written by a thread of its own: the loop never waits for the reader.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::mem::{replace, take};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::select;
use tokio::sync::{Notify, oneshot};

use super::OUTPUT;
use crate::sys::{caps, terminal, threads};

/// Bytes that a row takes as text for each byte of its record, and bytes that there is room for at least.
const TEXT_PER_RECORD: usize = 4;
const LEAST_ROOM: usize = 32 << 20;

/// Bytes that may wait for a file before no more rows are read from the ring, where a record needs a quarter of its text. Little, for
/// text that waits is memory, and the ring is there anyhow; enough for the thread to write while the loop makes more.
const ROWS_FOR_FILE: usize = 512 << 10;

/// Bytes of rows that are queued at once: few enough to be in the cache still when the thread writes them.
const CHUNK: usize = 128 << 10;

/// Buffers that are kept to be filled again.
const SPARES: usize = ROWS_FOR_FILE / CHUNK;

/// How long the reader has for the rows that are queued at the end.
const LAST_ROWS: Duration = Duration::from_secs(1);

/// An output that accepts nothing for so long, when all else is done, is given up.
const STALLED: Duration = Duration::from_secs(2);

/// A queue of text, and the thread that writes it.
pub(super) struct Output {
    /// What the view prints, up to [`Output::queue`].
    pub(super) text: Vec<u8>,
    shared: Arc<Shared>,
    /// Bytes that may wait.
    room: usize,
    /// Whether the output is a regular file. It takes all rows, so that none is dropped: what comes faster waits in the ring.
    is_file: bool,
    /// Whether rows have been printed.
    has_rows: bool,
    failed: oneshot::Receiver<io::Error>,
    was_dropping: bool,
}

/// Takes rows, and queues [`CHUNK`] after chunk of them.
pub(super) struct Rows<'a>(pub(super) &'a mut Output);

impl Write for Rows<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.text.extend_from_slice(text);
        if self.0.text.len() >= CHUNK && text.ends_with(b"\n") {
            self.0.queue(false, true)?;
        }
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the loop and the thread share.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The queue is not empty any more.
    filled: Condvar,
    /// The output took something, for a thread that waits.
    moved: Condvar,
    /// The same, for the loop.
    took: Notify,
}

#[derive(Default)]
struct Queue {
    /// The rows and intervals that find no room are dropped, and counted; see [`Output::start`].
    chunks: VecDeque<Chunk>,
    /// Bytes not written yet.
    bytes: usize,
    /// Chunks not written yet that may be dropped.
    droppable: usize,
    /// Bytes written.
    written: u64,
    /// Lines dropped.
    dropped: u64,
    /// Whether what may be dropped is dropped now.
    is_cut: bool,
    thread: Thread,
    /// Whether the loop waits for the thread.
    is_awaited: bool,
    /// Buffers to fill again: fresh memory costs a page fault per 4 KiB.
    spare: Vec<Vec<u8>>,
}

/// What the thread is to do.
#[derive(Default, PartialEq, Eq)]
enum Thread {
    /// To write what there is, and wait for more.
    #[default]
    Writes,
    /// To write what there is.
    Closes,
    /// Nothing: the output has failed.
    Failed,
}

/// Whole lines.
struct Chunk {
    text: Vec<u8>,
    may_drop: bool,
}

impl Output {
    /// Starts the thread, on standard output. The queue has room for the rows of a ring of `ring_bytes`, and for 32 MiB at least.
    ///
    /// # Errors
    /// There can be no thread for it.
    pub(super) fn start(ring_bytes: u32) -> Result<Self> {
        let ring_bytes = usize::try_from(ring_bytes).unwrap_or(usize::MAX);
        let room = ring_bytes.saturating_mul(TEXT_PER_RECORD).max(LEAST_ROOM);
        let is_file = terminal::is_file();
        Self::writing_by(room, is_file, move |text| terminal::write(text, is_file))
    }

    fn writing_by(
        room: usize,
        is_file: bool,
        write: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (error_sender, failed) = oneshot::channel();
        let queue = Arc::clone(&shared);
        threads::spawn("output", move || {
            caps::keep_none();
            if let Err(error) = queue.write_each(write) {
                let _ = error_sender.send(error);
                // The loop may ask for the error now.
                queue.fail();
            }
        })?;
        Ok(Self {
            text: Vec::new(),
            shared,
            room,
            is_file,
            has_rows: false,
            failed,
            was_dropping: false,
        })
    }

    /// Queues the text printed so far, whole lines; `has_rows` says whether they are rows of single transitions or connections. What is
    /// not the last of a run may be dropped, where the reader is behind.
    ///
    /// # Errors
    /// The output takes no more.
    pub(super) fn queue(&mut self, is_last: bool, has_rows: bool) -> io::Result<()> {
        let mut queue = self.shared.lock();
        if queue.has_failed() {
            drop(queue);
            self.text.clear();
            return self.error();
        }
        if self.text.is_empty() {
            return Ok(());
        }
        if !is_last && self.drops(&queue, has_rows) {
            drop(queue);
            self.drop_rows(lines(&self.text));
            self.text.clear();
            return Ok(());
        }
        self.has_rows |= has_rows;
        queue.bytes += self.text.len();
        queue.droppable += usize::from(!is_last);
        let empty = queue.spare.pop().unwrap_or_default();
        let text = replace(&mut self.text, empty);
        queue.chunks.push_back(Chunk {
            text,
            may_drop: !is_last,
        });
        drop(queue);
        self.shared.filled.notify_one();
        Ok(())
    }

    /// Whether rows find no room now, and need not be printed.
    pub(super) fn is_dropping(&self) -> bool {
        self.drops(&self.shared.lock(), true)
    }

    /// Whether text finds no room. Rows for a file do: they come from the ring no faster than the file takes them.
    fn drops(&self, queue: &Queue, has_rows: bool) -> bool {
        !(self.is_file && has_rows) && queue.bytes >= self.room && !queue.has_failed()
    }

    /// Counts `rows` that are dropped.
    pub(super) fn drop_rows(&mut self, rows: u64) {
        self.shared.lock().dropped += rows;
        if !replace(&mut self.was_dropping, true) {
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: rows are being dropped: the reader of the output is too slow; try a filter"
            );
        }
    }

    /// The error of the output, if it has failed and nobody was given it.
    fn error(&mut self) -> io::Result<()> {
        self.failed.try_recv().map_or(Ok(()), Err)
    }

    /// Whether records may be read: there is room for their rows, or these are dropped.
    pub(super) fn has_room(&self) -> bool {
        !(self.is_file && self.has_rows) || self.shared.lock().bytes < ROWS_FOR_FILE
    }

    /// Waits until records may be read.
    ///
    /// # Errors
    /// The output takes no more.
    pub(super) fn wait_for_room(&mut self) -> Result<()> {
        if self.has_room() {
            return Ok(());
        }
        self.wait(|queue| queue.bytes < ROWS_FOR_FILE)
    }

    /// Waits until an output that had no room has taken something; for ever where it `has_room`.
    ///
    /// # Errors
    /// The output takes no more.
    pub(super) async fn taken(&mut self, has_room: bool) -> io::Result<()> {
        select! {
            biased;
            failed = &mut self.failed => {
                Err(failed.unwrap_or_else(|_| io::Error::other("the thread that writes it died")))
            }
            () = self.shared.took.notified(), if !has_room => Ok(()),
        }
    }

    /// Gives the reader the time that it has for the rows queued, drops the rest, and gives the number of lines dropped in the run. A
    /// line that the reader has begun is not dropped.
    ///
    /// # Errors
    /// The output takes no more.
    pub(super) fn drain_rows(&mut self) -> Result<u64> {
        let is_drained = |queue: &Queue| queue.droppable == 0;
        if !self.is_file {
            let mut queue = self.shared.wait(self.shared.lock(), LAST_ROWS, is_drained);
            queue.cut();
        }
        self.wait(is_drained)?;
        Ok(self.shared.lock().dropped)
    }

    /// Waits until the reader has all but what was dropped, and prints on stderr how much that was.
    ///
    /// # Errors
    /// The output takes no more.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.shared.lock().has_failed() {
            return self.error().context(OUTPUT);
        }
        let dropped = self.drain_rows()?;
        self.wait(|queue| queue.bytes == 0)?;
        // What an output that failed did not take is no news.
        if dropped > 0 && !self.shared.lock().has_failed() {
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: {dropped} rows of the output were dropped: its reader was too slow"
            );
        }
        Ok(())
    }

    /// Waits until `is_done`, as long as the output accepts something.
    fn wait(&mut self, is_done: impl Fn(&Queue) -> bool) -> Result<()> {
        let mut queue = self.shared.lock();
        while !queue.has_failed() && !is_done(&queue) {
            let written = queue.written;
            let moves = |queue: &Queue| queue.written != written || is_done(queue);
            queue = self.shared.wait(queue, STALLED, moves);
            if !queue.has_failed() && !moves(&queue) {
                bail!("nobody reads the output; the rest of it is lost");
            }
        }
        drop(queue);
        self.error().context(OUTPUT)
    }
}

impl Drop for Output {
    /// The thread ends once it has written everything, unless it waits for a reader; nobody waits for it.
    fn drop(&mut self) {
        self.shared.lock().thread = Thread::Closes;
        self.shared.filled.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_done` or the thread has ended, and no longer than `patience`.
    fn wait<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        patience: Duration,
        is_done: impl Fn(&Queue) -> bool,
    ) -> MutexGuard<'a, Queue> {
        queue.is_awaited = true;
        let waits = |queue: &mut Queue| !queue.has_failed() && !is_done(queue);
        let waited = self.moved.wait_timeout_while(queue, patience, waits);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.is_awaited = false;
        queue
    }

    /// Writes chunk after chunk by `write`, until there come no more.
    fn write_each(&self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        let mut written = Vec::new();
        while let Some(mut chunk) = self.next(written) {
            let (mut from, mut count) = (0, 0);
            while let Some(rest) = self.rest(&mut chunk, from, count) {
                count = match write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                    Err(error) => return Err(error),
                };
                from += count;
            }
            written = chunk.text;
        }
        Ok(())
    }

    /// Waits for a chunk; `None` where there come no more. What is `written` is a buffer to fill again.
    fn next(&self, mut written: Vec<u8>) -> Option<Chunk> {
        written.clear();
        let mut queue = self.lock();
        if queue.spare.len() < SPARES {
            queue.spare.push(written);
        }
        loop {
            if let Some(chunk) = queue.chunks.pop_front() {
                return Some(chunk);
            }
            if queue.thread == Thread::Closes {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts `count` bytes of `chunk` as written, those up to `from`; what is still to be written, if anything.
    fn rest<'a>(&self, chunk: &'a mut Chunk, from: usize, count: usize) -> Option<&'a [u8]> {
        let mut queue = self.lock();
        queue.bytes -= count;
        queue.written += count as u64;
        if queue.is_cut && chunk.may_drop {
            let line = chunk.text[..from].last().is_some_and(|last| *last != b'\n');
            let end = chunk.text[from..].iter().position(|byte| *byte == b'\n');
            let dropped = chunk
                .text
                .split_off(from + end.filter(|_| line).map_or(0, |end| end + 1));
            queue.bytes -= dropped.len();
            queue.dropped += lines(&dropped);
        }
        if count > 0 {
            self.took.notify_one();
        }
        let is_written = from == chunk.text.len();
        if chunk.may_drop && (is_written || queue.is_cut) {
            chunk.may_drop = false;
            queue.droppable -= 1;
        }
        if queue.is_awaited {
            self.moved.notify_one();
        }
        (!is_written).then_some(&chunk.text[from..])
    }

    /// Lets nobody wait for the thread any more.
    fn fail(&self) {
        self.lock().thread = Thread::Failed;
        self.moved.notify_one();
    }
}

impl Queue {
    fn has_failed(&self) -> bool {
        self.thread == Thread::Failed
    }

    /// Drops what may be dropped.
    fn cut(&mut self) {
        self.is_cut = true;
        for chunk in take(&mut self.chunks) {
            if chunk.may_drop {
                self.droppable -= 1;
                self.bytes -= chunk.text.len();
                self.dropped += lines(&chunk.text);
            } else {
                self.chunks.push_back(chunk);
            }
        }
    }
}

/// How many lines there are in `text`.
fn lines(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes so many bytes at once as it is allowed to, and shows what it took.
    struct Reader {
        allow: Sender<usize>,
        taken: Receiver<Vec<u8>>,
    }

    /// An output with so much room, and its reader.
    fn output(room: usize, is_file: bool) -> (Output, Reader) {
        let (allow, allowed) = channel();
        let (take, taken) = channel();
        let write = move |text: &[u8]| {
            let most: usize = allowed.recv().unwrap_or(usize::MAX);
            let text = &text[..text.len().min(most)];
            let _ = take.send(text.to_vec());
            Ok(text.len())
        };
        let output = Output::writing_by(room, is_file, write).unwrap();
        (output, Reader { allow, taken })
    }

    impl Reader {
        /// Takes `count` bytes.
        fn take(&self, count: usize) -> String {
            self.allow.send(count).unwrap();
            String::from_utf8(self.taken.recv().unwrap()).unwrap()
        }

        /// Takes all there is, until nothing comes.
        fn rest(self) -> String {
            drop(self.allow);
            let rest: Vec<u8> = self.taken.iter().flatten().collect();
            String::from_utf8(rest).unwrap()
        }
    }

    fn print(output: &mut Output, text: &str, is_last: bool) {
        output.text.extend_from_slice(text.as_bytes());
        output.queue(is_last, true).unwrap();
    }

    #[test]
    fn a_reader_that_keeps_up_gets_everything() {
        let (mut output, reader) = output(100, false);
        let reads = std::thread::spawn(move || reader.rest());
        let mut all = String::new();
        for row in 0..1000 {
            let row = format!("row {row}\n");
            while output.shared.lock().bytes > 50 {
                std::thread::yield_now();
            }
            print(&mut output, &row, false);
            all += &row;
        }
        output.finish().unwrap();
        assert_eq!(output.drain_rows().unwrap(), 0);
        drop(output);
        assert_eq!(reads.join().unwrap(), all);
    }

    #[test]
    fn what_finds_no_room_is_dropped_whole_and_counted_but_never_the_last() {
        let (mut output, reader) = output(10, false);
        print(&mut output, "1 a\n2 b\n3 c\n", false);
        print(&mut output, "4 d\n5 e\n", false);
        print(&mut output, "end\n", true);
        let reads = std::thread::spawn(move || reader.rest());
        assert_eq!(output.drain_rows().unwrap(), 2);
        output.finish().unwrap();
        drop(output);
        assert_eq!(reads.join().unwrap(), "1 a\n2 b\n3 c\nend\n");
    }

    #[test]
    fn at_the_end_the_line_that_was_begun_is_completed_and_the_rest_dropped() {
        let (mut output, reader) = output(1000, false);
        print(&mut output, "header\n", true);
        print(&mut output, "1 a\n2 b\n3 c\n", false);
        print(&mut output, "4 d\n", false);
        assert_eq!(reader.take(7), "header\n");
        assert_eq!(reader.take(5), "1 a\n2");
        let slow = std::thread::spawn(move || {
            // It takes the next byte when the second that it has is over.
            std::thread::sleep(LAST_ROWS + LAST_ROWS / 2);
            reader.take(1) + &reader.rest()
        });
        // The byte that the thread is about to write is written before it can know.
        assert_eq!(output.drain_rows().unwrap(), 2);
        print(&mut output, "end\n", true);
        output.finish().unwrap();
        drop(output);
        assert_eq!(slow.join().unwrap(), " b\nend\n");
    }

    #[test]
    fn a_file_takes_everything_and_is_waited_for() {
        let (mut output, reader) = output(10, true);
        let rows = "1 a\n".repeat(ROWS_FOR_FILE / 4);
        print(&mut output, "0 a\n", false);
        assert!(output.has_room());
        print(&mut output, &rows, false);
        print(&mut output, "2 b\n", false);
        assert!(!output.has_room());
        let slow = std::thread::spawn(move || {
            std::thread::sleep(LAST_ROWS + LAST_ROWS / 2);
            reader.rest()
        });
        output.wait_for_room().unwrap();
        assert!(output.has_room());
        assert_eq!(output.drain_rows().unwrap(), 0);
        output.finish().unwrap();
        drop(output);
        assert_eq!(slow.join().unwrap(), format!("0 a\n{rows}2 b\n"));
    }

    #[test]
    fn rows_are_queued_by_the_chunk_and_by_whole_lines() {
        let (mut output, reader) = output(usize::MAX, true);
        let line = "0123456789 abcdef\n";
        let lines = 2 * CHUNK / line.len();
        let mut rows = Rows(&mut output);
        for _ in 0..lines {
            // A view writes a line by its columns.
            rows.write_all(&line.as_bytes()[..10]).unwrap();
            rows.write_all(&line.as_bytes()[10..]).unwrap();
        }
        assert!(output.text.len() < CHUNK, "the rest is queued after the frame");
        output.queue(false, true).unwrap();
        drop(reader.allow);
        let writes = reader.taken;
        output.finish().unwrap();
        drop(output);
        let writes: Vec<Vec<u8>> = writes.iter().collect();
        assert!(writes.len() >= 2 && writes.iter().all(|text| text.ends_with(b"\n")));
        assert!(writes.concat() == line.repeat(lines).as_bytes());
    }

    #[test]
    fn the_loop_wakes_when_a_full_file_took_something_and_not_before() {
        let (mut output, reader) = output(usize::MAX, true);
        print(&mut output, &"1 a\n".repeat(ROWS_FOR_FILE / 4), false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(async {
            let moment = Duration::from_millis(50);
            let full = tokio::time::timeout(moment, output.taken(false)).await;
            assert!(full.is_err(), "it took nothing");
            reader.take(4);
            let took = tokio::time::timeout(STALLED, output.taken(false)).await;
            assert!(matches!(took, Ok(Ok(()))));
            let has_room = tokio::time::timeout(moment, output.taken(true)).await;
            assert!(has_room.is_err());
        });
        drop(reader.allow);
    }

    #[test]
    fn intervals_for_a_file_that_takes_nothing_are_bounded_and_counted() {
        let (mut output, reader) = output(10, true);
        for _ in 0..100 {
            output.text.extend_from_slice(b"interval\n");
            output.queue(false, false).unwrap();
            assert!(output.has_room(), "records go on being read");
        }
        assert!(output.shared.lock().bytes < 2 * 10);
        print(&mut output, "end\n", true);
        let reads = std::thread::spawn(move || reader.rest());
        assert_eq!(output.drain_rows().unwrap(), 98);
        output.finish().unwrap();
        drop(output);
        assert_eq!(reads.join().unwrap(), "interval\ninterval\nend\n");
    }

    #[test]
    fn only_an_output_that_accepts_nothing_is_given_up() {
        let (mut output, reader) = output(1000, false);
        // Nothing is queued, however long that takes.
        std::thread::sleep(STALLED + STALLED / 4);
        output.finish().unwrap();
        print(&mut output, "end\n", true);
        let slow = std::thread::spawn(move || {
            for _ in 0..3 {
                std::thread::sleep(STALLED / 2);
                reader.take(1);
            }
            reader
        });
        let error = output.finish().unwrap_err().to_string();
        assert_eq!(error, "nobody reads the output; the rest of it is lost");
        assert_eq!(output.shared.lock().bytes, 1, "it accepted three bytes");
        drop(slow.join().unwrap());
    }

    #[test]
    fn an_error_of_the_output_is_given_once_and_ends_it() {
        let fails = |_: &[u8]| Err(ErrorKind::StorageFull.into());
        let mut output = Output::writing_by(1000, false, fails).unwrap();
        print(&mut output, "1 a\n", true);
        let error = output.finish().unwrap_err();
        assert_eq!(error.to_string(), OUTPUT);
        print(&mut output, "2 b\n", true);
        output.finish().unwrap();
    }
}
