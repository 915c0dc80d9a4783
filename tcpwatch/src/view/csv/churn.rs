//! `churn` for spreadsheets: one header line, then one line an opener and destination.

use std::io::{self, Write};

use super::trace::{field, process};
use crate::detect::finding::Finding;
use crate::model::churn::Opener;
use crate::model::frame::Frame;
use crate::view::View;
use crate::view::time::rfc3339;

/// One line an opener and destination; unknown is an empty field. The process is the one of this side, whoever opened the
/// connections; where a peer did, and several processes have them, it is empty. Findings have no place in its columns.
#[derive(Debug)]
pub struct Csv;

impl View for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,interval_s,pid,comm,peer,address,port,opened,failed,time_wait,lifetime_p50_ns,lifetime_p90_ns,\
             lifetime_p99_ns,lifetime_max_ns,lifetime_unknown,netns"
        )
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.churn else {
            return Ok(());
        };
        let time = rfc3339(frame.stat.time);
        let known = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        for route in &frame.routes {
            let mut line = format!("{time},{}", frame.stat.interval_s);
            let (here, peer) = match route.opener {
                Opener::Here(_) | Opener::Named(_) => (route.opener.process(), None),
                Opener::Peer(address) => (route.tally.served.one(), Some(address)),
            };
            process(&mut line, here);
            field(&mut line, peer);
            field(&mut line, route.destination.map(|to| to.address));
            field(&mut line, route.destination.map(|to| to.port));
            let netns = route.destination.and_then(|to| to.netns);
            let netns = netns.map_or_else(String::new, |netns| netns.to_string());
            let tally = &route.tally;
            let lifetime = &tally.lifetime;
            writeln!(
                out,
                "{line},{},{},{},{},{},{},{},{},{netns}",
                tally.opened,
                tally.failed.total(),
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
