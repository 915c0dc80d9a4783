//! The forms `latency` is printed in.

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::view::{Output, View};

/// The form `output` asks for; text shows `limit` groups at most, laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view(output: Output, limit: usize, screen: Screen, zone: TimeZone) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::latency::Text::new(zone, limit, screen)),
        Output::Json => Box::new(json::latency::Json),
        Output::Csv => Box::new(csv::latency::Csv),
    }
}
