//! Escapes bytes from outside, such as process names and paths, so that a terminal interprets none of them.

use std::fmt::{self, Write};

/// Displays bytes as text. Printable characters stay. Control and invisible characters become Rust escapes (`\n`, `\u{1b}`), a
/// backslash is doubled, and invalid UTF-8 becomes `\xNN`. Different inputs give different texts.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                match letter {
                    '\'' | '"' => f.write_char(letter)?,
                    _ => letter.escape_debug().fmt(f)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        for (bytes, shown) in [
            (&b"nginx: master 'a' \"b\""[..], "nginx: master 'a' \"b\""),
            (b"\x1b[2J\r\n\t\0\x7f", r"\u{1b}[2J\r\n\t\0\u{7f}"),
            (b"a\\n", r"a\\n"),
            (b"caf\xc3\xa9 \xff\xc3", r"café \xff\xc3"),
            ("\u{9b}2J\u{202e}\u{200b}".as_bytes(), r"\u{9b}2J\u{202e}\u{200b}"),
            (b"", ""),
        ] {
            assert_eq!(Escaped(bytes).to_string(), shown);
        }
        for byte in 0..=255u8 {
            let shown = Escaped(&[byte, b'x', byte]).to_string();
            assert!(shown.chars().all(|letter| !letter.is_control()), "{byte}: {shown:?}");
        }
    }
}
