//! `tcpwatch latency`: how long do connections stay in a state, how long do handshakes take?

use std::future::pending;
use std::io::Write;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::OUTPUT;
use super::run::{End, Watched, block_on, warn_of_listeners, warn_of_no_room, watch};
use super::screen::screen;
use crate::cli::LatencyArgs;
use crate::clock;
use crate::model::latency::Latency;
use crate::source::ebpf::Needs;
use crate::source::namespace::tell_listeners;
use crate::view::latency;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output takes no more.
pub fn run(args: &LatencyArgs, out: &mut impl Write) -> Result<()> {
    block_on(async {
        let mut end = End::new(args.common.watch.duration)?;
        let by = args.by.unwrap_or_default();
        let Watched {
            mut kernel, namespaces, ..
        } = watch(
            &args.common,
            Needs {
                owners: true,
                latency: Some(by),
                ..Needs::default()
            },
        )?;
        let mut model = Latency::new(by, clock::monotonic_ns());
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let mut view = latency::of(args.common.output.output, limit, screen(args.common.output.color));
        warn_of_listeners(&tell_listeners(&mut kernel, &namespaces));
        // What cannot be read is said now, and not after the first interval.
        kernel.latency(by)?;
        end.begin();
        view.begin(out).and_then(|()| out.flush()).context(OUTPUT)?;
        let mut ticks = args.interval.map(|every| {
            let mut ticks = interval_at(Instant::now() + every.0, every.0);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        let mut printed = 0;
        loop {
            let tick = async {
                match &mut ticks {
                    Some(ticks) => ticks.tick().await,
                    None => pending().await,
                }
            };
            let ended = tokio::select! {
                biased;
                () = end.come() => true,
                _ = tick => false,
            };
            if ended {
                kernel.detach()?;
            }
            kernel.flush_log();
            let frame = model.frame(kernel.latency(by)?, clock::now(), clock::monotonic_ns());
            view.frame(&frame, out).and_then(|()| out.flush()).context(OUTPUT)?;
            printed += 1;
            if ended || args.count == Some(printed) {
                warn_of_no_room(&kernel);
                return Ok(());
            }
        }
    })
}
