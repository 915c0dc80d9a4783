//! `churn` for spreadsheets: one header line, then one line an opener and destination.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::trace::quoted;
use crate::model::churn::{ChurnFrame, Opener};
use crate::view::churn::ChurnView;
use crate::view::time::rfc3339;

/// One line an opener and destination; unknown is an empty field.
#[derive(Debug)]
pub struct Csv;

impl ChurnView for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,interval_s,pid,comm,peer,address,port,opened,failed,time_wait,lifetime_p50_ns,lifetime_p90_ns,\
             lifetime_p99_ns,lifetime_max_ns,lifetime_unknown"
        )
    }

    fn frame(&mut self, frame: &ChurnFrame, out: &mut dyn Write) -> io::Result<()> {
        let time = rfc3339(frame.stat.time);
        let known = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        for route in &frame.routes {
            let mut line = format!("{time},{},", frame.stat.interval_s);
            match route.opener {
                Opener::Here(Some(process)) => {
                    line.push_str(&known(process.pid.map(|pid| pid.get().into())));
                    line.push(',');
                    quoted(&mut line, &process.comm.to_string());
                    line.push(',');
                }
                Opener::Here(None) => line.push_str(",,"),
                Opener::Peer(address) => drop(write!(line, ",,{address}")),
            }
            match route.destination {
                Some(to) => drop(write!(line, ",{},{}", to.address, to.port)),
                None => line.push_str(",,"),
            }
            let tally = &route.tally;
            let lifetime = &tally.lifetime;
            writeln!(
                out,
                "{line},{},{},{},{},{},{},{},{}",
                tally.opened,
                tally.failed,
                tally.time_wait,
                known(lifetime.quantile(0.5)),
                known(lifetime.quantile(0.9)),
                known(lifetime.quantile(0.99)),
                known(lifetime.max()),
                lifetime.unknown(),
            )?;
        }
        Ok(())
    }
}
