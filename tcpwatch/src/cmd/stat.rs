//! `tcpwatch stat`: how many connections are in each state, and how fast do they move?

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::OUTPUT;
use super::run::{End, Watched, block_on, watch};
use super::screen::screen;
use crate::cli::StatArgs;
use crate::model::stat::Stat;
use crate::source::ebpf::Needs;
use crate::source::live::Live;
use crate::view::stat;

/// Seconds between rows when nothing is said.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output takes no more.
pub fn run(args: &StatArgs, out: &mut impl Write) -> Result<()> {
    block_on(async {
        let mut end = End::new(args.common.watch.duration)?;
        let Watched {
            kernel,
            filter,
            netns,
            namespaces,
        } = watch(&args.common, Needs::default())?;
        let mut model = Stat::new(kernel.reasons().clone());
        let mut live = Live::start(kernel, filter, netns, namespaces)?;
        let mut view = stat::of(args.common.output.output, screen(args.common.output.color));
        let every = args.interval.map_or(INTERVAL, |interval| interval.0);
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut rows = 0;
        let mut ended = false;
        end.begin();
        loop {
            let mut frame = None;
            live.sample(|input| frame = model.apply(input).or(frame.take()))?;
            if let Some(frame) = frame {
                view.frame(&frame, out).and_then(|()| out.flush()).context(OUTPUT)?;
            }
            rows += 1;
            if ended || args.count == Some(rows) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = end.come() => ended = true,
                _ = ticks.tick() => {}
            }
        }
    })
}
