//! `stat` for spreadsheets: one header line, then one line an interval.

use std::io::{self, Write};

use tcpwatch_common::TcpState;

use crate::detect::finding::Finding;
use crate::model::ending::Ending;
use crate::model::frame::Frame;
use crate::view::View;
use crate::view::time::rfc3339;

/// One line an interval; unknown is an empty field. No field can hold a comma or a quote, so none is quoted.
#[derive(Debug, Default)]
pub struct Csv {
    headed: bool,
}

/// A field that may be unknown.
fn known(value: Option<u64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

impl View for Csv {
    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.counts else {
            return Ok(());
        };
        if !self.headed {
            self.headed = true;
            let states = TcpState::ALL.map(TcpState::key).join(",");
            let endings = Ending::ALL.map(|ending| format!("closed_{}", ending.key())).join(",");
            writeln!(
                out,
                "time,interval_s,{states},opened_active,opened_passive,closed,reset,\
                 time_wait_entered,time_wait_refused,time_wait_population,time_wait_limit,seen,lost,missed,unmarked,drift,\
                 time_wait_entered_fin_wait2,time_wait_left,time_wait_recycled,{endings}"
            )?;
        }
        write!(out, "{},{}", rfc3339(frame.time), frame.interval_s)?;
        for (_, count) in frame.connections.iter() {
            write!(out, ",{count}")?;
        }
        let opened = (frame.opened_active(), frame.opened_passive());
        write!(out, ",{},{},{},{}", opened.0, opened.1, frame.closed(), frame.reset())?;
        let time_wait = &frame.time_wait;
        for value in [
            time_wait.entered,
            time_wait.refused,
            time_wait.population,
            time_wait.limit,
        ] {
            write!(out, ",{}", known(value))?;
        }
        let (missed, drift) = (known(frame.missed), known(frame.drift));
        write!(
            out,
            ",{},{},{missed},{},{drift}",
            frame.seen, frame.lost, frame.unmarked
        )?;
        for value in [time_wait.entered_fin_wait2, time_wait.left, time_wait.recycled] {
            write!(out, ",{}", known(value))?;
        }
        for (_, count) in frame.ends.iter() {
            write!(out, ",{count}")?;
        }
        writeln!(out)
    }
}
