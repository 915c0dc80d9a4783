//! `explain` as text.

use std::io::{self, Write};

use anstyle::Style;

use super::fit::padded;
use super::wrap::{COMMAND, wrap};
use crate::explain;
use crate::explain::group::TopicGroup;
use crate::explain::lang::Lang;
use crate::explain::names::Names;
use crate::explain::page::Heading;
use crate::explain::related::related;
use crate::explain::topic::Topic;
use crate::explain::words::TimewaitSocket;
use crate::input::setting_defaults::SettingFacts;
use crate::view::screen::Screen;
use crate::view::states;

/// Longest line of prose, columns. Longer lines are hard to read.
const COLUMNS: usize = 80;
/// Indent of text under a heading.
const INDENT: &str = "  ";

/// Writes the page of `topic`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_page(out: &mut impl Write, topic: Topic, lang: Lang, screen: Screen) -> io::Result<()> {
    let page = explain::page(topic, lang);
    let columns = columns(screen);
    let strong = strong(screen);
    let style = match topic {
        Topic::State(state) if screen.colour => states::style(state).bold(),
        _ => strong,
    };
    writeln!(out, "{style}{}{style:#}", title(topic))?;
    write_text(out, "", page.about, screen)?;
    if let Some(facts) = facts(topic, lang) {
        write_text(out, "", &facts, screen)?;
    }
    for part in &page.parts {
        writeln!(out, "\n{strong}{}{strong:#}", part.heading.words(lang))?;
        let mark = if part.text.len() > 1 && is_list(part.heading) {
            "- "
        } else {
            ""
        };
        for text in part.text {
            write_text(out, mark, text, screen)?;
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

/// Writes the topics of `groups`, one per line.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_list(out: &mut impl Write, groups: &[TopicGroup], lang: Lang, screen: Screen) -> io::Result<()> {
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

/// Columns to wrap prose at.
pub(super) fn columns(screen: Screen) -> usize {
    screen.width.unwrap_or(COLUMNS).clamp(20, COLUMNS)
}

/// The style of a heading.
fn strong(screen: Screen) -> Style {
    screen.styled(Style::new().bold())
}

/// Writes `text` under a heading, after `mark`. A command at its beginning gets a line to itself, so that it can be copied.
fn write_text(out: &mut impl Write, mark: &str, text: &str, screen: Screen) -> io::Result<()> {
    let columns = columns(screen);
    let under = " ".repeat(mark.len());
    if let Some((command, rest)) = split_command(text) {
        let strong = strong(screen);
        writeln!(out, "{INDENT}{mark}{strong}{command}{strong:#}")?;
        let before = format!("{INDENT}{under}{INDENT}");
        for line in wrap(rest, columns.saturating_sub(before.len())) {
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

/// Splits `text` into the command at its beginning and the text about it.
fn split_command(text: &str) -> Option<(&str, &str)> {
    let (command, rest) = text.strip_prefix(COMMAND)?.split_once(COMMAND)?;
    let about = rest.strip_prefix(": ").or_else(|| rest.strip_prefix('：'))?;
    Some((command, about))
}

/// Whether the texts under `heading` are the items of a list; otherwise they are paragraphs.
const fn is_list(heading: Heading) -> bool {
    matches!(
        heading,
        Heading::Causes | Heading::Look | Heading::ToDo | Heading::Cases | Heading::DoesNot | Heading::Risk
    )
}

/// The common name of `topic`.
fn title(topic: Topic) -> &'static str {
    match topic {
        Topic::State(state) => state.name(),
        Topic::Setting(setting) => setting.sysctl(),
        topic => topic.key(),
    }
}

/// The line of facts under the title: names, defaults. They are the same in every language, and their words are of `lang`.
fn facts(topic: Topic, lang: Lang) -> Option<String> {
    let words = explain::words(lang);
    match topic {
        Topic::State(state) => Some((words.names)(Names::for_state(state))),
        Topic::Ending(ending) => Some((words.ending_names_line)(ending, TimewaitSocket::left_by(ending))),
        Topic::Setting(setting) => Some((words.defaults)(SettingFacts::for_setting(setting))),
        Topic::Finding(_) | Topic::NoTimeWait => None,
    }
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::setting::Setting;
    use crate::view::text::fit::width;

    fn text(topic: Topic, lang: Lang, columns: usize) -> String {
        let mut out = Vec::new();
        write_page(&mut out, topic, lang, Screen::plain(columns)).unwrap();
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
                        // A word or a command may be longer than 40 columns, and is not broken.
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
            write_list(&mut out, &TopicGroup::ALL, lang, Screen::plain(200)).unwrap();
            let out = String::from_utf8(out).unwrap();
            assert!(out.lines().all(|line| width(line) <= 80), "{out}");
            for topic in Topic::all() {
                let named = |line: &str| line.split_whitespace().next() == Some(topic.key());
                assert_eq!(out.lines().filter(|line| named(line)).count(), 1, "{}", topic.key());
            }
        }
    }

    #[test]
    fn a_page_begins_with_the_name_of_the_topic_and_its_names_in_other_tools() {
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
        for (lang, about) in [
            (Lang::En, "the sockets that a process"),
            (Lang::Zh, "本机进程仍然持有的那些。"),
        ] {
            let out = text(Topic::State(TcpState::FinWait2), lang, 80);
            assert!(out.contains(&format!("\n  - tcpwatch leaks\n      {about}")), "{out}");
        }
    }

    #[test]
    fn colour_changes_no_text() {
        let topic = Topic::State(TcpState::CloseWait);
        let plain = text(topic, Lang::En, 80);
        let mut out = Vec::new();
        let screen = Screen {
            colour: true,
            ..Screen::plain(80)
        };
        write_page(&mut out, topic, Lang::En, screen).unwrap();
        let coloured = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        assert_ne!(out, plain.as_bytes());
        assert_eq!(coloured, plain);
    }
}
