//! Formats frames and findings as text, JSON and CSV. Reads no clock, file or terminal.

pub mod churn;
pub mod csv;
pub mod json;
pub mod latency;
pub mod leaks;
pub mod screen;
#[cfg(test)]
mod snapshots;
pub mod stat;
pub mod states;
pub mod text;
pub mod timestamp;
pub mod trace;
pub mod trace_groups;
pub mod words;

use std::io::{self, Write};

use crate::detect::finding::Finding;
use crate::model::frame::Frame;

/// Prints frames and findings in one output format.
pub trait View {
    /// Prints what precedes the first frame: a header, or that tcpwatch is watching.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Prints the parts of `frame` and `findings` that the view shows. Findings are sorted, the most severe first.
    ///
    /// # Errors
    /// `out` cannot be written to.
    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()>;

    /// Whether it has seen enough: the run ends then, as by a signal.
    fn is_done(&mut self) -> bool {
        false
    }
}

/// Output format (`--output`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// A header line, then one line per row.
    Csv,
}
