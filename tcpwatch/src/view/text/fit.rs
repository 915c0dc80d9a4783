//! Fits text to the columns of a terminal. A wide character takes two of them, a colour sequence (`ESC [ … m`) none.

use std::borrow::Cow;
use std::io::{self, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::wrap::wrap;
use crate::model::format::thousands;
use crate::view::screen::Screen;

/// Stands for the text that was cut.
const CUT: &str = "…";
/// Ends all colours.
const RESET: &str = "\x1b[0m";
/// Prose is wrapped at no less than so many columns.
const MIN_PROSE: usize = 20;

/// Columns that `text` takes.
pub(in crate::view) fn width(text: &str) -> usize {
    let mut parts = text.split('\x1b');
    let first = parts.next().map_or(0, UnicodeWidthStr::width);
    let others = parts.map(|part| part.split_once('m').map_or(0, |(_, text)| text.width()));
    first + others.sum::<usize>()
}

/// Pads `text` with blanks to `columns` columns.
pub(super) fn padded(text: &str, columns: usize) -> String {
    let blanks = columns.saturating_sub(width(text));
    format!("{text}{:blanks$}", "")
}

/// The characters at the beginning of `text` that take at most `columns` columns.
pub(super) fn head(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let end = text.char_indices().find(|(_, letter)| {
        used += letter.width().unwrap_or(0);
        used > columns
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}

/// The characters at the end of `text` that take at most `columns` columns.
fn tail(text: &str, columns: usize) -> &str {
    let mut used = 0;
    let begin = text.char_indices().rev().find(|(_, letter)| {
        used += letter.width().unwrap_or(0);
        used > columns
    });
    &text[begin.map_or(0, |(at, letter)| at + letter.len_utf8())..]
}

/// `text` without its middle if it takes more than `columns` columns: `kube-co…er[4194304]`.
pub(super) fn shortened(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return text.into();
    }
    let kept = columns.saturating_sub(1);
    let head = head(text, kept / 2);
    format!("{head}{CUT}{}", tail(text, kept - width(head))).into()
}

/// Writes a row. The terminal shows no more of it than fits one line.
pub(super) fn write_row(row: &str, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    match screen.width.filter(|&columns| columns < width(row)) {
        Some(columns) => writeln!(out, "{}", cut(row, columns)),
        None => writeln!(out, "{row}"),
    }
}

/// The beginning of `row`, with its colours, in at most `columns` columns.
fn cut(row: &str, columns: usize) -> String {
    let mut room = columns.saturating_sub(1);
    let mut kept = String::new();
    for (at, part) in row.split('\x1b').enumerate() {
        let (colour, text) = match part.split_once('m') {
            Some((colour, text)) if at > 0 => (colour, text),
            _ => ("", part),
        };
        if at > 0 {
            kept.extend(["\x1b", colour, "m"]);
        }
        let head = head(text, room);
        kept.push_str(head);
        if head.len() < text.len() {
            kept.push_str(CUT);
            kept.push_str(if at > 0 { RESET } else { "" });
            break;
        }
        room -= width(head);
    }
    kept
}

/// Writes `text` behind `indent` columns that are written, and wraps it to lines that begin there.
pub(super) fn write_prose(text: &str, indent: usize, screen: Screen, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        prose(text, indent, screen).join(&format!("\n{:indent$}", ""))
    )
}

/// Wraps `text` in the columns of the terminal beside `used` others. Without a terminal, no line is too long.
pub(super) fn prose(text: &str, used: usize, screen: Screen) -> Vec<String> {
    match screen.width {
        Some(columns) => wrap(text, columns.saturating_sub(used).max(MIN_PROSE)),
        None => vec![text.to_owned()],
    }
}

/// Appends `items` to `line`, separated by commas: the first, and as many more as fit `screen`; then how many do not.
pub(super) fn push_items(line: &mut String, items: &[String], screen: Screen) {
    for (at, item) in items.iter().enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        let rest = format!(", and {} more", thousands((items.len() - at) as u64));
        if at > 0 && width(line) + width(comma) + width(item) + width(&rest) > screen.columns() {
            line.push_str(&rest);
            return;
        }
        line.push_str(comma);
        line.push_str(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_columns_and_wide_characters_two() {
        for (text, columns) in [("", 0), ("a\x1b[32mb\x1b[0m·", 3), ("服务", 4), ("\x1b[1m服\x1b[0m", 2)] {
            assert_eq!(width(text), columns, "{text:?}");
        }
        assert_eq!(padded("状态", 6), "状态  ");
        assert_eq!(padded("long", 2), "long");
    }

    #[test]
    fn a_name_loses_its_middle() {
        for (columns, text) in [
            (24, "kube-controller[4194304]"),
            (19, "kube-cont…[4194304]"),
            (2, "…]"),
            (1, "…"),
        ] {
            assert_eq!(shortened("kube-controller[4194304]", columns), text);
        }
        assert_eq!(shortened("服务器服务器[8]", 9), "服务…[8]");
        for columns in 1..16 {
            assert!(width(&shortened("服务器服务器[8]", columns)) <= columns);
        }
    }

    #[test]
    fn a_row_is_cut_and_its_colours_end() {
        let row = |row: &str, width| {
            let mut out = Vec::new();
            let screen = Screen { width, colour: true };
            write_row(row, screen, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(row("abcdef", None), "abcdef\n");
        assert_eq!(row("abcdef", Some(6)), "abcdef\n");
        assert_eq!(row("abcdef", Some(5)), "abcd…\n");
        assert_eq!(row("a\x1b[32mbcd\x1b[0mef", Some(3)), "a\x1b[32mb…\x1b[0m\n");
        assert_eq!(row("a\x1b[32mbcd\x1b[0mef", Some(5)), "a\x1b[32mbcd\x1b[0m…\x1b[0m\n");
        assert_eq!(row("服务器", Some(4)), "服…\n");
        assert_eq!(row("abc", Some(0)), "…\n");
    }
}
