//! `tcpwatch churn`: who makes short-lived connections, where does TIME_WAIT come from, when do ports run out?

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::OUTPUT;
use super::run::{End, POLL, Watched, block_on, warn_of_listeners, warn_of_no_room, watch};
use super::screen::screen;
use crate::cli::ChurnArgs;
use crate::clock;
use crate::diagnose::{self, Frame};
use crate::event::{Life, Record};
use crate::model::churn::Churn;
use crate::model::pending::Pending;
use crate::model::stat::{Stat, StatFrame};
use crate::source::ebpf::{Kernel, Needs, Stream};
use crate::source::live::Live;
use crate::source::namespace::tell_listeners;
use crate::view::churn;

/// Seconds between reports when nothing is said.
const INTERVAL: Duration = Duration::from_secs(10);

/// Records taken before the signals are heard.
const BATCH: usize = 16_384;

/// Runs the command until its end comes.
///
/// # Errors
/// The kernel side cannot be loaded or read, or the output takes no more.
pub fn run(args: &ChurnArgs, out: &mut impl Write) -> Result<()> {
    block_on(async {
        let mut end = End::new(args.common.watch.duration)?;
        let Watched {
            mut kernel,
            filter,
            netns,
            namespaces,
        } = watch(
            &args.common,
            Needs {
                openings: true,
                connections: true,
                owners: true,
                ..Needs::default()
            },
        )?;
        warn_of_listeners(&tell_listeners(&mut kernel, &namespaces));
        let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
        let mut view = churn::of(args.common.output.output, limit, screen(args.common.output.color));
        let (reasons, unheard) = (kernel.reasons().clone(), kernel.unheard_resets());
        let mut stat = Stat::new(reasons.clone());
        let mut stream = kernel.stream()?;
        let mut live = Live::start(kernel, filter, netns, namespaces)?;
        let mut connections = Connections {
            pending: Pending::new(reasons, unheard),
            churn: Churn::new(clock::monotonic_ns()),
        };
        // The first is what the later ones are compared with.
        sample(&mut live, &mut stat, &mut connections.churn, &end)?;
        end.begin();
        view.begin(out).and_then(|()| out.flush()).context(OUTPUT)?;
        let every = args.interval.map_or(INTERVAL, |interval| interval.0);
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut detectors = diagnose::all();
        let (mut printed, mut losing) = (0, false);
        let mut more = false;
        loop {
            let (ended, tick) = tokio::select! {
                biased;
                () = end.come() => (true, true),
                _ = ticks.tick() => (false, true),
                () = std::future::ready(()), if more => (false, false),
                filled = stream.filled() => { filled?; (false, false) }
                _ = poll.tick() => (false, false),
            };
            more = connections.take(&mut stream, live.kernel(), clock::unix_ns()) == BATCH;
            if !losing && live.kernel().lost() > 0 {
                losing = true;
                let _ = writeln!(
                    io::stderr(),
                    "tcpwatch: connections are being lost: too many for this machine; a filter or a larger --ring-size helps"
                );
            }
            if !tick {
                continue;
            }
            if ended {
                // What is in the ring belongs to the interval that ends, and nothing comes to it any more.
                live.detach()?;
                while connections.take(&mut stream, live.kernel(), i64::MAX) > 0 {
                    end.progressed();
                }
            }
            if let Some(frame) = sample(&mut live, &mut stat, &mut connections.churn, &end)? {
                let lost = live.kernel().lost() + stream.undecoded();
                let frame = connections
                    .churn
                    .frame(frame, clock::unix_ns(), clock::monotonic_ns(), lost);
                let findings = diagnose::look(&mut detectors, Frame::Churn(&frame));
                view.frame(&frame, &findings, out)
                    .and_then(|()| out.flush())
                    .context(OUTPUT)?;
                printed += 1;
            }
            if ended || args.count == Some(printed) {
                warn_of_no_room(live.kernel());
                return Ok(());
            }
        }
    })
}

/// Reads the host's numbers; the frame they make. On a host of many sockets this takes a while, of which `end` is told.
fn sample(live: &mut Live, stat: &mut Stat, churn: &mut Churn, end: &End) -> Result<Option<StatFrame>> {
    end.progressed();
    if let Some(ports) = live.ports()? {
        churn.walked(ports, clock::monotonic_ns());
        end.progressed();
    }
    let mut frame = None;
    live.sample(|input| frame = stat.apply(input).or(frame.take()))?;
    end.progressed();
    // The first look is what later ones are compared with.
    if frame.as_ref().is_some_and(StatFrame::may_have_dropped) {
        churn.dropped(live.dropping()?);
        end.progressed();
    }
    Ok(frame)
}

/// Connections on their way from the stream to the model.
struct Connections {
    pending: Pending<Life>,
    churn: Churn,
}

impl Connections {
    /// Takes a batch of records, and tells the model what at `unix_ns` nothing will be added to; how many records there were.
    fn take(&mut self, stream: &mut Stream, kernel: &Kernel, unix_ns: i64) -> usize {
        let Self { pending, churn } = self;
        let taken = stream.drain(BATCH, |record| match record {
            Record::Transition(event) => churn.opened(&event),
            Record::Life(life) => pending.push(life),
            Record::Amendment(id, evidence) => pending.amend(id, evidence),
        });
        pending.unheard(kernel.unheard_resets(), taken < BATCH);
        while let Some((life, ended)) = pending.next(unix_ns, |_| true) {
            if let Some(ending) = ended {
                churn.ended(&life, ending);
            }
        }
        taken
    }
}
