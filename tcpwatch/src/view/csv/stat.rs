//! `stat` as CSV: a header line, then one line per interval.

use std::io::{self, Write};

use tcpwatch_common::{StateSet, TcpState};

use super::field::field;
use crate::detect::finding::Finding;
use crate::model::ending::Ending;
use crate::model::frame::Frame;
use crate::view::View;
use crate::view::stat::OfStates;
use crate::view::timestamp::rfc3339;

/// One line per interval, of some states alone. Unknown values, and those of other states, are empty fields. No field is quoted: none
/// can contain a comma or a quote.
#[derive(Debug)]
pub struct Csv {
    /// The states.
    pub states: StateSet,
}

impl View for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let states = TcpState::ALL.map(TcpState::key).join(",");
        let endings = Ending::ALL.map(|ending| format!("closed_{}", ending.key())).join(",");
        writeln!(
            out,
            "time,interval_s,{states},opened_active,opened_passive,closed,reset,\
             time_wait_entered,time_wait_refused,time_wait_population,time_wait_limit,seen,lost,missed,unmarked,drift,\
             time_wait_entered_fin_wait2,time_wait_left,time_wait_recycled,{endings},walk_age_s"
        )
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.counts else {
            return Ok(());
        };
        let shown = OfStates {
            frame,
            states: self.states,
        };
        let time_wait = shown.time_wait();
        let connections = shown.connections().map(|(_, count)| count);
        let ends = frame.ends.iter().map(|(_, count)| Some(count));
        let numbers = [
            shown.opened_active(),
            shown.opened_passive(),
            Some(frame.closed()),
            Some(frame.reset()),
            time_wait.entered,
            time_wait.refused,
            time_wait.population,
            time_wait.limit,
            Some(frame.seen),
            Some(frame.lost),
            frame.missed,
            Some(frame.unmarked),
            frame.drift,
            time_wait.entered_fin_wait2,
            time_wait.left,
            time_wait.recycled,
        ];
        let mut line = format!("{},{}", rfc3339(frame.time), frame.interval_s);
        for number in connections.chain(numbers).chain(ends) {
            field(&mut line, number);
        }
        field(&mut line, frame.walk_age_s);
        writeln!(out, "{line}")
    }
}
