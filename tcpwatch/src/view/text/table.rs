//! Groups of sockets, a line each, with the states that occur.

use std::io::{self, Write};

use tcpwatch_common::TcpState;

use crate::model::counts::StateCounts;
use crate::model::snapshot::By;
use crate::model::snapshot::{GROUPS_MAX, Snapshot};
use crate::view::number::{quiet, thousands};
use crate::view::screen::Screen;
use crate::view::states;

/// Columns of numbers, and how wide they are.
struct Columns {
    total: usize,
    states: Vec<(TcpState, &'static str, usize)>,
}

impl Columns {
    /// As wide as the names `name` gives, and every number of `snapshot`, need.
    fn new(snapshot: &Snapshot, name: fn(TcpState) -> &'static str) -> Self {
        let other = snapshot.other.iter().map(|other| &other.states);
        let counts: Vec<&StateCounts> = snapshot.groups.iter().map(|group| &group.states).chain(other).collect();
        let widest = |heading: &str, number: &dyn Fn(&StateCounts) -> u64| {
            let numbers = counts.iter().map(|counts| thousands(number(counts)).len());
            numbers.max().unwrap_or(0).max(heading.len())
        };
        // Groups of one state need no columns to say which.
        let shown = snapshot
            .states
            .iter()
            .filter(|&(_, sockets)| sockets > 0 && !snapshot.by.contains(&By::State));
        Self {
            total: widest("total", &StateCounts::total),
            states: shown
                .map(|(state, _)| (state, name(state), widest(name(state), &|counts| counts.get(state))))
                .collect(),
        }
    }

    /// Columns on the screen, two blanks before each.
    fn width(&self) -> usize {
        2 + self.total + self.states.iter().map(|(_, _, width)| 2 + width).sum::<usize>()
    }

    /// Writes the headings and ends the line.
    fn write_headings(&self, out: &mut impl Write, screen: Screen) -> io::Result<()> {
        write!(out, "  {:>width$}", "total", width = self.total)?;
        for &(state, name, width) in &self.states {
            let style = screen.style(state);
            write!(out, "  {style}{name:>width$}{style:#}")?;
        }
        writeln!(out)
    }

    /// Writes the numbers of a line and ends it.
    fn write(&self, out: &mut impl Write, counts: &StateCounts) -> io::Result<()> {
        write!(out, "  {:>width$}", quiet(counts.total()), width = self.total)?;
        for &(state, _, width) in &self.states {
            write!(out, "  {:>width$}", quiet(counts.get(state)))?;
        }
        writeln!(out)
    }
}

/// Writes the groups of `snapshot`, with short names of states where long ones do not fit on `screen`.
///
/// # Errors
/// Those of `out`.
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
    // The line of the rest runs over all parts of the key; the last one makes room for it.
    let keys = |widths: &[usize]| widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
    let missing = rest.len().saturating_sub(keys(&widths));
    if let (Some(last), Some(_)) = (widths.last_mut(), &snapshot.other) {
        *last += missing;
    }
    let keys = keys(&widths);
    let mut columns = Columns::new(snapshot, states::column);
    if keys + columns.width() > screen.columns() {
        columns = Columns::new(snapshot, states::short);
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
                "more than {} groups: those met later are other",
                thousands(GROUPS_MAX as u64)
            )?;
        }
    }
    Ok(())
}
