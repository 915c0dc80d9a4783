//! Findings as text: severity and title, and below them the advice.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use super::fit::prose;
use crate::detect::finding::{Finding, Severity};
use crate::view::screen::Screen;

/// Columns before the text of a step of advice.
const STEP: usize = 6;

/// Writes the severity and title of `finding`, then each step of its advice.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(finding: &Finding, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let style = style(finding.severity, screen);
    let word = finding.severity.key();
    let mut title = finding.title.clone();
    let mut advice = finding.advice.clone();
    let last = advice.last_mut().unwrap_or(&mut title);
    *last = format!("{last} (explain {})", finding.topic.key());
    let mut lines = prose(&title, word.len() + 2, screen);
    writeln!(out, "{style}{word}{style:#}  {}", lines.remove(0))?;
    for line in lines {
        writeln!(out, "{:STEP$}{line}", "")?;
    }
    for (step, advice) in advice.iter().enumerate() {
        let lines = if is_command(advice) {
            vec![advice.clone()]
        } else {
            prose(advice, STEP, screen)
        };
        for (row, line) in lines.into_iter().enumerate() {
            let mark = if (step, row) == (0, 0) { "  do:" } else { "" };
            writeln!(out, "{mark:STEP$}{line}")?;
        }
    }
    Ok(())
}

/// Writes `finding` without its advice.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_title(finding: &Finding, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let title = Finding {
        advice: Vec::new(),
        ..finding.clone()
    };
    write(&title, screen, out)
}

/// Whether a step of advice is a command, which is never wrapped so that it can be copied.
pub(super) fn is_command(step: &str) -> bool {
    ["sysctl -w ", "nsenter "]
        .iter()
        .any(|command| step.starts_with(command))
}

/// The colour of `severity`.
#[must_use]
pub const fn style(severity: Severity, screen: Screen) -> Style {
    match severity {
        _ if !screen.colour => Style::new(),
        Severity::Info => Style::new().dimmed(),
        Severity::Warning => AnsiColor::Yellow.on_default(),
        Severity::Critical => AnsiColor::Red.on_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::finding::tests::{bare, finding};

    fn shown(finding: &Finding, screen: Screen) -> String {
        let mut out = Vec::new();
        write(finding, screen, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_command_is_in_one_line() {
        let command = "nsenter --net=/run/netns/a sysctl -w net.ipv4.tcp_max_tw_buckets=24000";
        let finding = Finding {
            advice: vec![command.into(), "risk: none that anybody knows of".into()],
            ..bare()
        };
        let text = shown(&finding, Screen::plain(40));
        assert!(text.contains(&format!("\n  do: {command}\n      risk: none")), "{text}");
    }

    #[test]
    fn the_title_comes_before_the_advice() {
        assert_eq!(
            shown(&finding(), Screen::plain(80)),
            concat!(
                "warning  a\\u{1b}[7] opened 4,870 connections\n",
                "  do: use a pool\n",
                "      or keep-alive (explain churn)\n"
            )
        );
        assert_eq!(shown(&bare(), Screen::plain(80)), "info  x (explain tcp_tw_recycle)\n");
    }

    #[test]
    fn a_line_is_no_longer_than_the_terminal_is_wide() {
        let text = shown(&finding(), Screen::plain(30));
        assert_eq!(
            text,
            concat!(
                "warning  a\\u{1b}[7] opened\n",
                "      4,870 connections\n",
                "  do: use a pool\n",
                "      or keep-alive (explain\n",
                "      churn)\n"
            )
        );
        let piped = Screen {
            width: None,
            ..Screen::plain(30)
        };
        assert_eq!(shown(&finding(), piped).lines().count(), 3);
    }

    #[test]
    fn only_the_severity_is_coloured() {
        let colour = Screen {
            colour: true,
            ..Screen::plain(80)
        };
        let text = shown(&finding(), colour);
        assert!(text.starts_with("\u{1b}[33mwarning\u{1b}[0m  a"), "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 2);
    }
}
