//! `doctor` for people: what is wrong first, what is worth knowing, and a table of all settings with value and default.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anstyle::Style;

use super::finding::{is_command, style};
use super::fit::{padded, width};
use super::wrap::wrap;
use crate::detect::few;
use crate::detect::finding::{Finding, Severity};
use crate::doctor::{Line, Report, Standing};
use crate::input::escaped::Escaped;
use crate::input::host::HostFrame;
use crate::model::format::{UNKNOWN, duration};
use crate::view::screen::Screen;

/// Width of the first column, and indent of continued lines.
const INDENT: usize = 10;
/// Columns of names: those of the longest.
const NAMES: usize = 32;
/// Columns of values with their defaults, of nearly all of them.
const VALUES: usize = 21;
/// Columns that words need at least.
const WORDS: usize = 44;

/// Writes `report` about `frame`, which was read at `place`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(frame: &HostFrame, report: &Report, place: &str, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let columns = screen.columns().max(INDENT + WORDS);
    let mut heading = wrap(&heading(frame, report, place), columns).into_iter();
    writeln!(out, "{}", heading.next().unwrap_or_default())?;
    for row in heading {
        writeln!(out, "{:INDENT$}{row}", "")?;
    }
    let loud = report.lines.iter().filter(|line| line.standing == Standing::Notable);
    let mut blocks: Vec<Block<'_>> = report.troubles.iter().map(Block::for_trouble).collect();
    blocks.extend(loud.map(Block::for_line));
    blocks.sort_by_key(|block| std::cmp::Reverse(block.finding.severity));
    for block in &blocks {
        block.write(columns, screen, out)?;
    }
    writeln!(out)?;
    for line in &report.lines {
        let (mark, name, value) = (mark(line), line.setting.sysctl(), value(line));
        let place = line.place.as_ref().map(ToString::to_string).unwrap_or_default();
        let row = format!("{mark:INDENT$}{name:NAMES$}  {}", padded(&value, VALUES));
        let beside = format!("{row}  {place}");
        if width(beside.trim_end()) <= columns {
            writeln!(out, "{}", beside.trim_end())?;
            continue;
        }
        if width(row.trim_end()) <= columns {
            writeln!(out, "{}", row.trim_end())?;
        } else {
            // A value that does not fit its column takes the rest of the line.
            write_beside(mark, &format!("{name}  {value}"), columns, out)?;
        }
        if !place.is_empty() {
            write_below(&place, "", columns, out)?;
        }
    }
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in report.lines.iter().filter(|line| line.standing == Standing::Unknown) {
        reasons.entry(&line.words).or_default().push(line.setting.sysctl());
    }
    if !reasons.is_empty() {
        writeln!(out)?;
    }
    for (why, settings) in reasons {
        write_beside("unknown", &format!("{}: {why}", few(&settings)), columns, out)?;
    }
    if !frame.missing.is_empty() {
        writeln!(out)?;
    }
    for missing in &frame.missing {
        write_beside("not read", &missing.to_string(), columns, out)?;
    }
    Ok(())
}

/// The first line: `Linux 6.1.0, up 41 d 2 h, this network namespace: 2 wrong, 1 worth knowing, 20 in order`.
fn heading(frame: &HostFrame, report: &Report, place: &str) -> String {
    let release = frame.release_text.as_ref().map_or_else(
        || "unknown kernel".into(),
        |release| format!("Linux {}", Escaped(release.as_bytes())),
    );
    let up = frame.uptime_s.map(|seconds| match seconds {
        0 => ", up 0 s".into(),
        seconds => format!(", up {}", duration(seconds.saturating_mul(1_000_000_000))),
    });
    let lines = |standing| report.lines.iter().filter(move |line| line.standing == standing);
    let wrong = report
        .findings()
        .filter(|finding| finding.severity > Severity::Info)
        .count();
    let noted = lines(Standing::Notable).count() + report.troubles.len() - wrong;
    let unknown = match lines(Standing::Unknown).count() {
        0 => String::new(),
        unknown => format!(", {unknown} unknown"),
    };
    format!(
        "{release}{}, {place}: {wrong} wrong, {noted} worth knowing, {} in order{unknown}",
        up.unwrap_or_default(),
        lines(Standing::Fine).count()
    )
}

/// How bad a line is.
const fn mark(line: &Line) -> &'static str {
    match line.standing {
        Standing::Fine => "ok",
        Standing::Unknown => "unknown",
        Standing::Notable => line.finding.severity.key(),
    }
}

/// `30 (default 60)`, `1 (default)`, `empty (default)`; `?` for an unknown value, `-` for a setting that this kernel does not have.
fn value(line: &Line) -> String {
    let value = match line.value.as_deref() {
        None if line.standing == Standing::Unknown => UNKNOWN,
        None => "-",
        Some("") => "empty",
        Some(value) => value,
    };
    format!("{value}{}", line.beside)
}

/// A problem, or a notable setting, with its advice.
struct Block<'a> {
    finding: &'a Finding,
    head: String,
    words: &'a str,
}

impl<'a> Block<'a> {
    fn for_trouble(finding: &'a Finding) -> Self {
        Self {
            finding,
            head: finding.topic.key().into(),
            words: &finding.title,
        }
    }

    fn for_line(line: &'a Line) -> Self {
        let place = line
            .place
            .as_ref()
            .map(|place| format!("  {place}"))
            .unwrap_or_default();
        Self {
            finding: &line.finding,
            head: format!("{}  {}{place}", line.setting.sysctl(), value(line)),
            words: &line.words,
        }
    }

    /// Writes the severity and the setting, then the explanation and the advice.
    fn write(&self, columns: usize, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
        let Self { finding, head, words } = self;
        let severity = finding.severity.key();
        let style = style(finding.severity, screen);
        let bold = screen.styled(Style::new().bold());
        let blanks = INDENT - severity.len();
        let head = wrap(head, columns - INDENT).join(&format!("\n{:INDENT$}", ""));
        writeln!(out, "\n{style}{severity}{style:#}{:blanks$}{bold}{head}{bold:#}", "")?;
        write_below(words, "", columns, out)?;
        for (step, advice) in finding.advice.iter().enumerate() {
            write_below(advice, if step == 0 { "do: " } else { "    " }, columns, out)?;
        }
        writeln!(out, "{:INDENT$}(explain {})", "", finding.topic.key())
    }
}

/// Writes `label` and `words` beside it.
fn write_beside(label: &str, words: &str, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let rows = wrap(words, columns - INDENT);
    writeln!(out, "{label:INDENT$}{}", rows.join(&format!("\n{:INDENT$}", "")))
}

/// Writes `words` in indented lines, after `mark`. A command is not wrapped.
fn write_below(words: &str, mark: &str, columns: usize, out: &mut dyn Write) -> io::Result<()> {
    let room = columns - INDENT - mark.len();
    let rows = if is_command(words) {
        vec![words.to_owned()]
    } else {
        wrap(words, room)
    };
    for (index, row) in rows.iter().enumerate() {
        let mark = if index == 0 {
            mark.to_owned()
        } else {
            " ".repeat(mark.len())
        };
        writeln!(out, "{:INDENT$}{mark}{row}", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::doctor::examine;
    use crate::input::setting::Setting;
    use crate::source::host::copied;
    use crate::sys::host_root::HostRoot;

    /// The text for each copied tree among the fixtures.
    fn shown(screen: Screen) -> Vec<String> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/doctor");
        let trees = ["4.9-tw-recycle", "6.1-listen-overflow", "healthy", "garbage", "bare"];
        let show = |tree| {
            let frame = copied(&HostRoot::open(&fixtures.join(tree)).unwrap());
            let mut out = Vec::new();
            write(&frame, &examine(&frame, true), "a copied tree", screen, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        trees.map(show).to_vec()
    }

    #[test]
    fn no_line_is_wider_than_the_screen_unless_it_is_a_command() {
        for columns in [60, 80, 100, 120, 200] {
            for text in shown(Screen::plain(columns)) {
                let settings = Setting::ALL.map(Setting::sysctl);
                assert!(settings.iter().all(|setting| text.contains(setting)), "{text}");
                for line in text.lines() {
                    let fits = width(line) <= columns || line.contains("sysctl -w");
                    assert!(fits, "{columns}: {line}");
                }
            }
        }
    }

    #[test]
    fn colour_changes_no_text() {
        let colour = Screen {
            colour: true,
            ..Screen::plain(100)
        };
        for (coloured, plain) in shown(colour).into_iter().zip(shown(Screen::plain(100))) {
            let mut parts = coloured.split('\u{1b}');
            let first = parts.next().unwrap_or_default().to_owned();
            let stripped = parts.fold(first, |text, part| {
                text + part.split_once('m').map_or("", |(_, rest)| rest)
            });
            assert_eq!(stripped, plain);
            assert_eq!(
                coloured == plain,
                !plain.contains("(explain"),
                "problems and notable settings have colour"
            );
        }
    }
}
