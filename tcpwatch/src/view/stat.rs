//! The forms `stat` is printed in.

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::view::{Output, View};

/// The form `output` asks for; text laid out for `screen`.
#[must_use]
pub fn of(output: Output, screen: Screen) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::stat::Text::new(TimeZone::system(), screen)),
        Output::Json => Box::new(json::stat::Json),
        Output::Csv => Box::new(csv::stat::Csv::default()),
    }
}
