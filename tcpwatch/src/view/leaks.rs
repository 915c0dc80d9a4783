//! The forms `leaks` is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{json, text};
use crate::diagnose::finding::Finding;
use crate::model::leaks::LeaksFrame;
use crate::view::Output;

/// A form of `leaks`.
pub trait LeaksView {
    /// Prints what one look found, and what is wrong by it.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &LeaksFrame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for, laid out for `screen`. There is none as CSV.
#[must_use]
pub fn of(output: Output, screen: Screen) -> Box<dyn LeaksView> {
    match output {
        Output::Json => Box::new(json::leaks::Json::new()),
        Output::Text | Output::Csv => Box::new(text::leaks::Text::new(TimeZone::system(), screen)),
    }
}
