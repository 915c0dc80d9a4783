//! `tcpwatch leaks`: which sockets stay in states that should pass, for how long, whose are they, and are they ever closed?

use std::future::{pending, ready};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use hashbrown::HashSet;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep_until};

use super::run::{End, POLL, Watched, block_on, watch};
use super::screen::screen;
use super::{OUTPUT, Outcome};
use crate::cli::LeaksArgs;
use crate::clock;
use crate::diagnose::leak::{Verdict, judge};
use crate::diagnose::{self, Frame};
use crate::event::{Event, Record};
use crate::model::filter::owner::OwnerFilter;
use crate::model::leaks::{Leaks, LeaksFrame, Look, STATES, opened_by};
use crate::model::owner::Owner;
use crate::source::ebpf::{Needs, Stream};
use crate::source::leaks::Asked;
use crate::source::living::Living;
use crate::source::stacks::Stacks;
use crate::sys::threads;
use crate::view::leaks::{self, LeaksView};

/// Records taken before the signals are heard.
const BATCH: usize = 16_384;
/// A look is waited for this long: what /proc says of one process may wait for that process, and then for ever.
const PATIENCE: Duration = Duration::from_secs(10);
/// The last look is waited for this long: less than a command may take to say its last.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Runs the command until its end comes, or for one look; whether it found what the user asks it to fail for.
///
/// # Errors
/// Sockets cannot be read, the kernel side cannot be loaded, or the output takes no more.
pub fn run(args: &LeaksArgs, out: &mut impl Write) -> Result<Outcome> {
    let args = &of_states(args);
    let (output, asked) = (&args.common.output, asked(args));
    let asked = leaks::Asked::new(asked.filter, asked.netns);
    let mut view = leaks::of(output.output, screen(output.color), asked);
    let frame = match args.every() {
        None => once(args, &mut *view, out)?,
        Some(every) => follow(args, every.0, &mut *view, out)?,
    };
    if args.fail_if_leak {
        return Ok(outcome(&frame));
    }
    Ok(Outcome::Done)
}

/// Whether `frame` has what a script is to fail for; where that is not decided it is said.
fn outcome(frame: &LeaksFrame) -> Outcome {
    let verdicts = || frame.groups.iter().map(|group| judge(group, frame.older_ns));
    if verdicts().any(Verdict::is_defect) {
        return Outcome::Found;
    }
    let undecided = verdicts()
        .filter(|verdict| matches!(verdict, Verdict::Undecided(_)))
        .count();
    if undecided > 0 {
        let groups = if undecided == 1 { "group" } else { "groups" };
        let _ = writeln!(
            io::stderr(),
            "tcpwatch: no leak is known, and {undecided} {groups} of stuck sockets undecided: a longer -d or a shorter --older tells"
        );
    }
    Outcome::Done
}

/// `args`, with those states alone that should pass.
fn of_states(args: &LeaksArgs) -> LeaksArgs {
    let mut args = args.clone();
    if args.common.filter.state.is_empty() {
        args.common.filter.state = STATES.to_vec();
    }
    args
}

/// What a look is to find.
fn asked(args: &LeaksArgs) -> Asked {
    Asked {
        netns: args.common.filter.netns.clone(),
        filter: args.common.filter.to_filter(),
        must_match: args.every().is_none(),
        open: args.stacks,
        ended: Vec::new(),
        pids: Vec::new(),
    }
}

/// How long makes a socket stuck, ns.
fn older_ns(args: &LeaksArgs) -> u64 {
    u64::try_from(args.older.0.as_nanos()).unwrap_or(u64::MAX)
}

/// One look, for which nothing need be loaded.
fn once(args: &LeaksArgs, view: &mut dyn LeaksView, out: &mut impl Write) -> Result<LeaksFrame> {
    let mut leaks = Leaks::new(older_ns(args), true);
    leaks.look(asked(args).look(true)?);
    let frame = leaks.frame(clock::kernel_to_unix_ns(), false, 0);
    tell(&frame, view, out)?;
    Ok(frame)
}

/// Prints `frame`, and what is wrong by it.
fn tell(frame: &LeaksFrame, view: &mut dyn LeaksView, out: &mut impl Write) -> Result<()> {
    let findings = diagnose::look(&mut diagnose::all(), Frame::Leaks(frame));
    view.frame(frame, &findings, out)
        .and_then(|()| out.flush())
        .context(OUTPUT)
}

/// A look `every` so often, with the transitions between them, until the end comes; the last there was to say.
fn follow(args: &LeaksArgs, every: Duration, view: &mut dyn LeaksView, out: &mut impl Write) -> Result<LeaksFrame> {
    block_on(async {
        let mut end = End::new(args.common.watch.duration)?;
        let mut watcher = Watcher::new(older_ns(args), asked(args));
        // Somebody waits for the first answer, and to read /proc takes as long as to load the kernel side.
        watcher.begin_look()?;
        let needs = Needs {
            transitions: true,
            owners: true,
            stacks: args.stacks,
            ..Needs::default()
        };
        let Watched { mut kernel, netns, .. } = watch(&args.common, needs)?;
        if !kernel.knows_namespaces() {
            watcher.leaks = Leaks::new(older_ns(args), false);
        }
        watcher.is_elsewhere = watcher.asked.netns != netns;
        watcher.asked.netns = netns;
        if args.stacks {
            watcher.stacks = Some(Stacks::follow(kernel.stacks()?)?);
        }
        let mut stream = kernel.stream()?;
        end.begin();
        let mut frame = None;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut more, mut losing, mut last) = (false, false, None);
        loop {
            let too_late = async {
                match last {
                    Some(until) => sleep_until(until).await,
                    None => pending().await,
                }
            };
            let mut look = None;
            let mut over = false;
            tokio::select! {
                biased;
                () = end.come(), if last.is_none() => {
                    last = Some(Instant::now() + LAST_LOOK);
                    watcher.begin_look_if_possible();
                }
                found = watcher.over() => look = Some(found?),
                () = too_late => over = true,
                () = ready(()), if more => {}
                filled = stream.filled() => filled?,
                _ = ticks.tick(), if last.is_none() => watcher.begin_look_if_possible(),
                _ = poll.tick() => {}
            }
            more = watcher.take(&mut stream) == BATCH;
            kernel.flush_log();
            if !losing && kernel.lost() > 0 {
                losing = true;
                let _ = writeln!(
                    io::stderr(),
                    "tcpwatch: transitions are being lost: too many for this machine; a filter or a larger --ring-size helps"
                );
            }
            if over {
                log::warn!("the last look takes too long: what was printed is of the one before");
                break;
            }
            watcher.give_up_in_time()?;
            let Some(look) = look else { continue };
            // What left while the look was under way is not to be told as there.
            while more {
                more = watcher.take(&mut stream) == BATCH;
            }
            let mut told = watcher.looked(look, kernel.lost() + stream.undecoded());
            told.missed = kernel.missed().unwrap_or(0);
            // The second look is what the later ones are compared with, and tells nothing that the first did not.
            if watcher.looks != 2 || last.is_some() {
                tell(&told, view, out)?;
                end.progressed();
                frame = Some(told);
            }
            if last.is_some() {
                break;
            }
            match watcher.looks {
                1 => watcher.begin_watch(),
                // The watch begins when this one is over, and the time asked for is that of the watch.
                2 => {
                    ticks.reset();
                    end.count_from_now();
                }
                _ => {}
            }
        }
        let unknown = kernel.lost_stacks() + watcher.stacks.as_ref().map_or(0, Stacks::evicted);
        if unknown > 0 {
            log::warn!("where {unknown} connections were opened is unknown: there was no room for their stacks");
        }
        frame.context("no look at the sockets was over before the end")
    })
}

/// Looks and transitions on their way to the model.
struct Watcher {
    asked: Asked,
    owners: OwnerFilter,
    leaks: Leaks,
    living: Living,
    look: Option<Looking>,
    /// Where connections are opened, if that is wanted.
    stacks: Option<Stacks>,
    /// Whether /proc is read in time.
    reads_proc: bool,
    /// Looks taken.
    looks: u64,
    /// Whether the second look is at more than the first, for namespaces cannot be told apart.
    is_elsewhere: bool,
    /// Whether there was no thread for a look, and a warning has said so.
    was_impossible: bool,
}

/// A look under way, on a thread of its own: there are records to read meanwhile.
struct Looking {
    over: oneshot::Receiver<Result<Look>>,
    until: Instant,
}

impl Watcher {
    fn new(older_ns: u64, asked: Asked) -> Self {
        let root = Path::new("/");
        Self {
            owners: asked.filter.owner.clone(),
            asked,
            leaks: Leaks::new(older_ns, true),
            living: Living::new(root),
            look: None,
            stacks: None,
            reads_proc: true,
            looks: 0,
            is_elsewhere: false,
            was_impossible: false,
        }
    }

    /// Begins a look, unless one is under way.
    ///
    /// # Errors
    /// There can be no thread for it.
    fn begin_look(&mut self) -> Result<()> {
        if self.look.is_some() {
            return Ok(());
        }
        self.leaks.begin_look();
        // Where nothing is stuck nobody asks whose it is; and the second look comes at once after the first.
        let asks = match self.looks {
            0 => true,
            1 => self.is_elsewhere,
            _ => self.leaks.has_stuck(clock::monotonic_ns()),
        };
        let whose = self.reads_proc && asks;
        let mut asked = self.asked.clone();
        asked.ended = self.leaks.ended().collect();
        asked.pids = self.leaks.pids();
        let (tell, over) = oneshot::channel();
        let look = move || {
            let _ = tell.send(asked.look(whose));
        };
        threads::spawn("look", look)?;
        self.look = Some(Looking {
            over,
            until: Instant::now() + PATIENCE,
        });
        Ok(())
    }

    /// The same; where there can be no thread, the next tick tries again.
    fn begin_look_if_possible(&mut self) {
        if let Err(why) = self.begin_look() {
            if !self.was_impossible {
                log::warn!("the sockets are not looked at for now: {why:#}");
            }
            self.was_impossible = true;
        }
    }

    /// Begins what later looks are compared with: the first was under way before transitions were heard of.
    fn begin_watch(&mut self) {
        self.leaks.begin_watch();
        self.begin_look_if_possible();
    }

    /// Waits for the look under way.
    async fn over(&mut self) -> Result<Look> {
        match &mut self.look {
            Some(look) => {
                let found = (&mut look.over).await;
                self.look = None;
                found.unwrap_or_else(|_| Err(anyhow!("the thread that reads the sockets died")))
            }
            None => pending().await,
        }
    }

    /// Waits for a look no longer than it may take: the next does without /proc.
    ///
    /// # Errors
    /// It cannot do without, for owners are asked for.
    fn give_up_in_time(&mut self) -> Result<()> {
        if self.look.take_if(|look| Instant::now() >= look.until).is_some() {
            if !self.owners.is_any() {
                bail!("reading /proc takes more than 10 s: leave out --pid, --comm and --cgroup");
            }
            log::warn!("reading /proc takes more than 10 s: whose the sockets are is unknown from now on");
            self.reads_proc = false;
            self.begin_look_if_possible();
        }
        Ok(())
    }

    /// Takes a batch of transitions; how many records there were.
    fn take(&mut self, stream: &mut Stream) -> usize {
        let Self {
            leaks, living, owners, ..
        } = self;
        living.catch_up();
        stream.drain(BATCH, |record| {
            if let Record::Transition(event) = record {
                leaks.transition(&event, is_asked_for(owners, living, &event));
            }
        })
    }

    /// Takes what a look found; what there is to say, where so many transitions are `unheard` of.
    fn looked(&mut self, look: Look, lost: u64) -> LeaksFrame {
        self.looks += 1;
        if let (Some(stacks), Some(open)) = (&self.stacks, &look.open) {
            // What the kernel ended is in no dump.
            let ended: HashSet<u32> = self.leaks.ended().map(NonZeroU32::get).collect();
            stacks.retain(look.started_ns, |inode| open.contains(&inode) || ended.contains(&inode));
        }
        self.leaks.look(look);
        let mut frame = self.leaks.frame(clock::kernel_to_unix_ns(), true, lost);
        if let Some(stacks) = &self.stacks {
            for group in &mut frame.groups {
                let of = |inode: NonZeroU32| stacks.of(inode.get());
                group.opened_by = Some(opened_by(&group.inodes, of, |id| stacks.symbolised(id)));
            }
        }
        frame
    }
}

/// Whether the owner of `event` is one of `owners`; one that is not known is none.
fn is_asked_for(owners: &OwnerFilter, living: &mut Living, event: &Event) -> bool {
    let owned = |owner: &Owner| owners.matches(owner.pid, &owner.comm, || living.cgroup(owner, event.unix_ns));
    owners.is_any() || event.owner.as_ref().is_some_and(owned)
}
