//! Formatting: takes what the model knows, writes it for people or programs. Reads no clock, file or terminal.

pub mod churn;
pub mod csv;
pub mod json;
pub mod latency;
pub mod leaks;
pub mod screen;
pub mod stat;
pub mod states;
pub mod text;
pub mod time;
pub mod trace;
pub mod words;

pub use crate::model::number;

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
