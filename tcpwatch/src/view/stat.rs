//! The forms `stat` is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::model::stat::StatFrame;
use crate::view::Output;

/// A form of `stat`.
pub trait StatView {
    /// Prints one interval.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &StatFrame, out: &mut dyn Write) -> io::Result<()>;
}

/// The form `output` asks for; text laid out for `screen`.
#[must_use]
pub fn of(output: Output, screen: Screen) -> Box<dyn StatView> {
    match output {
        Output::Text => Box::new(text::stat::Text::new(TimeZone::system(), screen)),
        Output::Json => Box::new(json::stat::Json),
        Output::Csv => Box::new(csv::stat::Csv::default()),
    }
}
