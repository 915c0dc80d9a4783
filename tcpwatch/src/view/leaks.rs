//! The forms `leaks` is printed in.

use jiff::tz::TimeZone;
use tcpwatch_common::StateSet;

use super::screen::Screen;
use super::{json, text, words};
use crate::input::netns_selector::NetnsSelector;
use crate::model::filter::Filter;
use crate::view::{Output, View};

/// What was asked for, for those who read the answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The states.
    pub states: StateSet,
    /// What else a socket must have, one phrase each.
    pub filter: Vec<String>,
    /// The network namespaces.
    pub netns: NetnsSelector,
}

impl Asked {
    /// Sockets in `filter.states` that it lets through, of `netns`.
    #[must_use]
    pub fn new(filter: Filter, netns: NetnsSelector) -> Self {
        let states = filter.states;
        let all_states = Filter {
            states: StateSet::ALL,
            ..filter
        };
        Self {
            states,
            filter: words::filter(&all_states),
            netns,
        }
    }
}

/// The form `output` asks for, laid out for `screen`, with times in `zone`. There is none as CSV.
#[must_use]
pub fn of(output: Output, screen: Screen, zone: TimeZone, asked: Asked) -> Box<dyn View> {
    match output {
        Output::Json => Box::new(json::leaks::Json::new()),
        Output::Text | Output::Csv => Box::new(text::leaks::Text::new(zone, screen, asked)),
    }
}
