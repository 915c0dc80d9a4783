//! The loop of every command that watches: it waits for what there is to read, for the end of an interval and for the end, and passes
//! what the source reads to the model, and what the model has to show to the view.

mod output;
mod run_end;

use std::future::pending;
use std::io::{self, Write};
use std::mem::replace;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep, sleep_until};

use self::output::{Output, Rows};
use self::run_end::RunEnd;
use crate::detect::{self, Detector};
use crate::input::Input;
use crate::input::needs::Needs;
use crate::input::socket_scan::SocketScan;
use crate::model::filter::owner::OwnerFilter;
use crate::model::world::World;
use crate::source::live::{Live, Options, Ready, scan_once};
use crate::source::owners::ensure_match;
use crate::source::socket_scan::ScansBefore;
use crate::sys::{descriptor_limit, terminal};
use crate::view::View;

/// What fails when the output takes no more.
pub const OUTPUT: &str = "cannot write the output";

/// How often the stream is read unasked: half of the 100 ms that output may be late.
const POLL: Duration = Duration::from_millis(50);

/// How often latency histograms are read. The kernel side keeps only the times of this period.
const READ_LATENCY: Duration = Duration::from_secs(1);

/// How long the beginning waits for the owners of the sockets that listen already.
const SEEDING: Duration = Duration::from_secs(1);

/// How often it is looked whether what is waited for is there.
const MOMENT: Duration = Duration::from_millis(1);

/// How long the end waits for a scan of /proc: less than a command may take to print its last.
const LAST_SCAN: Duration = Duration::from_secs(1);

/// How long the end waits in addition for the names of functions, which are what `--stacks` is for.
const LAST_NAMES: Duration = Duration::from_secs(4);

/// Batches of records read at most before an interval ends: under a flood it would never end.
const BATCHES: u32 = 64;

/// Descriptors that a runtime and its signals take: without them tokio panics.
const RUNTIME_DESCRIPTORS: u64 = 8;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to watch.
    pub options: Options,
    /// What the view needs.
    pub needs: Needs,
    /// The length of an interval; `None` for one from the start to the end.
    pub interval: Option<Duration>,
    /// Intervals to show; `None` for as many as there are.
    pub count: Option<u64>,
    /// How long to run; `None` until a signal comes.
    pub duration: Option<Duration>,
}

/// Runs `plan` until its end, and shows on standard output what there is by `view`.
///
/// # Errors
/// The kernel side cannot be loaded or read, the output takes no more, or nothing matched the filter on owners.
pub fn run(plan: &Plan, view: &mut dyn View) -> Result<()> {
    // The process ends, and the kernel detaches faster than we do.
    run_until_end(plan, view, &mut |_| {}, std::mem::forget)
}

/// The same, for a process that goes on. It shows every input to `observe` before the model takes it.
///
/// # Errors
/// As there.
pub fn run_observed(plan: &Plan, view: &mut dyn View, observe: &mut dyn FnMut(&Input)) -> Result<()> {
    run_until_end(plan, view, observe, drop)
}

fn run_until_end(
    plan: &Plan,
    view: &mut dyn View,
    observe: &mut dyn FnMut(&Input),
    dispose: impl FnOnce(Live),
) -> Result<()> {
    block_on(async {
        let end = RunEnd::new(plan.duration)?;
        let source = Live::start(&plan.options, plan.needs)?;
        let mut run = Run {
            source,
            end,
            sink: Sink::new(plan, view, Output::start(plan.options.ring_bytes)?, observe),
            is_losing: false,
        };
        let ran = run.whole(plan.interval).await;
        let finished = run.sink.out.finish();
        let ended = ran
            .and(finished)
            .and_then(|()| run.ensure_match(&plan.options.filter.owner));
        dispose(run.source);
        ended
    })
}

/// Shows what one scan of stuck sockets finds, and waits for the reader of `out` as long as that takes.
///
/// # Errors
/// No process matches the filter, sockets or processes cannot be read, or the output takes no more.
pub fn run_once(plan: &Plan, view: &mut dyn View, out: &mut dyn Write) -> Result<()> {
    ensure_match(Path::new("/"), &plan.options.filter.owner)?;
    let mut observe = |_: &Input| {};
    let mut sink = Sink::new(plan, view, out, &mut observe);
    sink.begin()?;
    scan_once(&plan.options, plan.needs, &mut |input| sink.take(input))?;
    sink.shown()
}

/// Runs `work` on a runtime of one thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    descriptor_limit::ensure_free(RUNTIME_DESCRIPTORS)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(work)
}

/// A run under way.
struct Run<'a> {
    source: Live,
    end: RunEnd,
    sink: Sink<'a, Output>,
    /// Whether it was said that records are being lost.
    is_losing: bool,
}

/// Passes inputs to the model, and its frames to the view.
struct Sink<'a, O> {
    world: World,
    detectors: Vec<Box<dyn Detector>>,
    view: &'a mut dyn View,
    out: O,
    observe: &'a mut dyn FnMut(&Input),
    /// Intervals shown.
    intervals: u64,
    /// Intervals to show.
    most: Option<u64>,
    /// Whether the run ends, and what it shows of intervals is the last of them.
    is_ending: bool,
    /// Whether a frame had anything of an owner that was asked for.
    has_matched: bool,
    /// What the run left out for its owners.
    unmatched: Option<String>,
    /// The first error of the output.
    shown: Result<()>,
}

/// Why the loop woke up.
enum Wake {
    /// The source has something.
    Source(Ready),
    /// An interval is over.
    Interval,
    /// Latency histograms are due to be read.
    Latency,
    /// The run is.
    RunEnd,
}

/// Where the text of a view goes, frame by frame.
trait Print {
    /// Prints what `write` writes, whole lines, `rows` of them if they are of single transitions or connections. What is not the last of
    /// a run may be dropped.
    fn print(
        &mut self,
        is_last: bool,
        rows: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()>;
}

impl Print for Output {
    fn print(
        &mut self,
        is_last: bool,
        rows: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if rows == 0 {
            write(&mut self.text)?;
        } else if self.is_dropping() {
            self.drop_rows(rows);
        } else {
            write(&mut Rows(self))?;
        }
        self.queue(is_last, rows > 0)
    }
}

impl Print for &mut dyn Write {
    fn print(&mut self, _: bool, _: u64, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        write(self)?;
        self.flush()
    }
}

impl Run<'_> {
    async fn whole(&mut self, interval: Option<Duration>) -> Result<()> {
        self.begin().await?;
        self.follow(interval).await?;
        self.sink.is_ending = true;
        Box::pin(self.end()).await
    }

    /// Shows what comes before the first interval.
    async fn begin(&mut self) -> Result<()> {
        self.sink.take(Input::Session(Box::new(self.source.session())));
        // The first is what the later ones are compared with.
        self.end.begin();
        self.apply_each(Live::walk_ports)?;
        if self.source.has_counts() {
            // Records that came before the first counters belong to no interval.
            self.read_batches()?;
        }
        let mut base = Vec::new();
        self.source.end_interval(&mut |input| base.push(input))?;
        let patience = Instant::now() + SEEDING;
        // Not at the cost of records.
        while self.source.is_seeding() && Instant::now() < patience && self.source.kernel().lost() == 0 {
            sleep(MOMENT).await;
        }
        // A view may print now that it is watching, so only now.
        self.sink.begin()?;
        for input in base {
            self.sink.take(input);
        }
        self.sink.shown()
    }

    /// Shows interval after interval, and records as they come, until the end comes.
    async fn follow(&mut self, every: Option<Duration>) -> Result<()> {
        let mut ticks = every.map(|every| {
            let mut ticks = interval_at(Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut latency = interval(READ_LATENCY);
        latency.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut more = false;
        while !self.sink.is_complete() && !terminal::reader_gone() {
            let interval_over = async {
                match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => pending().await,
                }
            };
            // While the output has no room, records wait in the ring, and answers in their channel.
            let has_room = self.sink.out.has_room();
            let streams = self.source.streams();
            let measures = self.source.measures_latency();
            let wake = tokio::select! {
                biased;
                () = self.end.wait() => Wake::RunEnd,
                _ = interval_over => Wake::Interval,
                _ = latency.tick(), if measures => Wake::Latency,
                taken = self.sink.out.taken(has_room) => {
                    taken.context(OUTPUT)?;
                    Wake::Source(Ready::Records)
                }
                ready = self.source.ready(), if has_room => Wake::Source(ready?),
                // Signals, timers and other threads are seen to between batches.
                () = yield_now(), if more => Wake::Source(Ready::Records),
                _ = poll.tick(), if streams => Wake::Source(Ready::Records),
            };
            match wake {
                Wake::RunEnd => return Ok(()),
                Wake::Interval => {
                    // Records and counters are read one right after the other, so that they are of the same moment.
                    self.apply_each(Live::walk_ports)?;
                    more = self.read_batches()?;
                    self.end_interval()?;
                    latency.reset();
                }
                Wake::Latency => self.apply_each(Live::read_latency)?,
                Wake::Source(Ready::Scan(found)) => {
                    more = self.read_batches()?;
                    if self.end_scan(*found)? && self.source.only_scans_stuck() {
                        // The time asked for is that of the watch, which begins now. All else is watched since the start.
                        ticks.as_mut().map(Interval::reset);
                        self.end.count_from_now();
                    }
                }
                Wake::Source(Ready::Records) => more = self.read_stream()?,
            }
        }
        Ok(())
    }

    /// Shows all that came until the end, and what it adds up to.
    async fn end(&mut self) -> Result<()> {
        if self.sink.is_complete() {
            self.source.warn_of_no_room();
            return Ok(());
        }
        if self.source.scans_stuck() {
            self.last_scan().await?;
        }
        if !self.source.has_stream() {
            // What is counted ends with the hook, and sockets go on.
            self.end_interval()?;
        }
        // Nothing comes after this, so that what is in the ring and what was counted belong together.
        let mut counts = self.source.detach()?;
        self.read_rest()?;
        self.last_answers().await?;
        self.apply(Input::StreamEnd)?;
        if self.source.has_stream() {
            self.end_interval()?;
            self.last_answers().await?;
        }
        self.source.warn_of_no_room();
        counts.dropped = self.sink.out.drain_rows()?;
        self.apply(Input::End(Box::new(counts)))
    }

    /// Checks that `filter` has matched something, or that a process was there which it selects.
    fn ensure_match(&self, filter: &OwnerFilter) -> Result<()> {
        if self.sink.has_matched || !self.source.misses_process() {
            return Ok(());
        }
        let flags = filter.flags();
        let others = self.sink.unmatched.as_ref();
        let others = others.map_or_else(String::new, |count| format!(": other or unknown owners had {count}"));
        bail!("nothing matched{flags}{others}; try tcpwatch snapshot --by process")
    }

    /// Waits for the answers about owners that come in time; there is no other.
    async fn last_answers(&mut self) -> Result<()> {
        let patience = Instant::now() + LAST_SCAN;
        while self.source.awaits_answers() && Instant::now() < patience {
            sleep(MOMENT).await;
            self.read_rest()?;
        }
        self.apply_each(|source, each| {
            source.stop_waiting(each);
            Ok(())
        })
    }

    /// Shows what a last scan of stuck sockets finds, if it is over in time.
    async fn last_scan(&mut self) -> Result<()> {
        let end = Instant::now() + LAST_SCAN;
        let mut is_base = true;
        while is_base {
            self.apply_each(|source, each| {
                source.begin_scan(each);
                Ok(())
            })?;
            if !self.source.is_scanning() {
                return Ok(());
            }
            let found = loop {
                let patience = if self.source.is_naming() { end + LAST_NAMES } else { end };
                tokio::select! {
                    biased;
                    ready = self.source.ready() => if let Ready::Scan(found) = ready? {
                        break found;
                    },
                    () = sleep_until(patience) => {
                        if let Some(found) = self.source.unnamed_scan() {
                            break Box::new(found);
                        }
                        log::warn!("the last scan did not finish within 1 s; the report above is from the scan before");
                        return Ok(());
                    }
                    () = sleep(POLL) => {}
                }
                self.read_stream()?;
            };
            self.read_batches()?;
            is_base = self.end_scan(*found)?;
        }
        Ok(())
    }

    fn apply(&mut self, input: Input) -> Result<()> {
        self.apply_each(|_, each| {
            each(input);
            Ok(())
        })
    }

    /// Reads all records that are left.
    fn read_rest(&mut self) -> Result<()> {
        loop {
            self.sink.out.wait_for_room()?;
            if !self.read_stream()? {
                return Ok(());
            }
        }
    }

    /// Reads a batch of records, if there is room for them, and shows what there is to show by then; whether there may be more.
    fn read_stream(&mut self) -> Result<bool> {
        if !self.sink.out.has_room() {
            return Ok(false);
        }
        let mut more = false;
        self.apply_each(|source, each| {
            more = source.read_stream(each);
            Ok(())
        })?;
        if !self.is_losing && self.source.kernel().lost() > 0 {
            self.is_losing = true;
            let _ = writeln!(
                io::stderr(),
                "tcpwatch: records are being lost: tcpwatch is too slow; try a filter or a larger --ring-size"
            );
        }
        Ok(more)
    }

    /// Reads what records there are, within reason; whether there may be more.
    fn read_batches(&mut self) -> Result<bool> {
        for _ in 0..BATCHES {
            if !self.read_stream()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Shows what a scan found; whether it is what later ones are compared with.
    fn end_scan(&mut self, found: (SocketScan, ScansBefore)) -> Result<bool> {
        let mut is_base = false;
        self.apply_each(|source, each| {
            is_base = source.end_scan(found, each);
            Ok(())
        })?;
        Ok(is_base)
    }

    /// Reads what is read at the end of an interval, and shows it.
    fn end_interval(&mut self) -> Result<()> {
        self.apply_each(Live::end_interval)
    }

    /// Passes what `read` reads to the model, and shows what there is to show by then.
    fn apply_each(&mut self, read: impl FnOnce(&mut Live, &mut dyn FnMut(Input)) -> Result<()>) -> Result<()> {
        let Self { source, sink, .. } = self;
        read(source, &mut |input| sink.take(input))?;
        sink.shown()
    }
}

impl<'a, O: Print> Sink<'a, O> {
    fn new(plan: &Plan, view: &'a mut dyn View, out: O, observe: &'a mut dyn FnMut(&Input)) -> Self {
        Self {
            world: World::new(plan.needs, plan.options.filter.clone()),
            detectors: detect::all(),
            view,
            out,
            observe,
            intervals: 0,
            most: plan.count,
            is_ending: false,
            has_matched: false,
            unmatched: None,
            shown: Ok(()),
        }
    }

    fn begin(&mut self) -> Result<()> {
        let Self { view, out, .. } = self;
        out.print(true, 0, |out| view.begin(out)).context(OUTPUT)
    }

    fn take(&mut self, input: Input) {
        (self.observe)(&input);
        let Some(frame) = self.world.apply(input) else { return };
        self.has_matched |= frame.has_match();
        self.unmatched = frame.unmatched();
        if self.shown.is_err() {
            return;
        }
        let mut findings = Vec::new();
        if frame.is_interval() {
            self.intervals += 1;
            findings = detect::inspect(&mut self.detectors, frame);
        }
        let is_complete = self.most.is_some_and(|most| self.intervals >= most);
        let rows = frame.rows();
        let is_last = (self.is_ending || is_complete) && rows == 0;
        let Self { view, out, .. } = self;
        let shown = out.print(is_last, rows, |out| view.frame(frame, &findings, out));
        self.shown = shown.context(OUTPUT);
    }

    /// Whether all was shown that was to be so far.
    fn shown(&mut self) -> Result<()> {
        replace(&mut self.shown, Ok(()))
    }

    /// Whether as many intervals were shown as were asked for.
    fn is_complete(&self) -> bool {
        self.most.is_some_and(|most| self.intervals >= most)
    }
}
