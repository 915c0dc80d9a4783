//! The forms `leaks` is printed in, and the fields of a group that JSON and CSV share.

use std::num::NonZeroU32;

use jiff::tz::TimeZone;
use serde::Serialize;
use tcpwatch_common::StateSet;

use super::screen::Screen;
use super::{csv, json, text, words};
use crate::input::netns_selector::NetnsSelector;
use crate::model::filter::Filter;
use crate::model::leaks::{Group, Shared};
use crate::model::seconds;
use crate::view::{Output, View};

/// The sockets that the user selected, for the heading.
#[derive(Clone, Debug)]
pub struct ScanScope {
    /// The states.
    pub states: StateSet,
    /// What else a socket must have, one phrase each.
    pub filter: Vec<String>,
    /// The network namespaces.
    pub netns: NetnsSelector,
}

impl ScanScope {
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

/// The view for `output`, laid out for `screen`, with times in `zone`.
#[must_use]
pub fn new_view(output: Output, screen: Screen, zone: TimeZone, selection: ScanScope) -> Box<dyn View> {
    match output {
        Output::Json => Box::new(json::leaks::Json),
        Output::Csv => Box::new(csv::leaks::Csv),
        Output::Text => Box::new(text::leaks::Text::new(zone, screen, selection)),
    }
}

/// A group as JSON and CSV have it: `sockets` are stuck; the kernel ended `ended` of them, and their descriptors are open. Addresses
/// and ports are null where its sockets have different ones.
#[derive(Default, Serialize)]
pub(super) struct GroupFields {
    verdict: &'static str,
    more_s: Option<f64>,
    state: &'static str,
    netns: Option<NonZeroU32>,
    local: Option<String>,
    lport: Option<u16>,
    remote: Option<String>,
    rport: Option<u16>,
    sockets: u64,
    ended: u64,
    in_state: u64,
    oldest_s: Option<f64>,
    oldest_is_lower_bound: bool,
    youngest_s: Option<f64>,
    growth_per_min: Option<f64>,
    unread_bytes: Option<u64>,
    unsent_bytes: Option<u64>,
    eof_read: u64,
    eof_unread: u64,
    unread: u64,
    unaccepted: u64,
    watched_s: Option<f64>,
    process_exited: bool,
    closed_late: u64,
    closed_late_min_s: Option<f64>,
    closed_late_max_s: Option<f64>,
    closed_late_last_s: Option<f64>,
    closed_prompt: u64,
    closed_unknown: u64,
    closed_by_kernel: u64,
}

impl From<&Group> for GroupFields {
    fn from(group: &Group) -> Self {
        let address = |shared: Shared<_>| shared.get().map(|address| ToString::to_string(&address));
        // Ages are those of the stuck; of a young group, of those in the state.
        let is_stuck = group.sockets > 0;
        let oldest = if is_stuck { group.oldest } else { group.oldest_in_state };
        let closings = &group.closings;
        let late_s = closings.late_ns.map(|late_ns| late_ns.map(seconds));
        Self {
            verdict: group.verdict.key(),
            more_s: group.more_ns.map(seconds),
            state: group.key.state.key(),
            netns: NonZeroU32::new(group.key.netns),
            local: address(group.local),
            lport: group.lport.get(),
            remote: address(group.remote),
            rport: group.rport.get(),
            sockets: group.sockets,
            ended: group.ended,
            in_state: group.in_state,
            oldest_s: oldest.is_known().then(|| seconds(oldest.ns)),
            oldest_is_lower_bound: oldest.at_least,
            youngest_s: is_stuck.then(|| seconds(group.youngest_ns)),
            growth_per_min: group.growth_per_min,
            unread_bytes: group.unread_bytes,
            unsent_bytes: group.unsent_bytes,
            eof_read: group.eof_read,
            eof_unread: group.eof_unread,
            unread: group.unread,
            unaccepted: group.unaccepted,
            watched_s: group.watched_ns.map(seconds),
            process_exited: group.process_exited,
            closed_late: closings.late,
            closed_late_min_s: late_s.map(|[shortest, _]| shortest),
            closed_late_max_s: late_s.map(|[_, longest]| longest),
            closed_late_last_s: group.last_late_ns.map(seconds),
            closed_prompt: closings.prompt,
            closed_unknown: closings.unknown,
            closed_by_kernel: closings.ended,
        }
    }
}
