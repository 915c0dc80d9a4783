//! `leaks` for people: a verdict a group, its evidence and what to do, as wide as the screen.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use hashbrown::HashMap;
use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use super::opened_by;
use super::wrap::wrap;
use crate::detect::finding::Finding;
use crate::detect::leak::{advice, judge, oldest, place, topic, truth, who, why};
use crate::input::escaped::Escaped;
use crate::input::netns_selector::NetnsSelector;
use crate::model::frame::Frame;
use crate::model::leaks::{Group, Key, LeaksFrame, STATES, Verdict};
use crate::model::number::{duration, several, thousands};
use crate::view::View;
use crate::view::leaks::Asked;
use crate::view::screen::Screen;
use crate::view::time::Stamp;
use crate::view::words;

/// Columns of the verdict; what belongs to it is as far in.
const INDENT: usize = 6;
/// Ranges of descriptors shown at most.
const RANGES: usize = 8;
/// Of several processes that hold sockets by different descriptors, those told.
const HOLDERS: usize = 2;
/// Groups of stuck sockets told at most.
const GROUPS: usize = 20;
/// Groups without a stuck socket that have a line, at most.
const PASSING: usize = 3;

/// A block a look.
pub struct Text {
    stamp: Stamp,
    screen: Screen,
    asked: Asked,
}

impl Text {
    /// Times are shown in `zone`; `asked` is what the look was for.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen, asked: Asked) -> Self {
        Self {
            stamp: Stamp::local(zone),
            screen,
            asked,
        }
    }

    fn style(&self, style: Style) -> Style {
        if self.screen.colour { style } else { Style::new() }
    }

    /// What was looked at, and for how long.
    fn heading(&mut self, frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        let states = self.states().join(", ");
        let time = self.stamp.text(frame.unix_ns);
        let time = time.split('.').next().unwrap_or(time);
        let watched = match frame.window_ns {
            None => "one look".into(),
            Some(0) => "watching; Ctrl-C ends it".into(),
            Some(window) => format!("{} watched", duration(window)),
        };
        let mut asked = vec![watched];
        asked.extend(self.asked.filter.iter().cloned());
        asked.extend(namespaces(&self.asked.netns, frame.namespaces.len()));
        let [stuck, ended] = frame.stuck();
        let ended = match ended {
            0 => String::new(),
            ended => format!(
                " and {}",
                several(
                    ended,
                    "open descriptor of an ended connection",
                    "open descriptors of ended connections"
                )
            ),
        };
        let text = format!(
            "{time}  {}: {} in {states}{ended}, {} of them for {} or longer",
            asked.join(", "),
            several(frame.in_state(), "socket", "sockets"),
            thousands(stuck),
            duration(frame.older_ns)
        );
        self.rest(&text, 0, out)
    }

    /// The states looked at.
    fn states(&self) -> Vec<&'static str> {
        let states = STATES.into_iter();
        let asked = states.filter(|&state| self.asked.states.contains(state));
        asked.map(TcpState::name).collect()
    }

    fn group(&self, group: &Group, frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        let verdict = judge(group, frame.older_ns);
        let (label, colour) = label(verdict);
        let style = self.style(colour.map_or_else(Style::new, AnsiColor::on_default));
        let growth = match group.growth_per_min {
            // Below a tenth it is as good as none.
            Some(growth) if growth.abs() >= 0.05 => format!(", {growth:+.1}/min"),
            _ => String::new(),
        };
        let closed = match verdict {
            Verdict::Leak if group.closings.late == 0 => ", none closed",
            _ => "",
        };
        let sockets = match group.sockets {
            0 => "none left".into(),
            sockets => format!(
                "{}, oldest {}{growth}{closed}",
                several(sockets, "socket", "sockets"),
                oldest(group)
            ),
        };
        let text = format!(
            "{}  {}  {}  {sockets}",
            who(group),
            place_in(group, frame),
            group.key.state.name()
        );
        write!(out, "{style}{label:<INDENT$}{style:#}")?;
        self.rest(&text, INDENT, out)?;
        if group.sockets == 0 {
            return self.indented(&why(group, verdict), out);
        }
        let mut truth = truth(group);
        if let Some(fds) = fds(group, frame.whose_known) {
            truth += &fds;
        }
        let opened = group.opened_by.as_deref();
        let opened = opened.map(|opened| opened_by::lines(opened, group.sockets));
        for line in [truth, why(group, verdict)]
            .into_iter()
            .chain(opened.unwrap_or_default())
        {
            self.indented(&line, out)?;
        }
        let advice = advice(group, verdict);
        if !advice.is_empty() {
            let topic = topic(group).key();
            self.indented(&format!("do: {} (explain {topic})", advice.join("; ")), out)?;
        }
        Ok(())
    }

    fn passing(&self, frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        let ok = self.style(AnsiColor::Green.on_default());
        for group in frame.passing.iter().take(PASSING) {
            let closing = match group.closings.prompt {
                0 => String::new(),
                _ if group.closings.longest_prompt_ns < frame.older_ns / 10 => ", closing normally".into(),
                _ => format!(", closing after {} at most", duration(group.closings.longest_prompt_ns)),
            };
            let age = group.oldest_in_state;
            let at_least = if age.at_least { "at least " } else { "" };
            let oldest = if age.is_known() {
                format!("oldest {at_least}{}", duration(age.ns))
            } else {
                "age unknown".into()
            };
            // Of those that close all the time each is young. Keepalive makes what was there before seem young, at one look.
            let is_watched = frame.window_ns.is_some_and(|window_ns| window_ns > 0);
            let is_young = age.is_known() && (!age.at_least || is_watched);
            let (label, style) = if is_young || group.closings.prompt > group.in_state {
                ("ok", ok)
            } else {
                ("?", Style::new())
            };
            let longer = if frame.window_ns.is_none() && age.at_least {
                ": how long, leaks --watch 10s tells"
            } else {
                ""
            };
            let text = format!(
                "{}  {}  {} in {}, {oldest}{closing}{longer}",
                who(group),
                place_in(group, frame),
                thousands(group.in_state),
                group.key.state.name(),
            );
            write!(out, "{style}{label:<INDENT$}{style:#}")?;
            self.rest(&text, INDENT, out)?;
        }
        let more = frame.passing.len().saturating_sub(PASSING);
        if more > 0 {
            let text = format!("and {}", several(more as u64, "more group", "more groups"));
            write!(out, "{ok}{:<INDENT$}{ok:#}", "ok")?;
            self.rest(&text, INDENT, out)?;
        }
        if frame.groups.is_empty() && frame.passing.is_empty() {
            write!(out, "{ok}{:<INDENT$}{ok:#}", "ok")?;
            let what = if self.asked.filter.is_empty() {
                "nothing"
            } else {
                "nothing that was asked for"
            };
            let states = match self.states().as_slice() {
                [one] => *one,
                _ => "these states",
            };
            self.rest(&format!("{what} is in {states}"), INDENT, out)?;
        }
        Ok(())
    }

    fn indented(&self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:INDENT$}", "")?;
        self.rest(text, INDENT, out)
    }

    /// Ends a line of which `indent` columns are written, and goes on below that where it is too long.
    fn rest(&self, text: &str, indent: usize, out: &mut dyn Write) -> io::Result<()> {
        let lines = match self.screen.width {
            Some(width) => wrap(text, width.saturating_sub(indent)),
            None => vec![text.to_owned()],
        };
        writeln!(out, "{}", lines.join(&format!("\n{:indent$}", "")))
    }
}

impl View for Text {
    /// The findings are in the groups' own words.
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.leaks else {
            return Ok(());
        };
        self.heading(frame, out)?;
        let alike = alike(frame);
        let sockets = |groups: &[&Group]| {
            let sockets = groups.iter().map(|group| group.sockets).sum();
            format!("{} (-o json)", several(sockets, "socket", "sockets"))
        };
        for groups in alike.iter().take(GROUPS) {
            let [first, others @ ..] = groups.as_slice() else {
                continue;
            };
            self.group(first, frame, out)?;
            if !others.is_empty() {
                let more = several(others.len() as u64, "more process", "more processes");
                let text = format!("and the same of {more} of that name: {}", sockets(others));
                self.indented(&text, out)?;
            }
        }
        let rest: Vec<&Group> = alike.iter().skip(GROUPS).flatten().copied().collect();
        if !rest.is_empty() {
            let more = several(rest.len() as u64, "more group", "more groups");
            self.indented(&format!("and {more} of {}", sockets(&rest)), out)?;
        }
        self.passing(frame, out)?;
        let mut missing = Vec::new();
        missing.extend(words::unseen(&frame.unseen));
        if frame.lost > 0 {
            missing.push(format!(
                "{} were lost: ages may be underestimated",
                several(frame.lost, "transition", "transitions")
            ));
        }
        if frame.missed > 0 {
            missing.push(format!("{}: ages may be underestimated", words::missed(frame.missed)));
        }
        if frame.evicted > 0 {
            missing.push(format!(
                "{} left out for want of room: a filter helps",
                several(frame.evicted, "socket or group was", "sockets or groups were")
            ));
        }
        for line in missing {
            self.rest(&line, 0, out)?;
        }
        writeln!(out)
    }
}

/// Which network namespaces were looked at, `count` of them; `None` for our own, as `ss` does it.
fn namespaces(asked: &NetnsSelector, count: usize) -> Option<String> {
    match asked {
        NetnsSelector::Own if count <= 1 => None,
        // Those of a kernel that cannot tell them apart.
        NetnsSelector::Own => Some(words::namespaces(&NetnsSelector::All, count)),
        asked => Some(words::namespaces(asked, count)),
    }
}

/// Where the sockets of `group` are; where there are several, their network namespace too: `:8080  netns web`.
fn place_in(group: &Group, frame: &LeaksFrame) -> String {
    let place = place(group);
    let netns = group.key.netns;
    if frame.namespaces.len() < 2 || netns == 0 {
        return place;
    }
    match frame.namespaces.get(&netns) {
        Some(Some(name)) => format!("{place}  netns {}", Escaped(name.as_bytes())),
        _ => format!("{place}  netns {netns}"),
    }
}

/// The groups of stuck sockets, those together that differ in the process alone and not in its name, as the children of one server do.
fn alike(frame: &LeaksFrame) -> Vec<Vec<&Group>> {
    let kind = |group: &Group| {
        let verdict = std::mem::discriminant(&judge(group, frame.older_ns));
        let Key {
            netns,
            side,
            state,
            orphans,
            ..
        } = group.key;
        Some((group.owner?.comm, verdict, netns, side, state, orphans))
    };
    let mut all: Vec<Vec<&Group>> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for group in &frame.groups {
        let known = kind(group).map(|kind| *places.entry(kind).or_insert(all.len()));
        match known.and_then(|place| all.get_mut(place)) {
            Some(groups) => groups.push(group),
            None => all.push(vec![group]),
        }
    }
    all
}

/// The word for a verdict, and its colour.
const fn label(verdict: Verdict) -> (&'static str, Option<AnsiColor>) {
    match verdict {
        Verdict::Leak => ("LEAK", Some(AnsiColor::Red)),
        Verdict::StuckReader => ("STUCK", Some(AnsiColor::Red)),
        Verdict::Slow => ("SLOW", Some(AnsiColor::Yellow)),
        Verdict::Burst => ("BURST", Some(AnsiColor::Yellow)),
        Verdict::Undecided(_) => ("?", None),
    }
}

/// Who holds them by which descriptors: `: fds 17, 19-31, 40 (+396)`; of several holders what all have, or those of the first.
/// `None` where nobody does, or nobody has looked.
fn fds(group: &Group, whose_known: bool) -> Option<String> {
    let kept: usize = group.holders.iter().map(|holder| holder.fds.len()).sum();
    let not_kept = group.fds.saturating_sub(kept as u64);
    match group.holders.as_slice() {
        [] if group.inodes.is_empty() || !whose_known => None,
        // It may be in another PID namespace, or hidden.
        [] => Some("; no process that is seen holds them".into()),
        [one] => Some(format!(": {}", ranges(&one.fds, not_kept))),
        [first, others @ ..] if not_kept == 0 && others.iter().all(|other| other.fds == first.fds) => Some(format!(
            ": {} in each of the {} processes that hold them",
            ranges(&first.fds, 0),
            thousands(group.holders.len() as u64)
        )),
        several => {
            let shown = several.iter().take(HOLDERS);
            let mut each: Vec<String> = shown
                .map(|holder| format!("{} {}", holder.process, ranges(&holder.fds, 0)))
                .collect();
            let more = several.len().saturating_sub(HOLDERS);
            if more > 0 {
                each.push(format!("{} more (-o json)", thousands(more as u64)));
            }
            Some(format!(": {}", each.join("; ")))
        }
    }
}

/// `fd 17`, `fds 17, 19-31, 40 (+396)`; `more` of them are not in `fds`, which are in order.
fn ranges(fds: &[u32], more: u64) -> String {
    let mut shown: Vec<[u32; 2]> = Vec::new();
    for &fd in fds {
        match shown.last_mut() {
            Some([_, last]) if last.checked_add(1) == Some(fd) => *last = fd,
            _ => shown.push([fd, fd]),
        }
    }
    let hidden = shown.split_off(shown.len().min(RANGES));
    let hidden: u64 = hidden.iter().map(|[first, last]| u64::from(last - first) + 1).sum();
    let words = shown.iter().map(|[first, last]| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first}-{last}"),
    });
    let mut text = format!(
        "{} {}",
        if fds.len() as u64 + more == 1 { "fd" } else { "fds" },
        words.collect::<Vec<_>>().join(", ")
    );
    if hidden + more > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, " (+{})", thousands(hidden + more));
    }
    text
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::StateSet;

    use super::*;
    use crate::detect::leak::tests::{close_wait, scene, spread};
    use crate::input::owner::How;
    use crate::input::socket_owner::Holder;
    use crate::input::socket_scan::Seen;
    use crate::model::filter::Filter;
    use crate::model::leaks::tests::{SECOND, app, look, seen};
    use crate::model::leaks::{Leaks, states};

    fn shown(frame: &LeaksFrame, screen: Screen) -> String {
        let all = Filter {
            states: states(),
            ..Filter::default()
        };
        shown_to(all, NetnsSelector::Own, frame, screen)
    }

    fn shown_to(filter: Filter, netns: NetnsSelector, frame: &LeaksFrame, screen: Screen) -> String {
        let mut out = Vec::new();
        let mut view = Text::new(TimeZone::UTC, screen, Asked::new(filter, netns));
        view.frame(&Frame::from(frame), &[], &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn unbounded() -> Screen {
        Screen {
            width: None,
            colour: false,
        }
    }

    /// Each by a descriptor of its own.
    fn numbered(number: u16) -> Seen {
        let mut seen = close_wait(number);
        seen.holders[0].fds = vec![u32::from(number) + 16];
        seen
    }

    #[test]
    fn a_leak_has_its_verdict_evidence_and_advice() {
        let mut ages = spread(30, 300);
        ages.push(2);
        assert_eq!(
            shown(&scene(Some(60), &ages, &[0.04], numbered), unbounded()),
            "02:47:40  60s watched: 29 sockets in CLOSE_WAIT, FIN_WAIT2, SYN_SENT, LAST_ACK, 28 of them for 30s or longer\n\
             LEAK  app[12]  :8080  CLOSE_WAIT  28 sockets, oldest 5 m 0 s, +4.0/min, none closed\n\
             \x20     the peer closed; app has read EOF and not closed the descriptor: fds 17-44\n\
             \x20     none of them was closed in the 60s watched; another left it meanwhile, after 40ms\n\
             \x20     do: find where app ends with a connection and does not close it (an error path, a thread that returns), \
             and close the descriptor there; a restart frees them; a sysctl does not (explain close_wait)\n\
             \n"
        );
    }

    #[test]
    fn the_healthy_are_ok() {
        let text = shown(&scene(Some(60), &[1, 2], &[0.1], close_wait), unbounded());
        assert!(
            text.contains("ok    app[12]  :8080  2 in CLOSE_WAIT, oldest 2.0s, closing normally\n"),
            "{text}"
        );
        let text = shown(&scene(Some(60), &[1, 2], &[0.1, 20.0], close_wait), unbounded());
        assert!(text.contains("oldest 2.0s, closing after 20s at most\n"), "{text}");
        let text = shown(&scene(None, &[], &[], close_wait), unbounded());
        assert!(
            text.contains("one look: 0 sockets") && text.contains("ok    nothing is in these states\n"),
            "{text}"
        );
    }

    #[test]
    fn what_was_asked_for_is_said() {
        let asked = Filter {
            lport: "9002".parse().unwrap(),
            states: StateSet::NONE.with(TcpState::FinWait2),
            ..Filter::default()
        };
        let text = shown_to(
            asked,
            NetnsSelector::Pid(7),
            &scene(None, &[], &[], close_wait),
            unbounded(),
        );
        assert_eq!(
            text,
            "02:46:40  one look, local port 9002, network namespace of PID 7: 0 sockets in FIN_WAIT2, 0 of them for 30s or longer\n\
             ok    nothing that was asked for is in FIN_WAIT2\n\n"
        );
    }

    #[test]
    fn of_several_namespaces_each_group_says_in_which_it_is() {
        let mut frame = scene(Some(60), &[300, 200], &[], close_wait);
        let group = |netns: u32| {
            let mut group = frame.groups[0].clone();
            group.key.netns = netns;
            group
        };
        let groups = [7, 8, 0].map(group).to_vec();
        frame.passing = groups.clone();
        frame.groups = groups;
        let all = |frame: &LeaksFrame| shown_to(Filter::default(), NetnsSelector::All, frame, unbounded());
        let text = all(&frame);
        assert!(text.contains("watched, all network namespaces (1): "), "{text}");
        assert!(!text.contains("netns"), "{text}");
        frame.namespaces = [(7, Some("we\x1bb".into())), (8, None)].into();
        let text = all(&frame);
        assert!(text.contains("watched, all network namespaces (2): "), "{text}");
        for place in [
            ":8080  netns we\\u{1b}b  ",
            ":8080  netns 8  ",
            ":8080  CLOSE_WAIT",
            ":8080  2 in CLOSE_WAIT",
        ] {
            assert!(text.contains(place), "{place} in {text}");
        }
        assert_eq!(text.matches("  netns 8  ").count(), 2, "of one that passes too");
    }

    #[test]
    fn the_children_of_one_server_are_told_once() {
        let child = |number: u16| {
            let mut seen = numbered(number);
            let process = app(100 + u32::from(number), How::Scan);
            (seen.process, seen.holders[0].process) = (Some(process), process.into());
            seen
        };
        let text = shown(&scene(Some(60), &[300; 40], &[], child), unbounded());
        assert_eq!(text.matches("LEAK  app[").count(), 1, "{text}");
        assert!(
            text.contains("      and the same of 39 more processes of that name: 39 sockets (-o json)\n"),
            "{text}"
        );
        assert!(!text.contains("more group"), "{text}");
    }

    #[test]
    fn an_age_that_nobody_knows_is_told_as_that() {
        let mut leaks = Leaks::new(30 * SECOND, true);
        leaks.look(look(10_000 * SECOND, vec![seen(TcpState::SynSent, 1)]));
        let text = shown(&leaks.frame(0, false, 0), unbounded());
        assert!(
            text.contains(
                "\n?     app[12]  to 10.0.0.2:1  1 in SYN_SENT, age unknown: how long, leaks --watch 10s tells\n"
            ),
            "{text}"
        );
        // What answers keepalive seems young for ever, until it is watched.
        let mut leaks = Leaks::new(30 * SECOND, true);
        let mut answers = close_wait(1);
        answers.detail.last_ack_ms = Some(4_010);
        leaks.look(look(10_000 * SECOND, vec![answers.clone()]));
        let text = shown(&leaks.frame(0, false, 0), unbounded());
        assert!(
            text.contains("\n?     app[12]  :8080  1 in CLOSE_WAIT, oldest at least 4.0s: how long"),
            "{text}"
        );
        leaks.look(look(10_005 * SECOND, vec![answers]));
        let text = shown(&leaks.frame(0, true, 0), unbounded());
        assert!(
            text.contains("\nok    app[12]  :8080  1 in CLOSE_WAIT, oldest at least 9.0s\n"),
            "{text}"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        for (window, closed) in [
            (None, &[][..]),
            (Some(0), &[]),
            (Some(60), &[]),
            (Some(60), &[31.0, 45.0]),
        ] {
            for ages in [spread(0, 60), spread(0, 300), vec![1]] {
                let frame = scene(window, &ages, closed, numbered);
                let whole = shown(&frame, unbounded());
                for width in [80, 100, 136] {
                    let text = shown(&frame, Screen::plain(width));
                    for line in text.lines() {
                        assert!(line.chars().count() <= width, "{width}: {line}");
                    }
                    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
                    assert_eq!(words(&text), words(&whole), "nothing is left out");
                }
            }
        }
    }

    #[test]
    fn colour_is_added_and_nothing_else() {
        let frame = scene(Some(60), &spread(0, 300), &[], close_wait);
        let plain = shown(&frame, unbounded());
        let coloured = shown(
            &frame,
            Screen {
                colour: true,
                ..unbounded()
            },
        );
        assert!(coloured.contains("\x1b[31mLEAK  \x1b[0m"), "{coloured:?}");
        assert_eq!(
            coloured
                .replace("\x1b[31m", "")
                .replace("\x1b[32m", "")
                .replace("\x1b[0m", ""),
            plain
        );
    }

    #[test]
    fn that_nobody_holds_them_is_said_where_somebody_looked() {
        let held_by_none = |number| Seen {
            process: None,
            holders: Vec::new(),
            ..close_wait(number)
        };
        let mut frame = scene(None, &[100], &[], held_by_none);
        let nobody = "; no process that is seen holds them\n";
        assert!(shown(&frame, unbounded()).contains(nobody));
        frame.whose_known = false;
        assert!(!shown(&frame, unbounded()).contains(nobody));
    }

    #[test]
    fn of_many_holders_few_are_told_with_their_descriptors() {
        let told = |fd: fn(u32, u16) -> u32| {
            let shared = move |number| {
                let mut seen = numbered(number);
                let holder = |pid: u32| Holder {
                    process: app(pid, How::Scan).into(),
                    fds: vec![fd(pid, number)],
                };
                seen.holders = (20..32).map(holder).collect();
                seen.process = None;
                seen
            };
            shown(&scene(Some(60), &[300; 3], &[], shared), unbounded())
        };
        let same = told(|_, number| u32::from(number) + 6);
        assert!(
            same.contains("LEAK  app[20] and 11 others  :8080")
                && same.contains("the descriptor: fds 7-9 in each of the 12 processes that hold them\n"),
            "{same}"
        );
        let different = told(|pid, number| pid + u32::from(number));
        assert!(
            different.contains("the descriptor: app[20] fds 21-23; app[21] fds 22-24; 10 more (-o json)\n"),
            "{different}"
        );
    }

    #[test]
    fn descriptors_are_told_as_ranges() {
        assert_eq!(ranges(&[17], 0), "fd 17");
        assert_eq!(
            ranges(&[17, 19, 20, 21, 30, 31, 40], 356),
            "fds 17, 19-21, 30, 31, 40 (+356)"
        );
        let odd: Vec<u32> = (0..40).map(|fd| fd * 2).collect();
        assert_eq!(ranges(&odd, 1), "fds 0, 2, 4, 6, 8, 10, 12, 14 (+33)");
        assert_eq!(
            ranges(&[u32::MAX - 1, u32::MAX, u32::MAX], 0),
            "fds 4294967294, 4294967295, 4294967295"
        );
    }
}
