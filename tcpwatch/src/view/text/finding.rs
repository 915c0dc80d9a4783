//! Findings for people: how bad, what, and under it what to do.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};

use crate::diagnose::finding::{Finding, Severity};
use crate::view::screen::Screen;

/// A line for what `finding` says, and one for each step of its advice.
///
/// # Errors
/// The output takes no more.
pub fn write(finding: &Finding, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    let style = style(finding.severity, screen);
    write!(out, "{style}{}{style:#}  {}", finding.severity.key(), finding.title)?;
    for (step, advice) in finding.advice.iter().enumerate() {
        write!(out, "\n  {} {advice}", if step == 0 { "do:" } else { "   " })?;
    }
    writeln!(out, " (explain {})", finding.topic.key())
}

/// The colour of `severity`, which its word tells too.
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
    use crate::diagnose::finding::tests::{bare, finding};

    fn shown(finding: &Finding, screen: Screen) -> String {
        let mut out = Vec::new();
        write(finding, screen, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_wrong_comes_before_what_to_do() {
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
    fn colour_is_of_the_word_alone() {
        let colour = Screen {
            colour: true,
            ..Screen::plain(80)
        };
        let text = shown(&finding(), colour);
        assert!(text.starts_with("\u{1b}[33mwarning\u{1b}[0m  a"), "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 2);
    }
}
