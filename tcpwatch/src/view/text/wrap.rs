//! Wraps prose in English and Chinese. A Chinese character takes two columns, and a line may break after each of them. No line breaks
//! within a command in backquotes, so that it can be copied.

use unicode_width::UnicodeWidthChar;

use super::fit::{head, width};

/// Punctuation that no line begins with.
const CLOSING: &str = "，。、；：）！？";
/// Punctuation that no line ends with.
const OPENING: &str = "（";

/// Encloses a command.
pub(super) const COMMAND: char = '`';

/// Wraps `text` in lines of at most `columns` columns. A longer word is split, and a longer command gets a line to itself.
pub(super) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for mut piece in pieces(text) {
        if !line.is_empty() && width(&line) + width(piece.trim_end()) > columns {
            lines.push(line.trim_end().to_owned());
            line.clear();
        }
        while width(piece.trim_end()) > columns && !piece.contains(COMMAND) {
            let fits = head(piece, columns.max(2));
            lines.push(fits.to_owned());
            piece = &piece[fits.len()..];
        }
        line += piece;
    }
    lines.push(line.trim_end().to_owned());
    lines
}

/// Splits `text` where a line may break. Blanks belong to the piece before them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let mut letters = rest.char_indices().peekable();
        let mut end = rest.len();
        let mut in_command = false;
        while let Some((at, letter)) = letters.next() {
            if letter == COMMAND {
                in_command = !in_command && rest[at + 1..].contains(COMMAND);
            }
            if let Some(&(at, next)) = letters.peek()
                && !in_command
                && may_break(letter, next)
            {
                end = at;
                break;
            }
        }
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Whether a line may break between these two characters.
fn may_break(letter: char, next: char) -> bool {
    let wide = |letter: char| letter.width() == Some(2);
    if letter == ' ' || next == ' ' {
        return letter == ' ' && next != ' ';
    }
    (wide(letter) || wide(next)) && !CLOSING.contains(next) && !OPENING.contains(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_breaks_at_blanks() {
        assert_eq!(wrap("one two  three", 7), ["one two", "three"]);
        assert_eq!(wrap("a unbreakable x", 4), ["a", "unbr", "eaka", "ble", "x"]);
        assert_eq!(wrap("unbreakable", 0).concat(), "unbreakable");
        assert_eq!(wrap("", 4), [""]);
    }

    #[test]
    fn chinese_breaks_anywhere_but_beside_punctuation() {
        assert_eq!(wrap("对端已关闭，本端没有", 10), ["对端已关", "闭，本端没", "有"]);
        assert_eq!(wrap("关闭（被动）", 6), ["关闭", "（被", "动）"]);
        assert_eq!(wrap("调用 close() 之后", 9), ["调用", "close()", "之后"]);
    }

    #[test]
    fn no_line_breaks_within_a_command() {
        assert_eq!(wrap("who: `ss -K` or", 8), ["who:", "`ss -K`", "or"]);
        assert_eq!(wrap("用 `ss -K` 查看，又", 10), ["用 `ss -K`", "查看，又"]);
        assert_eq!(wrap("a ` b c", 4), ["a `", "b c"], "one backquote encloses no command");
    }

    #[test]
    fn no_character_is_lost_and_no_line_is_too_long() {
        let text = "收到 FIN：Send-Q 大于 1（见 ss -tno），对端没有确认。";
        for columns in 14..60 {
            let lines = wrap(text, columns);
            assert!(lines.iter().all(|line| width(line) <= columns), "{columns}: {lines:?}");
            let letters = |text: &str| text.chars().filter(|letter| *letter != ' ').collect::<String>();
            assert_eq!(letters(&lines.concat()), letters(text));
        }
    }
}
