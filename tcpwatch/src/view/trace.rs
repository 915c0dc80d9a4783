//! The forms a trace is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::event::Event;
use crate::model::trace::{Row, TraceTotals};
use crate::view::Output;

/// A form of a trace of `T`s: transitions, or finished connections.
pub trait TraceView<T> {
    /// Prints what comes before the first row, so that it shows that tcpwatch is watching.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Prints one of them.
    ///
    /// # Errors
    /// The output takes no more.
    fn row(&mut self, row: &Row<T>, out: &mut dyn Write) -> io::Result<()>;

    /// Prints what it adds up to.
    ///
    /// # Errors
    /// The output takes no more.
    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for of a trace of transitions; text laid out for `screen`.
#[must_use]
pub fn of(output: Output, screen: Screen) -> Box<dyn TraceView<Event>> {
    match output {
        Output::Text => Box::new(text::trace::Text::new(TimeZone::system(), screen)),
        Output::Json => Box::new(json::trace::Json::default()),
        Output::Csv => Box::new(csv::trace::Csv::default()),
    }
}
