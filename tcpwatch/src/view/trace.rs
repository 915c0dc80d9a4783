//! The forms a trace is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::event::Event;
use crate::model::trace::{Row, TraceTotals};
use crate::view::Output;

/// A form of a trace.
pub trait TraceView {
    /// Prints what comes before the first transition, so that it shows that tcpwatch is watching.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Prints a transition.
    ///
    /// # Errors
    /// The output takes no more.
    fn event(&mut self, row: &Row<Event>, out: &mut dyn Write) -> io::Result<()>;

    /// Prints what it adds up to.
    ///
    /// # Errors
    /// The output takes no more.
    fn end(&mut self, totals: &TraceTotals, out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for; text laid out for `screen`.
#[must_use]
pub fn of(output: Output, screen: Screen) -> Box<dyn TraceView> {
    match output {
        Output::Text => Box::new(text::trace::Text::new(TimeZone::system(), screen)),
        Output::Json => Box::new(json::trace::Json::default()),
        Output::Csv => Box::new(csv::trace::Csv::default()),
    }
}
