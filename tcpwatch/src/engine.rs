//! The loop of every command that watches: it waits for what there is to read, for the end of an interval and for the end, and passes
//! what the source reads to the model, and what the model has to show to the view.

mod output;
mod replay;
mod run_end;
mod sink;

use std::future::pending;
use std::io::{self, Write};
use std::mem::forget;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, sleep, sleep_until};

use self::output::Output;
pub use self::replay::{Replay, SelectedConnections};
use self::run_end::RunEnd;
use self::sink::Sink;
use crate::input::Input;
use crate::input::needs::Needs;
use crate::input::socket_scan::SocketScan;
use crate::model::filter::owner::OwnerFilter;
use crate::record::{Header, Kept, Recorder};
use crate::source::live::{Live, Options, Ready, scan_once};
use crate::source::owners::ensure_match;
use crate::source::socket_scan::ScansBefore;
use crate::sys::{caps, descriptor_limit, terminal};
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
    /// What is read.
    pub needs: Needs,
    /// What of it the view needs.
    pub shows: Needs,
    /// The length of an interval; `None` for one from the start to the end.
    pub interval: Option<Duration>,
    /// Intervals to show; `None` for as many as there are.
    pub count: Option<u64>,
    /// How long to run; `None` until a signal comes.
    pub duration: Option<Duration>,
    /// Whether the view starts a program, which may need any privilege that this process has.
    pub starts_program: bool,
    /// The recording to make of the run; `None` for none.
    pub record: Option<Recorded>,
}

/// A recording that is to be made.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The directory.
    pub dir: PathBuf,
    /// What it says of the run.
    pub header: Header,
    /// How much of it is kept while it goes on; `None` for all.
    pub kept: Option<Kept>,
}

/// Where the inputs of a run come from.
pub enum Origin {
    /// The running kernel.
    Kernel,
    /// A recording.
    Recording(Box<Replay>),
}

impl Plan {
    /// Whether it watches, until an end or a signal; else it is one scan of stuck sockets.
    fn is_watching(&self) -> bool {
        self.interval.is_some() || !self.needs.only_stuck()
    }
}

/// Runs `plan` until its end, and shows on standard output what there is by `view`. `out` is standard output too, for what is not live: it
/// is waited for.
///
/// # Errors
/// The kernel side cannot be loaded or read, the output or the recording takes no more, the recording that is shown is damaged, or nothing
/// matched the filter on owners.
pub fn run(plan: &Plan, view: &mut dyn View, origin: Origin, out: &mut dyn Write) -> Result<()> {
    match origin {
        Origin::Kernel if plan.is_watching() => recorded(plan, |observe| {
            run_until_end(plan, view, observe, Afterwards::ProcessEnds)
        }),
        Origin::Kernel => run_once(plan, view, out),
        Origin::Recording(replay) => replay.show(plan, view, out),
    }
}

/// The same, for a process that goes on. It shows every input to `observe` before the model takes it.
///
/// # Errors
/// As there, and those of `observe`.
pub fn run_observed(plan: &Plan, view: &mut dyn View, observe: Observe) -> Result<()> {
    run_until_end(plan, view, observe, Afterwards::ProcessGoesOn)
}

/// What follows a run.
#[derive(Clone, Copy, PartialEq)]
enum Afterwards {
    /// What only loading needs is given up after it, and at the end the kernel detaches faster than we do.
    ProcessEnds,
    /// It keeps its privileges, and nothing of the run.
    ProcessGoesOn,
}

/// What is shown each input of a run, and can end it.
type Observe<'a> = &'a mut dyn FnMut(&Input) -> Result<()>;

/// Does `work` with what observes it, which records it where `plan` says so.
fn recorded(plan: &Plan, work: impl FnOnce(Observe) -> Result<()>) -> Result<()> {
    let Some(Recorded { dir, header, kept }) = &plan.record else {
        return work(&mut |_| Ok(()));
    };
    let mut recorder = Recorder::create(dir, header, *kept)?;
    let worked = work(&mut |input| recorder.take(input));
    // A recording that failed is not hidden by an output that nobody reads any more.
    recorder.finish(worked.is_ok()).and(worked)
}

fn run_until_end(plan: &Plan, view: &mut dyn View, observe: Observe, afterwards: Afterwards) -> Result<()> {
    block_on(async {
        let end = RunEnd::new(plan.duration)?;
        let gives_up = afterwards == Afterwards::ProcessEnds && !plan.starts_program;
        let source = Live::start(&plan.options, plan.needs, if gives_up { caps::keep } else { |_| () })?;
        let mut run = Run {
            source,
            end,
            sink: Sink::new(plan, view, Output::start(plan.options.ring_bytes)?, observe),
            is_losing: false,
            is_recorded: plan.record.is_some(),
        };
        let ran = run.whole(plan.interval).await;
        let finished = run.sink.out.finish();
        let ended = ran
            .and(finished)
            .and_then(|()| run.ensure_match(&plan.options.filter.owner));
        match afterwards {
            Afterwards::ProcessEnds => forget(run.source),
            Afterwards::ProcessGoesOn => drop(run.source),
        }
        ended
    })
}

/// Shows what one scan of stuck sockets finds.
fn run_once(plan: &Plan, view: &mut dyn View, out: &mut dyn Write) -> Result<()> {
    ensure_match(Path::new("/"), &plan.options.filter.owner)?;
    recorded(plan, |observe| {
        let mut sink = Sink::new(plan, view, out, observe);
        sink.begin()?;
        scan_once(&plan.options, plan.needs, &mut |input| sink.take(input))?;
        sink.shown()
    })
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
    is_recorded: bool,
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
        while !self.sink.is_complete() && !self.sink.is_done() && !terminal::reader_gone() {
            let interval_over = async {
                match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => pending().await,
                }
            };
            // While the output has no room, records wait in the ring, and answers in their channel.
            let has_room = self.sink.out.has_room();
            // A recording is written by the ticks of readings.
            let polls = self.source.streams() || self.is_recorded;
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
                _ = poll.tick(), if polls => Wake::Source(Ready::Records),
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
                        log::warn!("the last scan did not finish within 1 s and is left out");
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
