//! `churn` as CSV: a header line, then one line per opener and destination.

use std::io::{self, Write};

use super::field::{field, process};
use super::{container, owner_group};
use crate::detect::finding::Finding;
use crate::model::churn::Opener;
use crate::model::frame::Frame;
use crate::model::owner_group::OwnerGroup;
use crate::view::View;
use crate::view::timestamp::rfc3339;

/// One line per opener and destination. Unknown values are empty fields. There are no columns for findings.
///
/// `pid` and `comm` name the process of this host, even if a peer opened the connections; with `--by` one of the last columns names what
/// stands for it. They are empty where several share the connections of a peer.
#[derive(Debug)]
pub struct Csv;

impl View for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,interval_s,pid,comm,peer,address,port,opened,failed,time_wait,lifetime_p50_ns,lifetime_p90_ns,\
             lifetime_p99_ns,lifetime_max_ns,lifetime_unknown,netns,{}",
            container::COLUMNS.join(",")
        )
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.churn else {
            return Ok(());
        };
        let time = rfc3339(frame.stat.time);
        for route in &frame.routes {
            let mut line = format!("{time},{}", frame.stat.interval_s);
            let (group, peer) = match &route.opener {
                Opener::Here(group) => (group.as_ref(), None),
                Opener::Peer { address, .. } => (route.tally.served.one(), Some(address)),
            };
            process(&mut line, group.and_then(OwnerGroup::process));
            field(&mut line, peer);
            field(&mut line, route.destination.map(|to| to.address));
            field(&mut line, route.destination.map(|to| to.port));
            let tally = &route.tally;
            let lifetime = &tally.lifetime;
            for number in [
                Some(tally.opened),
                Some(tally.failed.total()),
                Some(tally.time_wait),
                lifetime.quantile(0.5),
                lifetime.quantile(0.9),
                lifetime.quantile(0.99),
                lifetime.max(),
                Some(lifetime.unknown()),
            ] {
                field(&mut line, number);
            }
            field(&mut line, route.destination.and_then(|to| to.netns));
            owner_group::fields(&mut line, group);
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}
