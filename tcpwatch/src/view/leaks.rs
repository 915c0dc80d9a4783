//! The forms `leaks` is printed in.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use tcpwatch_common::StateSet;

use super::screen::Screen;
use super::{json, text, words};
use crate::diagnose::finding::Finding;
use crate::model::filter::Filter;
use crate::model::leaks::LeaksFrame;
use crate::sys::netns::Which;
use crate::view::Output;

/// A form of `leaks`.
pub trait LeaksView {
    /// Prints what one look found, and what is wrong by it.
    ///
    /// # Errors
    /// The output takes no more.
    fn frame(&mut self, frame: &LeaksFrame, findings: &[Finding], out: &mut dyn Write) -> io::Result<()>;
}

/// What was asked for, for those who read the answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The states.
    pub states: StateSet,
    /// What else a socket must have, one phrase each.
    pub filter: Vec<String>,
    /// The network namespaces.
    pub netns: Which,
}

impl Asked {
    /// Sockets in `filter.states` that it lets through, of `netns`.
    #[must_use]
    pub fn new(filter: Filter, netns: Which) -> Self {
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

/// The form `output` asks for, laid out for `screen`. There is none as CSV.
#[must_use]
pub fn of(output: Output, screen: Screen, asked: Asked) -> Box<dyn LeaksView> {
    match output {
        Output::Json => Box::new(json::leaks::Json::new()),
        Output::Text | Output::Csv => Box::new(text::leaks::Text::new(TimeZone::system(), screen, asked)),
    }
}
