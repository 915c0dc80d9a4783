//! `tcpwatch trace`: what does each connection do, transition by transition?

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval};

use super::OUTPUT;
use super::run::{End, POLL, Wants, Watched, block_on, watch};
use super::screen::screen;
use crate::cli::TraceArgs;
use crate::clock;
use crate::event::{Event, Record};
use crate::model::filter::owner::OwnerFilter;
use crate::model::pending::Pending;
use crate::model::trace::{Row, TraceTotals};
use crate::source::ebpf::Stream;
use crate::source::living::Living;
use crate::source::namespace::tell_listeners;
use crate::sys::terminal;
use crate::view::Output;
use crate::view::trace::{self, TraceView};

/// Records taken before the output is flushed and the signals are heard.
const BATCH: usize = 16_384;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded, or the output takes no more.
pub fn run(args: &TraceArgs, out: &mut impl Write) -> Result<()> {
    block_on(async {
        let mut end = End::new(args.watch.duration)?;
        let Watched {
            mut kernel,
            filter,
            namespaces,
            ..
        } = watch(&args.filter, &args.watch, Wants::Transitions)?;
        let mut stream = kernel.stream()?;
        let mut printer = Printer {
            view: trace::of(args.output.output, screen(args.output.color)),
            out,
            totals: TraceTotals::default(),
            pending: Pending::new(kernel.reasons().clone()),
            living: Living::new(Path::new("/")),
            wants_cgroup: args.output.output != Output::Text,
            filter: filter.owner,
        };
        printer.begin()?;
        if let Err(why) = tell_listeners(&mut kernel, &namespaces, &mut printer.living) {
            log::warn!("whose the listeners there are is unknown: {why:#}");
        }
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
            more = printer.print(&mut stream, clock::unix_ns())? == BATCH;
            kernel.flush_log();
            if !losing && kernel.lost() > 0 {
                losing = true;
                let _ = writeln!(
                    io::stderr(),
                    "tcpwatch: transitions are being lost: the output is taken too slowly; a filter or a larger --ring-size helps"
                );
            }
        }
        // Nothing comes after this, so what is in the ring and what was counted belong together.
        kernel.detach()?;
        let ledger = kernel.settled_ledger();
        // Nor is there anything to wait for.
        while printer.print(&mut stream, i64::MAX)? > 0 {}
        printer.totals.seen = ledger.moves.iter().flatten().sum();
        printer.totals.lost = ledger.lost + stream.undecoded();
        printer.totals.missed = kernel.missed();
        printer.end()
    })
}

/// Prints events, and counts them.
struct Printer<'a, W> {
    view: Box<dyn TraceView>,
    out: &'a mut W,
    totals: TraceTotals,
    pending: Pending<Event>,
    living: Living,
    wants_cgroup: bool,
    filter: OwnerFilter,
}

impl<W: Write> Printer<'_, W> {
    /// Prints what comes first.
    fn begin(&mut self) -> Result<()> {
        self.view
            .begin(self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }

    /// Takes a batch of what is in the ring, prints what at `unix_ns` nothing will be added to, and flushes; how many records
    /// there were.
    fn print(&mut self, stream: &mut Stream, unix_ns: i64) -> Result<usize> {
        self.living.set_clock();
        let pending = &mut self.pending;
        let taken = stream.drain(BATCH, |record| match record {
            Record::Transition(event) => pending.push(event),
            Record::Amendment(id, evidence) => pending.amend(id, evidence),
            Record::Life(_) => {}
        });
        while let Some((mut event, ended)) = self.pending.next(unix_ns) {
            if let (None, Some(inode)) = (event.owner, event.inode) {
                event.owner = self.living.holder(inode);
            }
            let cgroup = self.cgroup(&event);
            if !self.matches(&event, cgroup.as_ref()) {
                self.totals.unmatched += 1;
                continue;
            }
            self.totals.printed += 1;
            let row = Row {
                what: event,
                ended,
                cgroup,
            };
            self.view.event(&row, self.out).context(OUTPUT)?;
        }
        self.out.flush().context(OUTPUT)?;
        Ok(taken)
    }

    /// The cgroup of the event's owner, where somebody will look at it.
    fn cgroup(&mut self, event: &Event) -> Option<Arc<str>> {
        if self.wants_cgroup || !self.filter.cgroups.is_empty() {
            self.living.cgroup(event)
        } else {
            None
        }
    }

    /// Whether it belongs to whom the user asks for.
    fn matches(&self, event: &Event, cgroup: Option<&Arc<str>>) -> bool {
        self.filter == OwnerFilter::default()
            || event
                .owner
                .is_some_and(|owner| self.filter.matches(owner.pid, &owner.comm, || cgroup.cloned()))
    }

    /// Prints what it all adds up to.
    fn end(&mut self) -> Result<()> {
        self.view
            .end(&self.totals, self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }
}
