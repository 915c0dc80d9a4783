//! The view of `stat` in each output format.

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::view::{Output, View};

/// Makes the view of `stat` in the format `output`. Text is laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view(output: Output, screen: Screen, zone: TimeZone) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::stat::Text::new(zone, screen)),
        Output::Json => Box::new(json::stat::Json),
        Output::Csv => Box::new(csv::stat::Csv::default()),
    }
}
