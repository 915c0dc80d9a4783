//! The view of `stat` in each output format.

use jiff::tz::TimeZone;
use tcpwatch_common::{StateSet, TcpState};

use super::screen::Screen;
use super::{csv, json, text};
use crate::model::stat::{StatFrame, TimeWait};
use crate::view::{Output, View};

/// Makes the view of `stat` in the format `output`, of `states` alone. Text is laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view(output: Output, screen: Screen, zone: TimeZone, states: StateSet) -> Box<dyn View> {
    match output {
        Output::Text => Box::new(text::stat::Text::new(zone, screen, states)),
        Output::Json => Box::new(json::stat::Json { states }),
        Output::Csv => Box::new(csv::stat::Csv { states }),
    }
}

/// An interval of `stat --state`: the sockets in these states, and the transitions from or to them. The numbers of other states
/// are unknown.
#[derive(Clone, Copy)]
pub(super) struct OfStates<'a> {
    pub(super) frame: &'a StatFrame,
    pub(super) states: StateSet,
}

impl OfStates<'_> {
    /// Every state and its connections.
    pub(super) fn connections(self) -> impl Iterator<Item = (TcpState, Option<u64>)> {
        let all = TcpState::ALL.into_iter();
        all.map(move |state| (state, self.only(&[state], self.frame.connections.get(state))))
    }

    /// Connections that this host opened.
    pub(super) fn opened_active(self) -> Option<u64> {
        self.only(&[TcpState::Close, TcpState::SynSent], self.frame.opened_active())
    }

    /// Connections that a peer opened.
    pub(super) fn opened_passive(self) -> Option<u64> {
        self.only(&[TcpState::Listen, TcpState::SynRecv], self.frame.opened_passive())
    }

    /// The numbers of TIME_WAIT.
    pub(super) fn time_wait(self) -> TimeWait {
        self.only(&[TcpState::TimeWait], self.frame.time_wait)
            .unwrap_or_default()
    }

    /// `value`, if it belongs to one of the selected `states`.
    fn only<T>(self, states: &[TcpState], value: T) -> Option<T> {
        states.iter().any(|&state| self.states.contains(state)).then_some(value)
    }
}
