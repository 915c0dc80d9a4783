//! Groups of sockets as a table: a line per group, a column per state that occurs.

use std::io::{self, Write};

use tcpwatch_common::TcpState;

use crate::model::counts::StateCounts;
use crate::model::format::{quiet, thousands};
use crate::model::snapshot::GroupBy;
use crate::model::snapshot::{GROUPS_MAX, Snapshot};
use crate::view::screen::Screen;
use crate::view::states;

/// Widths of the columns of numbers.
struct NumberColumns {
    total: usize,
    states: Vec<(TcpState, &'static str, usize)>,
}

impl NumberColumns {
    /// Columns as wide as their headings, which `name` gives, and their numbers.
    fn new(snapshot: &Snapshot, name: fn(TcpState) -> &'static str) -> Self {
        let other = snapshot.other.iter().map(|other| &other.states);
        let counts: Vec<&StateCounts> = snapshot.groups.iter().map(|group| &group.states).chain(other).collect();
        let widest = |heading: &str, number: &dyn Fn(&StateCounts) -> u64| {
            let numbers = counts.iter().map(|counts| thousands(number(counts)).len());
            numbers.max().unwrap_or(0).max(heading.len())
        };
        // Groups by state have the state in their key.
        let shown = snapshot
            .states
            .iter()
            .filter(|&(_, sockets)| sockets > 0 && !snapshot.by.contains(&GroupBy::State));
        Self {
            total: widest("total", &StateCounts::total),
            states: shown
                .map(|(state, _)| (state, name(state), widest(name(state), &|counts| counts.get(state))))
                .collect(),
        }
    }

    /// Width of all columns, with two blanks before each.
    fn width(&self) -> usize {
        2 + self.total + self.states.iter().map(|(_, _, width)| 2 + width).sum::<usize>()
    }

    /// Writes the headings and a newline.
    fn write_headings(&self, out: &mut impl Write, screen: Screen) -> io::Result<()> {
        write!(out, "  {:>width$}", "total", width = self.total)?;
        for &(state, name, width) in &self.states {
            let style = screen.style(state);
            write!(out, "  {style}{name:>width$}{style:#}")?;
        }
        writeln!(out)
    }

    /// Writes the numbers of a group and a newline.
    fn write(&self, out: &mut impl Write, counts: &StateCounts) -> io::Result<()> {
        write!(out, "  {:>width$}", quiet(counts.total()), width = self.total)?;
        for &(state, _, width) in &self.states {
            write!(out, "  {:>width$}", quiet(counts.get(state)))?;
        }
        writeln!(out)
    }
}

/// Writes the groups of `snapshot`. States have short names if long ones do not fit `screen`.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, snapshot: &Snapshot, screen: Screen) -> io::Result<()> {
    let headings: Vec<String> = snapshot.by.iter().map(|&by| by.key().to_owned()).collect();
    let mut rows = vec![headings];
    rows.extend(
        snapshot
            .groups
            .iter()
            .map(|group| group.key.iter().map(ToString::to_string).collect()),
    );
    let mut widths: Vec<usize> = (0..snapshot.by.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let rest = match snapshot.other.map(|other| other.groups) {
        Some(Some(groups)) => format!("other ({})", thousands(groups as u64)),
        _ => "other".into(),
    };
    // `other (7)` spans all parts of the key. If it is longer, the last part is widened.
    let keys = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    let missing = rest.len().saturating_sub(keys(&widths));
    if let (Some(last), Some(_)) = (widths.last_mut(), &snapshot.other) {
        *last += missing;
    }
    let keys = keys(&widths);
    let mut columns = NumberColumns::new(snapshot, states::column);
    if keys + columns.width() > screen.columns() {
        columns = NumberColumns::new(snapshot, states::short);
    }

    for (index, row) in rows.iter().enumerate() {
        for (column, (part, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column > 0 { "  " } else { "" };
            write!(out, "{gap}{part:width$}")?;
        }
        match index.checked_sub(1).and_then(|index| snapshot.groups.get(index)) {
            Some(group) => columns.write(out, &group.states)?,
            None => columns.write_headings(out, screen)?,
        }
    }
    if let Some(other) = &snapshot.other {
        write!(out, "{rest:keys$}")?;
        columns.write(out, &other.states)?;
        if other.groups.is_none() {
            writeln!(
                out,
                "more than {} groups: the sockets of further groups are in 'other'",
                thousands(GROUPS_MAX as u64)
            )?;
        }
    }
    Ok(())
}
