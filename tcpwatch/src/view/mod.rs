//! Formatting: takes what the model knows, writes it for people or programs. Reads no clock, file or terminal.

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
pub mod time;
pub mod trace;
pub mod words;

pub use crate::model::number;

use std::io::{self, Write};

use crate::detect::finding::Finding;
use crate::model::frame::Frame;

/// A form of what a command shows.
pub trait View {
    /// Prints what comes before the first frame, so that it shows that tcpwatch is watching.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Prints what it shows of `frame`, and of `findings`, the worst first.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &Frame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()>;
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
    /// One header line, then one line a row.
    Csv,
}
