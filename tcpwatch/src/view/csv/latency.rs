//! `latency` for spreadsheets: one header line, then one line a histogram.

use std::io::{self, Write};

use super::field::quoted;
use crate::detect::finding::Finding;
use crate::model::frame::Frame;
use crate::view::View;
use crate::view::timestamp::rfc3339;

/// One line a histogram; unknown is an empty field.
#[derive(Debug)]
pub struct Csv;

impl View for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "time,interval_s,what,group,count,unknown_start,p50_ns,p90_ns,p99_ns,max_ns,netns"
        )
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let Some(frame) = &frame.latency else {
            return Ok(());
        };
        let time = rfc3339(frame.time);
        let known = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        for measured in &frame.measured {
            let histogram = &measured.histogram;
            let mut group = String::new();
            quoted(&mut group, &measured.group.to_string());
            writeln!(
                out,
                "{time},{},{},{group},{},{},{},{},{},{},{}",
                frame.interval_s,
                measured.measure.key(),
                histogram.count(),
                histogram.unknown(),
                known(histogram.quantile(0.5)),
                known(histogram.quantile(0.9)),
                known(histogram.quantile(0.99)),
                known(histogram.max()),
                measured
                    .group
                    .netns()
                    .map_or_else(String::new, |netns| netns.to_string()),
            )?;
        }
        Ok(())
    }
}
