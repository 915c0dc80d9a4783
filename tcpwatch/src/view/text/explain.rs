//! `explain` for people.

use std::io::{self, Write};

use anstyle::Style;

use super::wrap::{COMMAND, padded, wrap};
use crate::explain;
use crate::explain::facts::Facts;
use crate::explain::group::Group;
use crate::explain::lang::Lang;
use crate::explain::names::Names;
use crate::explain::page::Heading;
use crate::explain::related::related;
use crate::explain::topic::Topic;
use crate::explain::words::Remains;
use crate::view::screen::Screen;
use crate::view::states;

/// No line of prose is longer: longer ones are hard to read.
const COLUMNS: usize = 80;
/// Under a heading.
const INDENT: &str = "  ";

/// Writes what there is to say about `topic`.
///
/// # Errors
/// Those of `out`.
pub fn page(out: &mut impl Write, topic: Topic, lang: Lang, screen: Screen) -> io::Result<()> {
    let page = explain::page(topic, lang);
    let columns = columns(screen);
    let strong = strong(screen);
    let style = match topic {
        Topic::State(state) if screen.colour => states::style(state).bold(),
        _ => strong,
    };
    writeln!(out, "{style}{}{style:#}", title(topic))?;
    lines(out, "", page.about, screen)?;
    if let Some(fact) = facts(topic, lang) {
        lines(out, "", &fact, screen)?;
    }
    for part in &page.parts {
        writeln!(out, "\n{strong}{}{strong:#}", part.heading.words(lang))?;
        let mark = if part.text.len() > 1 && is_list(part.heading) {
            "- "
        } else {
            ""
        };
        for text in part.text {
            lines(out, mark, text, screen)?;
        }
    }
    let related = related(topic);
    if !related.is_empty() {
        let keys: Vec<&str> = related.into_iter().map(Topic::key).collect();
        let words = explain::words(lang);
        writeln!(out)?;
        for line in wrap(&format!("{}{}", words.see, keys.join(words.comma)), columns) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// Writes the topics of `groups`, one a line.
///
/// # Errors
/// Those of `out`.
pub fn list(out: &mut impl Write, groups: &[Group], lang: Lang, screen: Screen) -> io::Result<()> {
    let columns = columns(screen);
    let strong = strong(screen);
    let topics = groups.iter().flat_map(|group| group.topics());
    let widest = topics.map(|topic| topic.key().len()).max().unwrap_or(0);
    for (place, group) in groups.iter().enumerate() {
        if place > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{strong}{}{strong:#}", group.words(lang))?;
        for topic in group.topics() {
            let key = padded(topic.key(), widest);
            let style = match topic {
                Topic::State(state) => screen.style(state),
                _ => Style::new(),
            };
            let about = wrap(
                explain::page(topic, lang).about,
                columns.saturating_sub(widest + 2 * INDENT.len()),
            );
            for (place, line) in about.iter().enumerate() {
                if place == 0 {
                    writeln!(out, "{INDENT}{style}{key}{style:#}{INDENT}{line}")?;
                } else {
                    writeln!(out, "{INDENT}{:widest$}{INDENT}{line}", "")?;
                }
            }
        }
    }
    writeln!(out)?;
    for line in wrap(explain::words(lang).more, columns) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Columns that prose is laid out in.
pub(super) fn columns(screen: Screen) -> usize {
    screen.width.unwrap_or(COLUMNS).clamp(20, COLUMNS)
}

/// The style of a heading.
fn strong(screen: Screen) -> Style {
    if screen.colour {
        Style::new().bold()
    } else {
        Style::new()
    }
}

/// Writes `text` under a heading, after `mark`. A command it begins with has a line to itself, so that it can be copied.
fn lines(out: &mut impl Write, mark: &str, text: &str, screen: Screen) -> io::Result<()> {
    let columns = columns(screen);
    let under = " ".repeat(mark.len());
    if let Some((command, said)) = command(text) {
        let strong = strong(screen);
        writeln!(out, "{INDENT}{mark}{strong}{command}{strong:#}")?;
        let before = format!("{INDENT}{under}{INDENT}");
        for line in wrap(said, columns.saturating_sub(before.len())) {
            writeln!(out, "{before}{line}")?;
        }
        return Ok(());
    }
    let room = columns.saturating_sub(INDENT.len() + mark.len());
    for (place, line) in wrap(text, room).iter().enumerate() {
        let before = if place == 0 { mark } else { &under };
        writeln!(out, "{INDENT}{before}{line}")?;
    }
    Ok(())
}

/// The command that `text` begins with, and what is said of it.
fn command(text: &str) -> Option<(&str, &str)> {
    let (command, rest) = text.strip_prefix(COMMAND)?.split_once(COMMAND)?;
    let said = rest.strip_prefix(": ").or_else(|| rest.strip_prefix('：'))?;
    Some((command, said))
}

/// Whether several things under `heading` stand for themselves, and are no paragraphs of one text.
const fn is_list(heading: Heading) -> bool {
    matches!(
        heading,
        Heading::Causes | Heading::Look | Heading::ToDo | Heading::Cases | Heading::DoesNot | Heading::Risk
    )
}

/// The name of `topic`, as it is known.
fn title(topic: Topic) -> &'static str {
    match topic {
        Topic::State(state) => state.name(),
        Topic::Setting(setting) => setting.sysctl(),
        topic => topic.key(),
    }
}

/// What is the same in every language, in the words of `lang`.
fn facts(topic: Topic, lang: Lang) -> Option<String> {
    let words = explain::words(lang);
    match topic {
        Topic::State(state) => Some((words.names)(Names::of(state))),
        Topic::Ending(ending) => Some((words.told_as)(ending, Remains::of(ending))),
        Topic::Setting(setting) => Some((words.defaults)(Facts::of(setting))),
        Topic::Finding(_) | Topic::NoTimeWait => None,
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::setting::Setting;
    use crate::view::text::wrap::width;

    fn text(topic: Topic, lang: Lang, columns: usize) -> String {
        let mut out = Vec::new();
        page(&mut out, topic, lang, Screen::plain(columns)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_page_fits_80_columns_and_40() {
        for columns in [80, 40] {
            for lang in Lang::ALL {
                for topic in Topic::all() {
                    let page = explain::page(topic, lang);
                    let is_command = |line: &str| {
                        let command = format!("`{}`", line.trim_start_matches([' ', '-']));
                        page.parts
                            .iter()
                            .flat_map(|part| part.text)
                            .any(|text| text.contains(&command))
                    };
                    for line in text(topic, lang, columns).lines() {
                        // A word that is longer than the line cannot be helped, and a command must be whole; none is as long as 80.
                        let is_whole = !line.trim().contains(' ') || line.contains('`') || is_command(line);
                        let fits = width(line) <= columns || columns < 80 && is_whole;
                        assert!(fits, "{} in {}: {line}", topic.key(), lang.key());
                    }
                }
            }
        }
    }

    #[test]
    fn the_list_names_every_topic_in_80_columns() {
        for lang in Lang::ALL {
            let mut out = Vec::new();
            list(&mut out, &Group::ALL, lang, Screen::plain(200)).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.lines().all(|line| width(line) <= 80), "{out}");
            for topic in Topic::all() {
                let named = |line: &str| line.split_whitespace().next() == Some(topic.key());
                assert_eq!(out.lines().filter(|line| named(line)).count(), 1, "{}", topic.key());
            }
        }
    }

    #[test]
    fn a_page_begins_with_its_name_and_names_what_the_state_is_called_elsewhere() {
        let out = text(Topic::State(TcpState::FinWait1), Lang::En, 80);
        assert!(
            out.starts_with(
                "FIN_WAIT1\n  We closed first; our FIN is not acknowledged yet\n  \
                 kernel TCP_FIN_WAIT1 (4), ss FIN-WAIT-1, netstat FIN_WAIT1, RFC FIN-WAIT-1\n"
            ),
            "{out}"
        );
        let out = text(Topic::Setting(Setting::Somaxconn), Lang::Zh, 80);
        assert!(
            out.contains("默认值：4096（Linux 5.4 之前是 128）；每个网络命名空间各有一份"),
            "{out}"
        );
        let out = text(Topic::Setting(Setting::TcpTwRecycle), Lang::En, 80);
        assert!(
            out.contains("default: 0 (before Linux 4.12); one for the whole host before Linux 4.11"),
            "{out}"
        );
    }

    #[test]
    fn a_command_has_a_line_to_itself() {
        for (lang, said) in [
            (Lang::En, "those that a process"),
            (Lang::Zh, "本机进程仍然持有的那些。"),
        ] {
            let out = text(Topic::State(TcpState::FinWait2), lang, 80);
            assert!(out.contains(&format!("\n  - tcpwatch leaks\n      {said}")), "{out}");
        }
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let topic = Topic::State(TcpState::CloseWait);
        let plain = text(topic, Lang::En, 80);
        let mut out = Vec::new();
        let screen = Screen {
            colour: true,
            ..Screen::plain(80)
        };
        page(&mut out, topic, Lang::En, screen).unwrap();
        let coloured = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_ne!(out, plain.as_bytes());
        assert_eq!(coloured, plain);
    }
}
