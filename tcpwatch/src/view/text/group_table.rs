//! Groups of sockets as a table: a line per group, a column per state that occurs.

use std::fmt::Write as _;
use std::io::{self, Write};

use tcpwatch_common::TcpState;

use super::fit::{padded, shortened, width, write_prose, write_row};
use crate::model::counts::StateCounts;
use crate::model::format::{quiet, thousands};
use crate::model::snapshot::{GROUPS_MAX, GroupBy, KeyPart, Snapshot};
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

    /// The headings.
    fn headings(&self, screen: Screen) -> String {
        let mut row = format!("  {:>width$}", "total", width = self.total);
        for &(state, name, width) in &self.states {
            let style = screen.style(state);
            // Writing to a string cannot fail, here and below.
            let _ = write!(row, "  {style}{name:>width$}{style:#}");
        }
        row
    }

    /// The numbers of a group.
    fn numbers(&self, counts: &StateCounts) -> String {
        let mut row = format!("  {:>width$}", quiet(counts.total()), width = self.total);
        for &(state, _, width) in &self.states {
            let _ = write!(row, "  {:>width$}", quiet(counts.get(state)));
        }
        row
    }
}

/// Least width of a part of the key that does not fit.
const MIN_KEY: usize = 10;

/// Writes the groups of `snapshot`. If they do not fit `screen`, states have short names, and long parts of the key lose their middle.
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
            .map(|group| group.key.iter().map(|part| key_name(snapshot, part)).collect()),
    );
    let mut widths: Vec<usize> = (0..snapshot.by.len())
        .map(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or(0))
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
    let mut columns = NumberColumns::new(snapshot, states::column);
    if keys(&widths) + columns.width() > screen.columns() {
        columns = NumberColumns::new(snapshot, states::short);
    }
    if let Some(screen) = screen.width {
        while keys(&widths) + columns.width() > screen
            && let Some(widest) = widths.iter_mut().max()
            && *widest > MIN_KEY
        {
            *widest -= 1;
        }
    }

    for (index, row) in rows.iter().enumerate() {
        let parts = row.iter().zip(&widths);
        let parts: Vec<String> = parts
            .map(|(part, &width)| padded(&shortened(part, width), width))
            .collect();
        let rest = match index.checked_sub(1).and_then(|index| snapshot.groups.get(index)) {
            Some(group) => columns.numbers(&group.states),
            None => columns.headings(screen),
        };
        write_row(&(parts.join("  ") + &rest), screen, out)?;
    }
    if let Some(other) = &snapshot.other {
        let rest = padded(&shortened(&rest, keys(&widths)), keys(&widths));
        write_row(&(rest + &columns.numbers(&other.states)), screen, out)?;
        if other.groups.is_none() {
            let groups = thousands(GROUPS_MAX as u64);
            let text = format!("more than {groups} groups: the sockets of further groups are in 'other'");
            write_prose(&text, 0, screen, out)?;
        }
    }
    Ok(())
}

/// What a part of the key is called: a network namespace has a name.
fn key_name(snapshot: &Snapshot, part: &KeyPart) -> String {
    match part {
        KeyPart::Netns(inode) => snapshot.namespace_names.get(*inode),
        part => part.to_string(),
    }
}
