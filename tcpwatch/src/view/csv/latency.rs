//! `latency` for spreadsheets: one header line, then one line a histogram.

use std::io::{self, Write};

use super::field::{field, quoted};
use super::owner_group;
use crate::detect::finding::Finding;
use crate::input::latency::LatencyGroup;
use crate::model::frame::Frame;
use crate::model::latency::Group;
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
        for measured in &frame.measured {
            let histogram = &measured.histogram;
            let mut line = format!("{time},{},{},", frame.interval_s, measured.measure.key());
            match &measured.group {
                Group::Kernel(LatencyGroup::Unknown) => {}
                Group::Owner(owner) => quoted(&mut line, &owner_group::name(owner)),
                Group::Kernel(group) => line.push_str(&group.to_string()),
            }
            for number in [
                Some(histogram.count()),
                Some(histogram.unknown()),
                histogram.quantile(0.5),
                histogram.quantile(0.9),
                histogram.quantile(0.99),
                histogram.max(),
            ] {
                field(&mut line, number);
            }
            field(&mut line, measured.group.netns());
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::input::histogram::Histogram;
    use crate::input::latency::{LatencyBy, Measure};
    use crate::input::owner::{Comm, OwnerBy, Process};
    use crate::model::latency::{LatencyFrame, MeasuredGroup};
    use crate::model::owner_group::OwnerGroup;

    /// The field of each group.
    fn groups(groups: &[Group]) -> Vec<String> {
        let measured = groups.iter().map(|group| MeasuredGroup {
            measure: Measure::Accept,
            group: group.clone(),
            histogram: Histogram::default(),
        });
        let frame = LatencyFrame {
            time: Timestamp::UNIX_EPOCH,
            interval_s: 1.0,
            by: LatencyBy::Owner(OwnerBy::Process),
            measured: measured.collect(),
            evicted: 0,
            retransmits: None,
            unmeasured: 0,
            missed: None,
        };
        let mut out = Vec::new();
        Csv.begin(&mut out).unwrap();
        Csv.frame(&Frame::from(&frame), &[], &mut out).unwrap();
        let mut reader = ::csv::Reader::from_reader(out.as_slice());
        let group = reader
            .headers()
            .unwrap()
            .iter()
            .position(|name| name == "group")
            .unwrap();
        reader
            .records()
            .map(|record| record.unwrap()[group].to_owned())
            .collect()
    }

    #[test]
    fn a_hostile_name_is_no_formula_and_unknown_is_empty() {
        let process = |comm: &[u8]| {
            Group::Owner(OwnerGroup::from(Process {
                pid: None,
                comm: Comm::new(comm),
            }))
        };
        assert_eq!(
            groups(&[
                process(b"=1+1"),
                process(b"@a,\"b\"\n"),
                Group::Kernel(LatencyGroup::Lport { port: 443, netns: None }),
                Group::Kernel(LatencyGroup::Unknown),
                Group::Kernel(LatencyGroup::Other)
            ]),
            ["'=1+1[?]", "'@a,\"b\"\\n[?]", "443", "", "other"]
        );
    }
}
