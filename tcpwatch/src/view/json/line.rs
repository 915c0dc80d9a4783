//! Writes one JSON object per line, safe to show on a terminal.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Writes `object` and a newline.
///
/// JSON requires escapes of C0 controls alone (RFC 8259, section 7). DEL, C1 controls and the characters that change the direction of
/// text are escaped too (`\u009b`), so that no name can move the cursor or reorder a line.
///
/// # Errors
/// `out` cannot be written to.
pub(crate) fn write(out: &mut (impl Write + ?Sized), object: &impl Serialize) -> io::Result<()> {
    object.serialize(&mut Serializer::with_formatter(&mut *out, Escaping))?;
    out.write_all(b"\n")
}

/// Formats compact JSON with these escapes.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: Write + ?Sized>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        // Nothing before DEL is escaped here, and most names have nothing after it.
        if fragment.bytes().all(|byte| byte < b'\x7f') {
            return out.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some(at) = rest.find(is_escaped) {
            let (plain, from) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut letters = from.chars();
            if let Some(letter) = letters.next() {
                // Each of these characters is a single code unit of UTF-16.
                write!(out, "\\u{:04x}", u32::from(letter))?;
            }
            rest = letters.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

/// Whether `letter` is DEL, a C1 control (ECMA-48), or in `Bidi_Control` (Unicode, UAX #9).
fn is_escaped(letter: char) -> bool {
    matches!(letter,
        '\u{7f}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, &[text]).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn controls_and_changes_of_direction_are_escaped() {
        assert_eq!(
            written("a\u{7f}\u{9b}2J\u{202e}gpj\u{2066}\u{61c}é\"\n"),
            "[\"a\\u007f\\u009b2J\\u202egpj\\u2066\\u061cé\\\"\\n\"]\n"
        );
        assert_eq!(written(""), "[\"\"]\n");
    }

    #[test]
    fn a_json_parser_gets_every_character_back() {
        let all: String = (0..=char::from_u32(0x2100).unwrap() as u32)
            .filter_map(char::from_u32)
            .collect();
        let line = written(&all);
        assert_eq!(
            line.matches(|letter: char| letter.is_control()).count(),
            1,
            "the end of the line"
        );
        let [read]: [String; 1] = serde_json::from_str(&line).unwrap();
        assert_eq!(read, all);
    }
}
