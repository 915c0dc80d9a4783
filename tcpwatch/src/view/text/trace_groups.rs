//! `trace --by` and `life --by` as text: a line for each group, the largest first.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::Style;

use super::fit::{padded, push_items, shortened, width, write_prose, write_row};
use crate::input::{Connection, Transition};
use crate::model::format::{UNKNOWN, percentile, quiet, quiet_short, several, thousands};
use crate::model::trace_groups::{Countable, GroupCounts, TraceGroups, What};
use crate::view::screen::Screen;
use crate::view::trace_groups::GroupsFormat;

/// Least width of a name that does not fit.
const MIN_NAME: usize = 16;

/// A column of numbers.
pub struct Column {
    heading: &'static str,
    width: usize,
    number: fn(&GroupCounts) -> String,
}

/// The columns of one kind of record.
pub trait GroupColumns: Countable {
    /// The columns of numbers, the least important last.
    const COLUMNS: &'static [Column];
    /// Heading of the last column, which has the most frequent states or endings.
    const WHAT: &'static str;
}

impl GroupColumns for Transition {
    const COLUMNS: &'static [Column] = &[Column {
        heading: "transitions",
        width: 11,
        number: |counts| quiet(counts.records),
    }];
    const WHAT: &'static str = "from>to";
}

impl GroupColumns for Connection {
    const COLUMNS: &'static [Column] = &[
        Column {
            heading: "connections",
            width: 11,
            number: |counts| quiet(counts.records),
        },
        Column {
            heading: "p50",
            width: 6,
            number: |counts| percentile(counts.lifetime.quantile(0.5)),
        },
        Column {
            heading: "p99",
            width: 6,
            number: |counts| percentile(counts.lifetime.quantile(0.99)),
        },
        Column {
            heading: "sent",
            width: 5,
            number: |counts| traffic(counts, counts.sent),
        },
        Column {
            heading: "recv",
            width: 5,
            number: |counts| traffic(counts, counts.received),
        },
        Column {
            heading: "retr",
            width: 5,
            number: |counts| traffic(counts, counts.retransmits),
        },
    ];
    const WHAT: &'static str = "ended";
}

/// `number` of the connections whose traffic is known, if there are such.
fn traffic(counts: &GroupCounts, number: u64) -> String {
    if counts.with_traffic == 0 {
        UNKNOWN.into()
    } else {
        quiet_short(number)
    }
}

/// What a record is: `ESTABLISHED>CLOSE_WAIT`, `reset_by_peer`.
fn name(what: What) -> String {
    match what {
        What::Move(from, to) => format!("{}>{}", from.name(), to.name()),
        What::End(ending) => ending.key().to_owned(),
    }
}

/// A table at the end.
#[derive(Debug)]
pub struct Text {
    limit: usize,
    screen: Screen,
}

impl Text {
    /// At most `limit` groups.
    #[must_use]
    pub const fn new(limit: usize, screen: Screen) -> Self {
        Self { limit, screen }
    }

    /// The line of a group: its name, its numbers, and the most frequent states or endings of its records, as many as fit.
    fn line<T: GroupColumns>(&self, name_width: usize, name: &str, counts: &GroupCounts) -> String {
        let mut row = padded(&shortened(name, name_width), name_width);
        for column in T::COLUMNS {
            // Writing to a string cannot fail.
            let _ = write!(row, "  {:>1$}", (column.number)(counts), column.width);
        }
        row.push_str("  ");
        let item = |(what, count)| format!("{} {}", self::name(what), thousands(count));
        let items: Vec<String> = counts.most_frequent().into_iter().map(item).collect();
        push_items(&mut row, &items, self.screen);
        row
    }
}

impl<T: GroupColumns> GroupsFormat<T> for Text {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "watching; Ctrl-C ends it")
    }

    fn groups(&mut self, groups: &TraceGroups, out: &mut dyn Write) -> io::Result<()> {
        let all = groups.largest_first();
        if all.is_empty() {
            return Ok(());
        }
        let shown = &all[..all.len().min(self.limit)];
        let mut rows: Vec<(String, &GroupCounts)> = shown
            .iter()
            .map(|(group, counts)| (group.map_or_else(|| UNKNOWN.into(), ToString::to_string), *counts))
            .collect();
        rows.extend(groups.other().map(|other| ("other".into(), other)));
        let heading = groups.by().key();
        let widest = rows
            .iter()
            .map(|(name, _)| width(name))
            .max()
            .unwrap_or(0)
            .max(heading.len());
        let numbers: usize = T::COLUMNS.iter().map(|column| 2 + column.width).sum();
        // A name may take half of the columns that the numbers leave. States or endings follow.
        let room = self.screen.columns().saturating_sub(numbers) / 2;
        let name_width = widest.min(room.max(MIN_NAME));
        let dim = self.screen.styled(Style::new().dimmed());
        let mut row = format!("{dim}{}", padded(heading, name_width));
        for column in T::COLUMNS {
            let _ = write!(row, "  {:>1$}", column.heading, column.width);
        }
        write_row(&format!("{row}  {}{dim:#}", T::WHAT), self.screen, out)?;
        for (name, counts) in rows {
            write_row(&self.line::<T>(name_width, &name, counts), self.screen, out)?;
        }
        let left_out = (all.len() - shown.len()) as u64;
        if left_out > 0 {
            let text = format!("and {} (--limit)", several(left_out, "more group", "more groups"));
            write_prose(&text, 0, self.screen, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::owner::OwnerBy;
    use crate::input::owner::tests::owner;
    use crate::model::ending::Ending;
    use crate::model::trace::TraceRow;
    use crate::view::trace::tests::connection;

    fn shown(columns: usize, limit: usize) -> String {
        let mut groups = TraceGroups::new(OwnerBy::Comm);
        for (comm, ending, times) in [
            ("nginx", Ending::GracefulPassive, 1200),
            ("nginx", Ending::ResetByPeer, 34),
            ("a-longer-name", Ending::GracefulActive, 7),
        ] {
            let mut record = connection();
            record.last.owner = Some(owner(7, comm));
            for _ in 0..times {
                groups.add(&TraceRow {
                    record,
                    ending: Some(ending),
                    owner_unknown: None,
                    cgroup: None,
                });
            }
        }
        let mut out = Vec::new();
        let mut view = Text::new(limit, Screen::plain(columns));
        GroupsFormat::<Connection>::groups(&mut view, &groups, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_group_has_a_line() {
        assert_eq!(
            shown(120, 10),
            "comm              connections     p50     p99   sent   recv   retr  ended\n\
             nginx[*]                1,234   280ms   280ms   1.5M   638k      ·  graceful_passive 1,200, reset_by_peer 34\n\
             a-longer-name[*]            7   280ms   280ms   8.6k   3.6k      ·  graceful_active 7\n"
        );
        let text = shown(94, 1);
        assert!(text.contains("  graceful_passive 1,200, and 1 more\n"), "{text}");
        assert!(text.ends_with("and 1 more group (--limit)\n"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 94), "{text}");
    }
}
