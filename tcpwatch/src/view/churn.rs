//! The forms `churn` is printed in.

use jiff::tz::TimeZone;

use super::screen::Screen;
use super::{csv, json, text};
use crate::view::{Output, View};

/// The form `output` asks for; text shows `limit` lines at most of each kind, laid out for `screen`.
#[must_use]
pub fn of(output: Output, limit: usize, screen: Screen) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::churn::Text::new(TimeZone::system(), limit, screen)),
        Output::Json => Box::new(json::churn::Json),
        Output::Csv => Box::new(csv::churn::Csv),
    }
}
