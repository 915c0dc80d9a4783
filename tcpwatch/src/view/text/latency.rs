//! `latency` for people: a table of quantiles, and for all connections together the histograms drawn.

use std::fmt::Write as _;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::fit::{padded, shortened, width, write_prose, write_row};
use super::histogram;
use crate::detect::finding::Finding;
use crate::input::histogram::Histogram;
use crate::input::latency::{LatencyBy, Retransmits};
use crate::input::namespace::NamespaceNames;
use crate::model::format::{percentile, quiet, several};
use crate::model::frame::Frame;
use crate::model::latency::{Group, LatencyFrame, MeasuredGroup};
use crate::view::View;
use crate::view::screen::Screen;
use crate::view::words;

/// Width of the column with the measure.
const MEASURE: usize = 17;
/// Least width of the column with the name of the group, where there is one.
const MIN_NAME: usize = 13;

/// A column of numbers.
#[derive(Clone)]
struct Column {
    heading: &'static str,
    width: usize,
    number: fn(&Histogram) -> String,
}

impl Column {
    const fn new(heading: &'static str, width: usize, number: fn(&Histogram) -> String) -> Self {
        Self { heading, width, number }
    }
}

const COLUMNS: [Column; 6] = [
    Column::new("count", 9, |histogram| quiet(histogram.count())),
    Column::new("p50", 7, |histogram| percentile(histogram.quantile(0.5))),
    Column::new("p90", 7, |histogram| percentile(histogram.quantile(0.9))),
    Column::new("p99", 7, |histogram| percentile(histogram.quantile(0.99))),
    Column::new("max", 7, |histogram| percentile(histogram.max())),
    Column::new("unknown", 9, |histogram| quiet(histogram.unknown())),
];

/// Width of the measure and of `columns`.
fn numbers(columns: &[Column]) -> usize {
    MEASURE + columns.iter().map(|column| column.width).sum::<usize>()
}

/// Tables, and drawings.
pub struct Text {
    zone: TimeZone,
    limit: usize,
    screen: Screen,
}

impl Text {
    /// Times are shown in `zone`; `limit` groups at most, the busiest.
    #[must_use]
    pub fn new(zone: TimeZone, limit: usize, screen: Screen) -> Self {
        Self { zone, limit, screen }
    }

    /// The histograms of the busiest groups and of the others, and how many groups were left out.
    fn shown<'a>(&self, frame: &'a LatencyFrame) -> (Vec<&'a MeasuredGroup>, usize) {
        let (mut shown, mut groups, mut last) = (Vec::new(), 0, None);
        for measured in &frame.measured {
            let is_other = measured.group.is_other();
            if last != Some(&measured.group) && !is_other {
                last = Some(&measured.group);
                groups += 1;
            }
            if is_other || groups <= self.limit {
                shown.push(measured);
            }
        }
        (shown, groups.saturating_sub(self.limit))
    }

    /// One line a histogram. `names` adds the network namespace to the names of groups. On a narrow screen p90 and `unknown` are left
    /// out, and a long name loses its middle.
    fn table(
        &self,
        shown: &[&MeasuredGroup],
        by: LatencyBy,
        names: Option<&NamespaceNames>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let heading = by.key().unwrap_or_default();
        let names: Vec<String> = shown
            .iter()
            .map(|measured| match measured.group.netns().zip(names) {
                Some((netns, names)) => format!("{} netns {}", measured.group, names.get(netns.get())),
                None => measured.group.to_string(),
            })
            .collect();
        let widest = names.iter().map(|name| width(name)).max().unwrap_or(0);
        let mut name = match by {
            LatencyBy::All => 0,
            _ => widest.max(heading.len()) + 2,
        };
        let mut columns = COLUMNS.to_vec();
        if let Some(screen) = self.screen.width {
            for heading in ["p90", "unknown"] {
                if name.min(MIN_NAME) + numbers(&columns) > screen {
                    columns.retain(|column| column.heading != heading);
                }
            }
            name = name.min(screen.saturating_sub(numbers(&columns)).max(MIN_NAME));
        }
        let mut row = |group: &str, measure: &str, number: &dyn Fn(&Column) -> String| {
            let group = shortened(group, name.saturating_sub(2));
            let mut row = format!("{}{measure:<MEASURE$}", padded(&group, name));
            for column in &columns {
                // Writing to a string cannot fail.
                let _ = write!(row, "{:>1$}", number(column), column.width);
            }
            write_row(&row, self.screen, out)
        };
        row(heading, "what", &|column| column.heading.to_owned())?;
        let mut before: Option<&Group> = None;
        for (measured, group) in shown.iter().zip(&names) {
            // The name of a group is in its first line.
            let is_first = by != LatencyBy::All && before != Some(&measured.group);
            before = Some(&measured.group);
            let group = if is_first { group } else { "" };
            let number = |column: &Column| (column.number)(&measured.histogram);
            row(group, measured.measure.key(), &number)?;
        }
        Ok(())
    }
}

impl View for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "measuring; Ctrl-C ends it")
    }

    fn frame(&mut self, frame: &Frame, _: &[Finding], out: &mut dyn Write) -> io::Result<()> {
        let names = &frame.namespace_names;
        let Some(frame) = &frame.latency else {
            return Ok(());
        };
        let time = frame.time.to_zoned(self.zone.clone());
        writeln!(out, "{}  last {:.1} s", time.strftime("%H:%M:%S"), frame.interval_s)?;
        if frame.measured.is_empty() {
            writeln!(out, "no connection moved")?;
        } else {
            let (shown, left_out) = self.shown(frame);
            let names = frame.has_namespaces().then_some(names);
            self.table(&shown, frame.by, names, out)?;
            if left_out > 0 {
                writeln!(
                    out,
                    "and {} (--limit)",
                    several(left_out as u64, "more group", "more groups")
                )?;
            }
            if frame.by == LatencyBy::All {
                for measured in shown.iter().filter(|measured| measured.histogram.count() > 0) {
                    writeln!(out)?;
                    histogram::write(out, measured.measure.words(), &measured.histogram, self.screen)?;
                }
                writeln!(out)?;
            }
        }
        let mut text = match frame.retransmits {
            Some(Retransmits { syn, syn_ack, data }) => {
                format!("sent again: {syn} SYN, {syn_ack} SYN-ACK, {data} other")
            }
            None => "sent again: unknown for single owners".to_owned(),
        };
        if frame.evicted > 0 {
            let groups = several(
                frame.evicted,
                "group that was idle longest is",
                "groups that were idle longest are",
            );
            let _ = write!(text, "; {groups} in other");
        }
        if frame.unmeasured > 0 {
            let times = several(frame.unmeasured, "time was", "times were");
            let _ = write!(text, "; {times} left out: the owner is unknown, or there was no room");
        }
        if let Some(missed) = frame.missed.filter(|&missed| missed > 0) {
            let _ = write!(text, "; {}", words::missed(missed));
        }
        write_prose(&text, 0, self.screen, out)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use jiff::Timestamp;
    use tcpwatch_common::TcpState;

    use super::*;
    use crate::input::latency::{LatencyGroup, LatencySample, Measure, Measured};
    use crate::model::cgroups::CgroupPaths;
    use crate::model::latency::Latency;

    fn shown(by: LatencyBy, limit: usize) -> String {
        shown_on(80, by, limit)
    }

    fn shown_on(columns: usize, by: LatencyBy, limit: usize) -> String {
        let measured = |measure, group, ns: &[u64]| {
            let mut histogram = Histogram::default();
            for &ns in ns {
                histogram.record(ns);
            }
            histogram.record_unknown();
            MeasuredGroup {
                measure,
                group,
                histogram,
            }
        };
        let port = |port| {
            if by == LatencyBy::All {
                Group::Kernel(LatencyGroup::All)
            } else {
                Group::Kernel(LatencyGroup::Lport { port, netns: None })
            }
        };
        let mut all = vec![
            measured(Measure::Accept, port(80), &[1500]),
            measured(Measure::State(TcpState::Established), port(80), &[2_000_000, 3_000_000]),
            measured(Measure::State(TcpState::Established), port(81), &[]),
        ];
        if by != LatencyBy::All {
            all.push(measured(
                Measure::Accept,
                Group::Kernel(LatencyGroup::Other),
                &[131_072],
            ));
        }
        let frame = LatencyFrame {
            time: Timestamp::UNIX_EPOCH,
            interval_s: 2.0,
            by,
            measured: all,
            retransmits: Some(Retransmits {
                syn: 1,
                syn_ack: 0,
                data: 2,
            }),
            evicted: 1,
            unmeasured: 0,
            missed: Some(0),
        };
        let screen = Screen::plain(columns);
        let mut out = Vec::new();
        Text::new(TimeZone::UTC, limit, screen)
            .frame(&Frame::from(&frame), &[], &mut out)
            .unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn groups_are_named_once_and_limited() {
        assert_eq!(
            shown(LatencyBy::Lport, 1),
            "00:00:00  last 2.0 s\n\
             lport  what                 count    p50    p90    p99    max  unknown\n\
             80     accept                   1  1.5us  1.5us  1.5us  1.5us        1\n\
             \x20      established              2  2.0ms  2.9ms  2.9ms  2.9ms        1\n\
             other  accept                   1  140us  140us  140us  140us        1\n\
             and 1 more group (--limit)\n\
             sent again: 1 SYN, 0 SYN-ACK, 2 other; 1 group that was idle longest is in other\n"
        );
    }

    #[test]
    fn equal_ports_of_two_namespaces_are_two_groups() {
        let mut histogram = Histogram::default();
        histogram.record(7);
        let measured = |netns| Measured {
            measure: Measure::Accept,
            group: LatencyGroup::Lport {
                port: 80,
                netns: NonZeroU32::new(netns),
            },
            owner: None,
            histogram: histogram.clone(),
        };
        let lines = |namespaces: &[u32]| {
            let sample = LatencySample {
                measured: namespaces.iter().copied().map(measured).collect(),
                ..LatencySample::default()
            };
            let mut latency = Latency::new(LatencyBy::Lport, 0);
            latency.add(sample, 1, &CgroupPaths::default());
            let frame = latency.frame(Timestamp::UNIX_EPOCH, 2);
            let mut out = Vec::new();
            let mut view = Text::new(TimeZone::UTC, 10, Screen::plain(80));
            view.frame(&Frame::from(&frame), &[], &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let groups = text.lines().filter(|line| line.starts_with("80 "));
            groups
                .map(|line| line.split("  ").next().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(lines(&[7, 8]), ["80 netns 7", "80 netns 8"]);
        assert_eq!(lines(&[7]), ["80"], "there is one namespace");
    }

    #[test]
    fn narrow_terminals_get_fewer_columns() {
        let text = shown_on(60, LatencyBy::Lport, 1);
        for line in [
            "lport  what                 count    p50    p99    max\n",
            "80     accept                   1  1.5us  1.5us  1.5us\n",
            "other  accept                   1  140us  140us  140us\n",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn all_together_are_drawn() {
        let text = shown(LatencyBy::All, 20);
        assert!(text.contains("waiting for accept()\n") && text.contains('█'), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
