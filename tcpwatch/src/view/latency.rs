//! The forms `latency` is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::model::latency::LatencyFrame;
use crate::view::Output;

/// A form of `latency`.
pub trait LatencyView {
    /// Prints what comes before the first interval.
    ///
    /// # Errors
    /// The output takes no more.
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;

    /// Prints one interval.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &LatencyFrame, out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for; text shows `limit` groups at most, laid out for `screen`.
#[must_use]
pub fn of(output: Output, limit: usize, screen: Screen) -> Box<dyn LatencyView> {
    match output {
        Output::Text => Box::new(text::latency::Text::new(TimeZone::system(), limit, screen)),
        Output::Json => Box::new(json::latency::Json),
        Output::Csv => Box::new(csv::latency::Csv),
    }
}
