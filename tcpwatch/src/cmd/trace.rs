//! `tcpwatch trace`: what does each connection do, transition by transition; or, once it is over, what did it do?

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::OUTPUT;
use super::run::{End, POLL, Watched, block_on, warn_of_listeners, warn_of_no_room, watch};
use super::screen::screen;
use crate::cli::TraceArgs;
use crate::clock;
use crate::event::{Event, Life, Record};
use crate::model::filter::owner::OwnerFilter;
use crate::model::owner::Owner;
use crate::model::pending::Pending;
use crate::model::trace::{Row, TraceTotals, Traced};
use crate::source::ebpf::{Kernel, Needs, Stream};
use crate::source::living::Living;
use crate::source::namespace::Early;
use crate::sys::terminal;
use crate::view::trace::{self, TraceView};

/// Records taken before the output is flushed and the signals are heard.
const BATCH: usize = 16_384;

/// How long the end waits for a scan of /proc: less than a command may take to say its last.
const LAST_SCAN: Duration = Duration::from_secs(1);

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded, or the output takes no more.
pub fn run(args: &TraceArgs, out: &mut impl Write) -> Result<()> {
    let (output, screen) = (args.common.output.output, screen(args.common.output.color));
    if args.lives {
        follow::<Life>(
            args,
            Needs {
                connections: true,
                owners: true,
                ..Needs::default()
            },
            trace::of(output, screen),
            out,
        )
    } else {
        follow::<Event>(
            args,
            Needs {
                transitions: true,
                owners: true,
                ..Needs::default()
            },
            trace::of(output, screen),
            out,
        )
    }
}

/// Prints by `view` what the stream carries, until the end comes.
fn follow<T: Traced>(args: &TraceArgs, needs: Needs, view: Box<dyn TraceView<T>>, out: &mut impl Write) -> Result<()> {
    block_on(async {
        let mut end = End::new(args.common.watch.duration)?;
        let Watched {
            mut kernel,
            filter,
            namespaces,
            ..
        } = watch(&args.common, needs)?;
        let mut stream = kernel.stream()?;
        let mut printer = Printer {
            view,
            out,
            totals: TraceTotals::default(),
            pending: Pending::new(kernel.reasons().clone(), kernel.unheard_resets()),
            living: Living::new(Path::new("/")),
            filter: filter.owner,
        };
        end.begin();
        printer.begin()?;
        let mut early = Some(Early::find(&namespaces));
        // Also where nobody listens: who holds what is open is known then, and may not be when it is closed.
        printer.living.scan();
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut more, mut losing) = (false, false);
        loop {
            let ended = tokio::select! {
                biased;
                () = end.come() => true,
                // A batch was not all there was.
                () = std::future::ready(()), if more => false,
                filled = stream.filled() => { filled?; false }
                _ = poll.tick() => false,
            };
            if ended || terminal::reader_gone() {
                break;
            }
            printer.living.catch_up();
            if !printer.living.is_scanning()
                && let Some(early) = early.take()
            {
                warn_of_listeners(&early.and_then(|early| early.tell(&mut kernel, printer.living.owners()?)));
            }
            more = printer.print(&mut stream, &kernel, clock::unix_ns())? == BATCH;
            kernel.flush_log();
            if !losing && kernel.lost() > 0 {
                losing = true;
                let _ = writeln!(
                    io::stderr(),
                    "tcpwatch: {} are being lost: the output is taken too slowly; a filter or a larger --ring-size helps",
                    T::MANY
                );
            }
        }
        // Nothing comes after this, so what is in the ring and what was counted belong together.
        kernel.detach()?;
        end.progressed();
        let ledger = kernel.settled_ledger();
        end.progressed();
        // Nor is there anything to wait for, but a scan that is under way.
        let patience = Instant::now() + LAST_SCAN;
        while printer.print(&mut stream, &kernel, i64::MAX)? > 0 || !printer.pending.is_empty() {
            end.progressed();
            printer.living.catch_up();
            if Instant::now() >= patience {
                printer.living.stop_scanning();
            } else if !printer.pending.is_empty() {
                poll.tick().await;
            }
        }
        warn_of_no_room(&kernel);
        printer.totals.seen = T::seen(&ledger.moves);
        printer.totals.lost = ledger.lost + stream.undecoded();
        printer.totals.missed = kernel.missed();
        let ended = printer.end();
        // The process ends, and the kernel detaches faster than we do.
        std::mem::forget(kernel);
        ended
    })
}

/// Prints what a trace is of, and counts it.
struct Printer<'a, W, T> {
    view: Box<dyn TraceView<T>>,
    out: &'a mut W,
    totals: TraceTotals,
    pending: Pending<T>,
    living: Living,
    filter: OwnerFilter,
}

impl<W: Write, T: Traced> Printer<'_, W, T> {
    /// Prints what comes first.
    fn begin(&mut self) -> Result<()> {
        self.view
            .begin(self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }

    /// Takes a batch of what is in the ring, prints what at `unix_ns` nothing will be added to, and flushes; how many records
    /// there were.
    fn print(&mut self, stream: &mut Stream, kernel: &Kernel, unix_ns: i64) -> Result<usize> {
        let pending = &mut self.pending;
        let taken = stream.drain(BATCH, |record| match record {
            Record::Amendment(id, evidence) => pending.amend(id, evidence),
            record => {
                if let Some(what) = T::of(record) {
                    pending.push(what);
                }
            }
        });
        self.pending.unheard(kernel.unheard_resets(), taken < BATCH);
        while let Some((what, ended)) = self.pending.next(unix_ns, |what| self.living.settle(what.event_mut())) {
            let closer = what.closer();
            let event = what.event();
            let (owner, at) = (event.owner, event.unix_ns);
            if !self.filter.is_any() && !self.is_asked_for(owner, at) && !self.is_asked_for(closer, at) {
                self.totals.unmatched += 1;
                continue;
            }
            self.totals.printed += 1;
            let cgroup = owner.and_then(|owner| self.living.cgroup(&owner, at));
            let row = Row { what, ended, cgroup };
            self.view.row(&row, self.out).context(OUTPUT)?;
        }
        self.out.flush().context(OUTPUT)?;
        Ok(taken)
    }

    /// Whether the user asks for `process`, which had the connection at `unix_ns`.
    fn is_asked_for(&mut self, process: Option<Owner>, unix_ns: i64) -> bool {
        let Self { filter, living, .. } = self;
        process.is_some_and(|process| filter.matches(process.pid, &process.comm, || living.cgroup(&process, unix_ns)))
    }

    /// Prints what it all adds up to.
    fn end(&mut self) -> Result<()> {
        self.view
            .end(&self.totals, self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }
}
