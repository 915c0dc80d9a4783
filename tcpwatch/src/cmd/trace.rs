//! `tcpwatch trace`: what does each connection do, transition by transition?

use std::io::{self, Write};

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval};

use super::OUTPUT;
use super::run::{End, POLL, Watched, block_on, watch};
use super::screen::screen;
use crate::cli::TraceArgs;
use crate::model::trace::TraceTotals;
use crate::source::ebpf::Stream;
use crate::sys::terminal;
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
        let Watched { mut kernel, .. } = watch(&args.filter, &args.watch, true)?;
        let mut stream = kernel.stream()?;
        let mut printer = Printer {
            view: trace::of(args.output.output, screen(args.output.color)),
            out,
            totals: TraceTotals::default(),
        };
        printer.begin()?;
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
            more = printer.print(&mut stream)? == BATCH;
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
        while printer.print(&mut stream)? > 0 {}
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
}

impl<W: Write> Printer<'_, W> {
    /// Prints what comes first.
    fn begin(&mut self) -> Result<()> {
        self.view
            .begin(self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }

    /// Prints a batch of what is in the ring, and flushes; how many there were.
    fn print(&mut self, stream: &mut Stream) -> Result<usize> {
        let mut result: io::Result<()> = Ok(());
        let Self { view, out, totals } = self;
        let taken = stream.drain(BATCH, |event| {
            if result.is_ok() {
                result = view.event(event, *out);
                totals.printed += 1;
            }
        });
        result.and_then(|()| out.flush()).context(OUTPUT)?;
        Ok(taken)
    }

    /// Prints what it all adds up to.
    fn end(&mut self) -> Result<()> {
        self.view
            .end(&self.totals, self.out)
            .and_then(|()| self.out.flush())
            .context(OUTPUT)
    }
}
