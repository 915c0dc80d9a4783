//! The view of `churn` in each output format.

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::view::{Output, View};

/// Makes the view of `churn` in the format `output`. Text has at most `limit` lines of each kind, laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view(output: Output, limit: usize, screen: Screen, zone: TimeZone) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::churn::Text::new(zone, limit, screen)),
        Output::Json => Box::new(json::churn::Json),
        Output::Csv => Box::new(csv::churn::Csv),
    }
}
