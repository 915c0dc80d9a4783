//! `stat` as JSON: `tcpwatch.stat/1`, one object per interval.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tcpwatch_common::StateSet;

use super::line;
use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::model::stat::{StatFrame, TimeWait};
use crate::view::View;
use crate::view::stat::OfStates;
use crate::view::timestamp::rfc3339;

/// One object per interval, of some states alone. What is of others is null.
#[derive(Debug)]
pub struct Json {
    /// The states.
    pub states: StateSet,
}

/// One interval.
#[derive(Serialize)]
struct StatObject<'a> {
    schema: &'static str,
    time: String,
    interval_s: f64,
    #[serde(serialize_with = "connections")]
    connections: OfStates<'a>,
    #[serde(serialize_with = "transitions")]
    transitions: &'a StatFrame,
    opened: Opened,
    #[serde(serialize_with = "closed")]
    closed: &'a StatFrame,
    reset: u64,
    time_wait: TimeWait,
    events: Events,
    drift: Option<u64>,
    walk_age_s: Option<f64>,
}

/// Connections opened, by which side opened them.
#[derive(Serialize)]
struct Opened {
    active: Option<u64>,
    passive: Option<u64>,
}

/// Counts of the transitions themselves, and of those that were not counted.
#[derive(Serialize)]
struct Events {
    seen: u64,
    lost: u64,
    missed: Option<u64>,
    unmarked: u64,
}

/// Serializes the number of connections in every state: `{"established":1,…}`.
fn connections<S: Serializer>(shown: &OfStates, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(shown.connections().map(|(state, count)| (state.key(), count)))
}

/// Serializes the transitions that occurred: `{"close>syn_sent":1}`.
fn transitions<S: Serializer>(frame: &StatFrame, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (from, to, count) in frame.transitions() {
        map.serialize_entry(&format_args!("{}>{}", from.key(), to.key()), &count)?;
    }
    map.end()
}

/// Serializes the number of connections of every ending: `{"total":1,"graceful_active":1,…}`.
fn closed<S: Serializer>(frame: &StatFrame, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("total", &frame.closed())?;
    for (ending, count) in frame.ends.iter() {
        map.serialize_entry(ending.key(), &count)?;
    }
    map.end()
}

impl View for Json {
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.counts else {
            return Ok(());
        };
        let shown = OfStates {
            frame,
            states: self.states,
        };
        let object = StatObject {
            schema: "tcpwatch.stat/1",
            time: rfc3339(frame.time),
            interval_s: frame.interval_s,
            connections: shown,
            transitions: frame,
            opened: Opened {
                active: shown.opened_active(),
                passive: shown.opened_passive(),
            },
            closed: frame,
            reset: frame.reset(),
            time_wait: shown.time_wait(),
            events: Events {
                seen: frame.seen,
                lost: frame.lost,
                missed: frame.missed,
                unmarked: frame.unmarked,
            },
            drift: frame.drift,
            walk_age_s: frame.walk_age_s,
        };
        line::write(out, &object)
    }
}
