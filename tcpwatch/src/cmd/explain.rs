//! `tcpwatch explain`: what does a state, an ending, a finding or a setting mean?

use std::env;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use tcpwatch_common::StateSet;

use super::OUTPUT;
use super::run::{End, Watched, block_on, watch};
use super::screen::screen;
use crate::cli::values::Interval;
use crate::cli::{Common, ExplainArgs};
use crate::explain::group::Group;
use crate::explain::lang::Lang;
use crate::explain::lookup::Asked;
use crate::explain::topic::Topic;
use crate::model::counts::StateCounts;
use crate::model::stat::{Stat, StatFrame};
use crate::source::ebpf::Needs;
use crate::source::live::Live;
use crate::source::sockets::Sockets;
use crate::sys::caps;
use crate::sys::netns::{self, Which};
use crate::view::text::diagram::Numbers;
use crate::view::{Output, json, text};

/// Writes what `args` ask for.
///
/// # Errors
/// The output takes no more.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<()> {
    let lang = args.lang.unwrap_or_else(own_lang);
    match (args.output, args.topic) {
        (Output::Text, Some(Asked::Topic(topic))) => {
            text::explain::page(out, topic, lang, screen(args.color)).context(OUTPUT)
        }
        (Output::Text, Some(Asked::Group(group))) => {
            if group == Group::States {
                diagram(args, lang, out)?;
                writeln!(out).context(OUTPUT)?;
            }
            text::explain::list(out, &[group], lang, screen(args.color)).context(OUTPUT)
        }
        (Output::Text, None) => text::explain::list(out, &Group::ALL, lang, screen(args.color)).context(OUTPUT),
        (_, Some(Asked::Topic(topic))) => json::explain::pages(out, [topic].into_iter(), lang).context(OUTPUT),
        (_, Some(Asked::Group(group))) => json::explain::pages(out, group.topics(), lang).context(OUTPUT),
        (_, None) => json::explain::pages(out, Topic::all(), lang).context(OUTPUT),
    }
}

/// The language of the locale (locale(7)): the first of these that is set says it.
fn own_lang() -> Lang {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(env::var_os);
    let mut set = set.filter(|value| !value.is_empty());
    set.next()
        .map_or(Lang::En, |locale| Lang::of_locale(&locale.to_string_lossy()))
}

/// Draws the states, with as many numbers as can be had.
fn diagram(args: &ExplainArgs, lang: Lang, out: &mut impl Write) -> Result<()> {
    let mut frame = None;
    let screen = screen(args.color);
    let is_root = caps::missing_for_bpf().is_empty();
    if is_root {
        let seconds = args.duration.0.as_secs_f64();
        match moves(args.duration, || text::diagram::begin(out, seconds, lang, screen)) {
            Ok(counted) => frame = counted,
            Err(why) => log::warn!("what happens between the states is unknown: {why:#}"),
        }
    }
    let counts = match frame {
        Some(_) => None,
        None => now()
            .inspect_err(|why| log::warn!("how many sockets are in each state is unknown: {why:#}"))
            .ok(),
    };
    let numbers = match (&frame, &counts) {
        (Some(frame), _) => Numbers::During(frame),
        (None, Some(counts)) => Numbers::Now(counts),
        (None, None) => Numbers::None,
    };
    text::diagram::write(out, numbers, is_root, lang, screen).context(OUTPUT)
}

/// The sockets of this network namespace now.
fn now() -> Result<StateCounts> {
    let mut counts = StateCounts::default();
    for namespace in netns::resolve(Path::new("/"), &Which::Own)? {
        let mut sockets = namespace.run(|| Sockets::open(Path::new("/"), namespace.inode))?;
        counts += StateCounts::from(&sockets.count(StateSet::ALL)?);
    }
    Ok(counts)
}

/// What happens in this network namespace for `duration` after it has `begun`, or until a signal.
fn moves(Interval(duration): Interval, begun: impl FnOnce() -> io::Result<()>) -> Result<Option<StatFrame>> {
    block_on(async {
        let mut end = End::new(Some(Interval(duration)))?;
        let Watched {
            kernel,
            filter,
            netns,
            namespaces,
        } = watch(&Common::default(), Needs::default())?;
        let mut model = Stat::new(kernel.reasons().clone());
        let mut live = Live::start(kernel, filter, netns, namespaces)?;
        let mut frame = None;
        live.sample(|input| frame = model.apply(input).or(frame.take()))?;
        end.begin();
        begun().context(OUTPUT)?;
        end.come().await;
        live.sample(|input| frame = model.apply(input).or(frame.take()))?;
        Ok(frame)
    })
}
