//! The forms `churn` is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::diagnose::finding::Finding;
use crate::model::churn::ChurnFrame;
use crate::view::Output;

/// A form of `churn`.
pub trait ChurnView {
    /// Prints what comes before the first interval.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Prints one interval, and what is found wrong in it, the worst first.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &ChurnFrame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for; text shows `limit` lines at most of each kind, laid out for `screen`.
#[must_use]
pub fn of(output: Output, limit: usize, screen: Screen) -> Box<dyn ChurnView> {
    match output {
        Output::Text => Box::new(text::churn::Text::new(TimeZone::system(), limit, screen)),
        Output::Json => Box::new(json::churn::Json),
        Output::Csv => Box::new(csv::churn::Csv),
    }
}
