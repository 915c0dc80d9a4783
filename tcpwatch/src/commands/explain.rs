//! `tcpwatch explain`: the meaning of states, endings, findings and settings.

use std::env;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::OUTPUT;
use super::common::plan;
use super::screen::screen;
use crate::cli::values::Interval;
use crate::cli::{Common, ExplainArgs};
use crate::detect::finding::Finding;
use crate::engine::{self, Origin, Plan};
use crate::explain::group::TopicGroup;
use crate::explain::lang::Lang;
use crate::explain::lookup::Selection;
use crate::explain::topic::Topic;
use crate::input::needs::Needs;
use crate::input::netns_selector::NetnsSelector;
use crate::model::counts::StateCounts;
use crate::model::frame::Frame;
use crate::model::stat::StatFrame;
use crate::source::totals::Totals;
use crate::sys::caps;
use crate::sys::netns;
use crate::view::text::diagram::Numbers;
use crate::view::{Output, View, json, text};

/// Writes the page, the list or the diagram that `args` ask for.
///
/// # Errors
/// `out` cannot be written to.
pub fn run(args: &ExplainArgs, out: &mut impl Write) -> Result<()> {
    let lang = args.lang.unwrap_or_else(locale_lang);
    match (args.output.output, args.topic) {
        (Output::Text, Some(Selection::Topic(topic))) => {
            text::explain::write_page(out, topic, lang, screen(args.output.color)).context(OUTPUT)
        }
        (Output::Text, Some(Selection::Group(group))) => {
            if group == TopicGroup::States {
                write_diagram(args, lang, out)?;
                writeln!(out).context(OUTPUT)?;
            }
            text::explain::write_list(out, &[group], lang, screen(args.output.color)).context(OUTPUT)
        }
        (Output::Text, None) => {
            text::explain::write_list(out, &TopicGroup::ALL, lang, screen(args.output.color)).context(OUTPUT)
        }
        (_, Some(Selection::Topic(topic))) => json::explain::write(out, [topic].into_iter(), lang).context(OUTPUT),
        (_, Some(Selection::Group(group))) => json::explain::write(out, group.topics(), lang).context(OUTPUT),
        (_, None) => json::explain::write(out, Topic::all(), lang).context(OUTPUT),
    }
}

/// The language of the locale: by `LC_ALL`, `LC_MESSAGES` and `LANG`, in this order (locale(7)).
fn locale_lang() -> Lang {
    let set = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().filter_map(env::var_os);
    let mut set = set.filter(|value| !value.is_empty());
    set.next()
        .map_or(Lang::En, |locale| Lang::from_locale(&locale.to_string_lossy()))
}

/// Writes the diagram of states, with counts as far as the kernel gives them.
fn write_diagram(args: &ExplainArgs, lang: Lang, out: &mut impl Write) -> Result<()> {
    let mut frame = None;
    let screen = screen(args.output.color);
    let is_root = caps::missing_for_bpf().is_empty();
    if is_root {
        let seconds = args.duration.0.as_secs_f64();
        let begin = |mut out: &mut dyn Write| text::diagram::write_counting(&mut out, seconds, lang, screen);
        match count_transitions(args.duration, &begin) {
            Ok(counts) => frame = counts,
            Err(why) => log::warn!("cannot count transitions: {why:#}"),
        }
    }
    let counts = match frame {
        Some(_) => None,
        None => count_sockets()
            .inspect_err(|why| log::warn!("cannot count sockets: {why:#}"))
            .ok(),
    };
    let numbers = match (&frame, &counts) {
        (Some(frame), _) => Numbers::During(frame),
        (None, Some(counts)) => Numbers::Now(counts),
        (None, None) => Numbers::None,
    };
    text::diagram::write(out, numbers, is_root, lang, screen).context(OUTPUT)
}

/// Counts the sockets of this network namespace.
fn count_sockets() -> Result<StateCounts> {
    let mut counts = StateCounts::default();
    for namespace in netns::resolve(Path::new("/"), &NetnsSelector::Own)? {
        let mut totals = namespace.run(|| Totals::open(Path::new("/"), namespace.inode))?;
        counts += StateCounts::from(&totals.count()?.0);
    }
    Ok(counts)
}

/// Calls `begin`, then counts the transitions of this network namespace for `duration` or until a signal.
fn count_transitions(
    Interval(duration): Interval,
    begin: &dyn Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<Option<StatFrame>> {
    let needs = Needs {
        counts: true,
        ..Needs::default()
    };
    let plan = Plan {
        duration: Some(duration),
        ..plan(&Common::default(), needs)
    };
    let mut view = KeepsCounts { begin, counts: None };
    engine::run(&plan, &mut view, Origin::Kernel, &mut io::stdout())?;
    Ok(view.counts)
}

/// A view that calls `begin`, and keeps the counts of the last frame.
struct KeepsCounts<'a> {
    begin: &'a dyn Fn(&mut dyn Write) -> io::Result<()>,
    counts: Option<StatFrame>,
}

impl View for KeepsCounts<'_> {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        (self.begin)(out)
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], _: &mut dyn Write) -> io::Result<()> {
        self.counts = frame.counts.clone().or(self.counts.take());
        Ok(())
    }
}
