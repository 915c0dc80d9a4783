//! `stat` for programs: `tcpwatch.stat/1`, one object an interval.

use std::io::{self, Write};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::line;
use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::model::stat::{self, StatFrame};
use crate::view::View;
use crate::view::json::states::States;
use crate::view::time::rfc3339;

/// One object an interval.
#[derive(Debug)]
pub struct Json;

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    time: String,
    interval_s: f64,
    connections: States<'a>,
    #[serde(serialize_with = "by_move")]
    transitions: &'a StatFrame,
    opened: Opened,
    #[serde(serialize_with = "by_ending")]
    closed: &'a StatFrame,
    time_wait: TimeWait,
    events: Events,
    drift: Option<u64>,
}

#[derive(Serialize)]
struct Opened {
    active: u64,
    passive: u64,
}

/// TIME_WAIT in one interval.
#[derive(Serialize)]
pub(super) struct TimeWait {
    entered: Option<u64>,
    entered_fin_wait2: Option<u64>,
    left: Option<u64>,
    recycled: Option<u64>,
    refused: Option<u64>,
    population: Option<u64>,
    limit: Option<u64>,
}

impl TimeWait {
    pub(super) fn of(time_wait: &stat::TimeWait) -> Self {
        Self {
            entered: time_wait.entered,
            entered_fin_wait2: time_wait.entered_fin_wait2,
            left: time_wait.left,
            recycled: time_wait.recycled,
            refused: time_wait.refused,
            population: time_wait.population,
            limit: time_wait.limit,
        }
    }
}

#[derive(Serialize)]
struct Events {
    seen: u64,
    lost: u64,
    missed: Option<u64>,
    unmarked: u64,
}

/// `{"close>syn_sent":1}`, those there were.
fn by_move<S: Serializer>(frame: &StatFrame, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for (from, to, count) in frame.transitions() {
        map.serialize_entry(&format_args!("{}>{}", from.key(), to.key()), &count)?;
    }
    map.end()
}

/// `{"total":1,"graceful_active":1,…}`, every ending there is.
fn by_ending<S: Serializer>(frame: &StatFrame, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    // The sum of what follows: a row read in the middle of a run has its transition, and its ending in the next row.
    map.serialize_entry("total", &frame.ends.total())?;
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
        let line = Line {
            schema: "tcpwatch.stat/1",
            time: rfc3339(frame.time),
            interval_s: frame.interval_s,
            connections: States(&frame.connections),
            transitions: frame,
            opened: Opened {
                active: frame.opened_active(),
                passive: frame.opened_passive(),
            },
            closed: frame,
            time_wait: TimeWait::of(&frame.time_wait),
            events: Events {
                seen: frame.seen,
                lost: frame.lost,
                missed: frame.missed,
                unmarked: frame.unmarked,
            },
            drift: frame.drift,
        };
        line::write(out, &line)
    }
}
