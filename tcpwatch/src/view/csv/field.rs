//! Writes single CSV fields (RFC 4180) that a spreadsheet reads as intended.

use std::fmt::{Display, Write as _};
use std::io;

use crate::input::escaped::escape_formula;
use crate::input::owner::Process;

/// Writes `,value`; an unknown value is an empty field.
pub(super) fn field(line: &mut String, value: Option<impl Display>) {
    line.push(',');
    if let Some(value) = value {
        // Writing to a string cannot fail.
        let _ = write!(line, "{value}");
    }
}

/// Writes `,pid,comm`; what is unknown is an empty field.
pub(super) fn process(line: &mut String, process: Option<Process>) {
    field(line, process.and_then(|process| process.pid));
    line.push(',');
    if let Some(process) = process {
        quoted(line, &escape_formula(process.comm.to_string()));
    }
}

/// Writes `text`, in quotes if it contains a comma, a quote or a line break (RFC 4180, section 2).
pub(super) fn quoted(line: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        let _ = write!(line, "\"{}\"", text.replace('"', "\"\""));
    } else {
        line.push_str(text);
    }
}

/// Converts an error of the csv crate to the I/O error below it. The crate's own conversion hides the kind, by which a closed pipe is
/// recognised.
pub(super) fn to_io(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::Comm;

    #[test]
    fn a_name_cannot_break_out_of_its_field() {
        let evil = Process {
            pid: None,
            comm: Comm::new(b"a,\"b\"\n\x1b"),
        };
        let mut line = String::new();
        process(&mut line, Some(evil));
        assert_eq!(line, ",,\"a,\"\"b\"\"\\n\\u{1b}\"");
        line.clear();
        process(&mut line, None);
        assert_eq!(line, ",,");
    }

    #[test]
    fn a_closed_pipe_keeps_its_kind_of_error() {
        let closed = csv::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(to_io(closed).kind(), io::ErrorKind::BrokenPipe);
    }
}
