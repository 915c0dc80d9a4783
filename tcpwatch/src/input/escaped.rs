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

/// Prefixes `text` with an apostrophe if a spreadsheet would read it as a formula (`=1+1`, `@sum`) or as a number (`1e5` in the id
/// of a container). Spreadsheets take an apostrophe for the mark of a text.
#[must_use]
pub fn escape_formula(text: String) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula || text.parse::<f64>().is_ok_and(f64::is_finite) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_and_numbers_get_an_apostrophe() {
        for text in ["=1+1", "+1", "-1", "@sum(a1)", "1e5", "007", "1.5", "123456789012"] {
            assert_eq!(escape_formula(text.to_owned()), format!("'{text}"));
        }
        for text in [
            "",
            "nginx",
            "a=b",
            "/docker/=1",
            "0a1e5",
            "1e5f",
            "nan",
            "inf",
            "(sd-pam)",
        ] {
            assert_eq!(escape_formula(text.to_owned()), text);
        }
    }

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
