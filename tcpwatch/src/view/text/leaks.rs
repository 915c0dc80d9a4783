//! `leaks` for people: a verdict a group, its evidence and what to do, as wide as the screen.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use hashbrown::HashMap;
use jiff::tz::TimeZone;
use tcpwatch_common::TcpState;

use super::descriptors::descriptors;
use super::fit::write_prose;
use super::opened_by;
use crate::detect::finding::Finding;
use crate::detect::leak::{advice, condition, oldest, place, topic, who, why};
use crate::input::escaped::Escaped;
use crate::input::netns_selector::NetnsSelector;
use crate::model::format::{duration, several, thousands};
use crate::model::frame::Frame;
use crate::model::leaks::{Group, Key, LeaksFrame, STATES, Verdict};
use crate::view::View;
use crate::view::leaks::ScanScope;
use crate::view::screen::Screen;
use crate::view::timestamp::Stamp;
use crate::view::words;

/// Columns of the verdict; what belongs to it is as far in.
const INDENT: usize = 11;
/// Groups that are not young shown at most.
const GROUPS: usize = 20;
/// Young groups shown at most.
const YOUNG: usize = 3;

/// A block a scan.
pub struct Text {
    stamp: Stamp,
    screen: Screen,
    selection: ScanScope,
}

impl Text {
    /// Times are shown in `zone`; the heading shows `selection`.
    #[must_use]
    pub fn new(zone: TimeZone, screen: Screen, selection: ScanScope) -> Self {
        Self {
            stamp: Stamp::local(zone),
            screen,
            selection,
        }
    }

    /// What was scanned, and for how long it was watched.
    fn heading(&mut self, frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        let states = self.states().join(", ");
        let time = self.stamp.text(frame.unix_ns);
        let time = time.split('.').next().unwrap_or(time);
        let mut selected = vec![match frame.window_ns {
            None => "one scan".into(),
            Some(0) => "watching; Ctrl-C ends it".into(),
            Some(window) => format!("{} watched", duration(window)),
        }];
        selected.extend(self.selection.filter.iter().cloned());
        selected.extend(namespaces(&self.selection.netns, frame.namespaces.len()));
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
            selected.join(", "),
            several(frame.in_state(), "socket", "sockets"),
            thousands(stuck),
            duration(frame.older_ns)
        );
        self.rest(&text, 0, out)
    }

    /// The states that were scanned.
    fn states(&self) -> Vec<&'static str> {
        let all = STATES.into_iter().chain([TcpState::Established]);
        let selected = all.filter(|&state| self.selection.states.contains(state));
        selected.map(TcpState::name).collect()
    }

    /// The verdict in its columns, and `text` beside it.
    fn labelled(&self, verdict: Verdict, text: &str, out: &mut dyn Write) -> io::Result<()> {
        let colour = match verdict {
            Verdict::Leak | Verdict::Unread => Some(AnsiColor::Red),
            Verdict::Slow => Some(AnsiColor::Yellow),
            Verdict::Young => Some(AnsiColor::Green),
            Verdict::Undecided | Verdict::Pool | Verdict::Kernel => None,
        };
        let colour = colour.filter(|_| self.screen.colour);
        let style = colour.map_or_else(Style::new, AnsiColor::on_default);
        let label = verdict.key().to_uppercase();
        write!(out, "{style}{label:<INDENT$}{style:#}")?;
        self.rest(text, INDENT, out)
    }

    fn group(&self, group: &Group, frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        let growth = match group.growth_per_min {
            // Below a tenth it is as good as none.
            Some(growth) if growth.abs() >= 0.05 => format!(", {growth:+.1}/min"),
            _ => String::new(),
        };
        let sockets = match group.sockets {
            0 => "none left".into(),
            sockets => format!(
                "{}, oldest {}{growth}",
                several(sockets, "socket", "sockets"),
                oldest(group)
            ),
        };
        let (who, place, state) = (who(group), place_in(group, frame), group.key.state.name());
        self.labelled(group.verdict, &format!("{who}  {place}  {state}  {sockets}"), out)?;
        let mut lines = Vec::new();
        if group.sockets > 0 {
            let descriptors = descriptors(group, frame.unseen.is_some()).unwrap_or_default();
            lines.push(condition(group) + &descriptors);
        }
        lines.push(why(group));
        let opened = group.opened_by.as_deref().filter(|_| group.sockets > 0);
        lines.extend(
            opened
                .into_iter()
                .flat_map(|opened| opened_by::lines(opened, group.sockets)),
        );
        let advice = advice(group);
        if !advice.is_empty() {
            lines.push(format!("do: {} (explain {})", advice.join("; "), topic(group).key()));
        }
        lines.iter().try_for_each(|line| self.indented(line, out))
    }

    fn young(&self, groups: &[&Group], frame: &LeaksFrame, out: &mut dyn Write) -> io::Result<()> {
        for group in groups.iter().take(YOUNG) {
            let age = group.oldest_in_state;
            let at_least = if age.at_least { "at least " } else { "" };
            let oldest = if age.is_known() {
                format!("oldest {at_least}{}", duration(age.ns))
            } else {
                "age unknown".into()
            };
            let closings = &group.closings;
            let closed = match closings.prompt {
                0 => String::new(),
                prompt => format!(
                    "; {} closed after {} at most",
                    several(prompt, "other was", "others were"),
                    duration(closings.longest_prompt_ns)
                ),
            };
            // What answers keepalive probes seems young to a single scan.
            let watch = if frame.window_ns.is_none() && age.at_least {
                "; leaks --watch 10s shows how long"
            } else {
                ""
            };
            let text = format!(
                "{}  {}  {}  {}, {oldest}{closed}{watch}",
                who(group),
                place_in(group, frame),
                group.key.state.name(),
                several(group.in_state, "socket", "sockets"),
            );
            self.labelled(Verdict::Young, &text, out)?;
        }
        match groups.len().saturating_sub(YOUNG) {
            0 => Ok(()),
            more => {
                let text = format!("and {}", several(more as u64, "more group", "more groups"));
                self.labelled(Verdict::Young, &text, out)
            }
        }
    }

    fn nothing(&self, out: &mut dyn Write) -> io::Result<()> {
        let nothing = if self.selection.filter.is_empty() {
            "no socket"
        } else {
            "no selected socket"
        };
        let text = match self.states().as_slice() {
            [one] => format!("{nothing} is in {one}"),
            _ => format!("{nothing} is in these states"),
        };
        self.rest(&text, 0, out)
    }

    fn indented(&self, text: &str, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{:INDENT$}", "")?;
        self.rest(text, INDENT, out)
    }

    /// Ends a line of which `indent` columns are written, and goes on below that where it is too long.
    fn rest(&self, text: &str, indent: usize, out: &mut dyn Write) -> io::Result<()> {
        write_prose(text, indent, self.screen, out)
    }
}

impl View for Text {
    /// The groups have the words of the findings.
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.leaks else {
            return Ok(());
        };
        self.heading(frame, out)?;
        let (young, others): (Vec<&Group>, Vec<&Group>) =
            frame.groups.iter().partition(|group| group.verdict == Verdict::Young);
        let alike = alike(&others);
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
                self.indented(
                    &format!("and the same of {more} of that name: {}", sockets(others)),
                    out,
                )?;
            }
        }
        let rest: Vec<&Group> = alike.iter().skip(GROUPS).flatten().copied().collect();
        if !rest.is_empty() {
            let more = several(rest.len() as u64, "more group", "more groups");
            self.indented(&format!("and {more} of {}", sockets(&rest)), out)?;
        }
        self.young(&young, frame, out)?;
        if frame.groups.is_empty() {
            self.nothing(out)?;
        }
        let mut missing = Vec::new();
        missing.extend(frame.unseen.as_ref().and_then(words::unseen));
        if frame.lost > 0 {
            let lost = several(frame.lost, "transition was", "transitions were");
            missing.push(format!("{lost} lost: ages may be underestimated"));
        }
        if let Some(missed) = frame.missed.filter(|&missed| missed > 0) {
            missing.push(format!("{}: ages may be underestimated", words::missed(missed)));
        }
        if frame.evicted > 0 {
            let evicted = several(frame.evicted, "socket or group was", "sockets or groups were");
            missing.push(format!("{evicted} left out for want of room; try a filter"));
        }
        missing.iter().try_for_each(|line| self.rest(line, 0, out))?;
        writeln!(out)
    }
}

/// The network namespaces that were scanned, `count` of them; `None` for our own, as `ss` does it.
fn namespaces(selected: &NetnsSelector, count: usize) -> Option<String> {
    match selected {
        NetnsSelector::Own if count <= 1 => None,
        // Those of a kernel that cannot tell them apart.
        NetnsSelector::Own => Some(words::namespaces(&NetnsSelector::All, count)),
        selected => Some(words::namespaces(selected, count)),
    }
}

/// The place of `group`; of several network namespaces with its own: `:8080  netns web`.
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

/// `groups`, those together that differ only in the process and not in its name, as the children of one server do.
fn alike<'a>(groups: &[&'a Group]) -> Vec<Vec<&'a Group>> {
    let mut all: Vec<Vec<&Group>> = Vec::new();
    let mut places: HashMap<_, usize> = HashMap::new();
    for &group in groups {
        let place = group.owner.map(|owner| {
            let anyone = Key { pid: None, ..group.key };
            let kind = (owner.comm, group.verdict, group.process_exited, anyone);
            *places.entry(kind).or_insert(all.len())
        });
        match place.and_then(|place| all.get_mut(place)) {
            Some(groups) => groups.push(group),
            None => all.push(vec![group]),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::StateSet;

    use super::*;
    use crate::detect::leak::tests::{close_wait, scene, spread};
    use crate::input::owner::How;
    use crate::input::socket_owner::Holder;
    use crate::input::socket_scan::ScannedSocket;
    use crate::model::filter::Filter;
    use crate::model::leaks::tests::{SECOND, app, scan, socket};
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
        let mut view = Text::new(TimeZone::UTC, screen, ScanScope::new(filter, netns));
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
    fn numbered(number: u16) -> ScannedSocket {
        let mut found = close_wait(number);
        found.holders[0].fds = vec![u32::from(number) + 16];
        found
    }

    #[test]
    fn a_leak_has_its_verdict_evidence_and_advice() {
        let mut ages = spread(30, 300);
        ages.push(2);
        assert_eq!(
            shown(&scene(Some(60), &ages, &[0.04], numbered), unbounded()),
            "02:47:40  60s watched: 29 sockets in CLOSE_WAIT, FIN_WAIT2, SYN_SENT, LAST_ACK, 28 of them for 30s or longer\n\
             LEAK       app[12]  :8080  CLOSE_WAIT  28 sockets, oldest 5 m 0 s, +4.0/min\n\
             \x20          the peer closed; app has read EOF and not closed the descriptor: fds 17-44\n\
             \x20          none of them was closed in the 60s watched; 1 other was closed after 40ms at most\n\
             \x20          do: find the path in app that finishes with a connection and does not close it (an error path, a thread that returns), \
             and close the descriptor there; a restart frees them; a sysctl does not (explain close_wait)\n\
             \n"
        );
    }

    #[test]
    fn the_young_have_a_line() {
        let text = shown(&scene(Some(60), &[1, 2], &[0.1], close_wait), unbounded());
        assert!(
            text.contains(
                "YOUNG      app[12]  :8080  CLOSE_WAIT  2 sockets, oldest 2.0s; 1 other was closed after 100ms at most\n"
            ),
            "{text}"
        );
        let text = shown(&scene(None, &[], &[], close_wait), unbounded());
        assert!(
            text.contains("one scan: 0 sockets") && text.contains("\nno socket is in these states\n"),
            "{text}"
        );
    }

    #[test]
    fn the_heading_has_the_selection() {
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
            "02:46:40  one scan, local port 9002, network namespace of PID 7: 0 sockets in FIN_WAIT2, 0 of them for 30s or longer\n\
             no selected socket is in FIN_WAIT2\n\n"
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
        let groups = [7, 8, 0].map(group);
        let young = groups.clone().map(|mut group| {
            group.verdict = Verdict::Young;
            group
        });
        frame.groups = [groups, young].concat();
        let all = |frame: &LeaksFrame| shown_to(Filter::default(), NetnsSelector::All, frame, unbounded());
        let text = all(&frame);
        assert!(text.contains("watched, all network namespaces (1): "), "{text}");
        assert!(!text.contains("netns"), "{text}");
        frame.namespaces = [(7, Some("we\x1bb".into())), (8, None)].into();
        let text = all(&frame);
        assert!(text.contains("watched, all network namespaces (2): "), "{text}");
        for place in [":8080  netns we\\u{1b}b  ", ":8080  netns 8  ", ":8080  CLOSE_WAIT"] {
            assert!(text.contains(place), "{place} in {text}");
        }
        assert_eq!(text.matches("  netns 8  ").count(), 2, "of a young one too");
    }

    #[test]
    fn the_children_of_one_server_are_one_row() {
        let child = |number: u16| {
            let mut found = numbered(number);
            let process = app(100 + u32::from(number), How::Scan);
            (found.process, found.holders[0].process) = (Some(process), process.into());
            found
        };
        let text = shown(&scene(Some(60), &[300; 40], &[], child), unbounded());
        assert_eq!(text.matches("LEAK       app[").count(), 1, "{text}");
        assert!(
            text.contains("           and the same of 39 more processes of that name: 39 sockets (-o json)\n"),
            "{text}"
        );
        assert!(!text.contains("more group"), "{text}");
    }

    #[test]
    fn an_unknown_age_is_shown_as_unknown() {
        let mut leaks = Leaks::new(states(), 30 * SECOND, true);
        leaks.apply_scan(scan(10_000 * SECOND, vec![socket(TcpState::SynSent, 1)]));
        let text = shown(&leaks.frame(0, false, 0), unbounded());
        assert!(
            text.contains(
                "\nYOUNG      app[12]  to 10.0.0.2:1  SYN_SENT  1 socket, age unknown; leaks --watch 10s shows how long\n"
            ),
            "{text}"
        );
        // What answers keepalive seems young for ever, until it is watched.
        let mut leaks = Leaks::new(states(), 30 * SECOND, true);
        let mut answers = close_wait(1);
        answers.detail.last_ack_ms = Some(4_010);
        leaks.apply_scan(scan(10_000 * SECOND, vec![answers.clone()]));
        let text = shown(&leaks.frame(0, false, 0), unbounded());
        assert!(
            text.contains("\nYOUNG      app[12]  :8080  CLOSE_WAIT  1 socket, oldest at least 4.0s; leaks --watch"),
            "{text}"
        );
        leaks.apply_scan(scan(10_005 * SECOND, vec![answers]));
        let text = shown(&leaks.frame(0, true, 0), unbounded());
        assert!(
            text.contains("\nYOUNG      app[12]  :8080  CLOSE_WAIT  1 socket, oldest at least 9.0s\n"),
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
        assert!(coloured.contains("\x1b[31mLEAK       \x1b[0m"), "{coloured:?}");
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
        let held_by_none = |number| ScannedSocket {
            process: None,
            holders: Vec::new(),
            ..close_wait(number)
        };
        let mut frame = scene(None, &[100], &[], held_by_none);
        let nobody = "; no visible process holds them\n";
        assert!(shown(&frame, unbounded()).contains(nobody));
        frame.unseen = None;
        assert!(!shown(&frame, unbounded()).contains(nobody));
    }

    #[test]
    fn of_many_holders_few_are_told_with_their_descriptors() {
        let told = |fd: fn(u32, u16) -> u32| {
            let shared = move |number| {
                let mut found = numbered(number);
                let holder = |pid: u32| Holder {
                    process: app(pid, How::Scan).into(),
                    fds: vec![fd(pid, number)],
                };
                found.holders = (20..32).map(holder).collect();
                found.process = None;
                found
            };
            shown(&scene(Some(60), &[300; 3], &[], shared), unbounded())
        };
        let same = told(|_, number| u32::from(number) + 6);
        assert!(
            same.contains("LEAK       app[20] and 11 others  :8080")
                && same.contains("the descriptor: fds 7-9 in each of the 12 processes that hold them\n"),
            "{same}"
        );
        let different = told(|pid, number| pid + u32::from(number));
        assert!(
            different.contains("the descriptor: app[20] fds 21-23; app[21] fds 22-24; 10 more (-o json)\n"),
            "{different}"
        );
    }
}
