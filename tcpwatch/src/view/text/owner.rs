//! Writes the end of a trace line: the owner of the connection and how it ended, in the room that is left.

use std::fmt::Write as _;

use super::fit::{head, width};
use crate::model::trace::{TraceRecord, TraceRow};

/// Marks an owner that did not call `connect()` or `accept()`, where there is no room for how it is known.
const UNCERTAIN: char = '~';

/// How much is written, from the most to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// `nginx[812] (listen) docker:0123456789ab, closed by worker[900]  peer closed first`
    Full,
    /// `nginx[812] (listen) 0123456789ab peer closed`
    Short,
    /// `nginx[812]~ peer closed`
    Process,
    /// `nginx~ peer closed`
    Name,
}

/// Writes the owner of `row`, `?` and why if unknown, and the ending if there is one, in at most `room` columns.
pub(super) fn write<T: TraceRecord>(line: &mut String, row: &TraceRow<T>, room: Option<usize>) {
    let start = line.len();
    for detail in [Detail::Full, Detail::Short, Detail::Process, Detail::Name] {
        line.truncate(start);
        write_owner(line, row, detail);
        let end_of_owner = line.len();
        write_ending(line, row, detail);
        let Some(room) = room else { return };
        let excess = width(&line[start..]).saturating_sub(room);
        if excess == 0 {
            return;
        }
        if detail == Detail::Name {
            shorten(line, start, end_of_owner, excess);
        }
    }
}

/// Writes the owner.
fn write_owner<T: TraceRecord>(line: &mut String, row: &TraceRow<T>, detail: Detail) {
    let Some(owner) = row.record.event().owner else {
        line.push('?');
        if let Some(why) = row.owner_unknown.filter(|_| detail == Detail::Full) {
            // Writing to a string cannot fail, here and below.
            let _ = write!(line, " ({})", why.key().replace('_', " "));
        }
        return;
    };
    let _ = match detail {
        Detail::Name => write!(line, "{}", owner.comm),
        _ => write!(line, "{owner}"),
    };
    if matches!(detail, Detail::Process | Detail::Name) {
        return;
    }
    if !owner.how.suffix().is_empty() {
        let _ = write!(line, " {}", owner.how.suffix());
    }
    let Some(cgroup) = &row.cgroup else { return };
    let _ = match (cgroup.named_pod(), &cgroup.container, detail) {
        (Some(pod), ..) => write!(line, " {pod}"),
        (None, Some(container), Detail::Full) => write!(line, " {container}"),
        (None, Some(container), _) => write!(line, " {}", container.short()),
        (None, None, _) => Ok(()),
    };
}

/// Writes the mark of an uncertain owner, the process that closed the connection if it is another, and the ending.
fn write_ending<T: TraceRecord>(line: &mut String, row: &TraceRow<T>, detail: Detail) {
    let owner = row.record.event().owner;
    if matches!(detail, Detail::Process | Detail::Name) && owner.is_some_and(|owner| !owner.how.suffix().is_empty()) {
        line.push(UNCERTAIN);
    }
    let closer = row.record.closer().filter(|_| detail == Detail::Full);
    if let Some(closer) = closer {
        let _ = write!(line, ", closed by {closer}");
    }
    if let Some(ending) = row.ending {
        let _ = match detail {
            Detail::Full => write!(line, "  {}", ending.words()),
            _ => write!(line, " {}", ending.short()),
        };
    }
}

/// Takes `excess` columns from the end of the name in `start..end`, but leaves its first letter.
fn shorten(line: &mut String, start: usize, end: usize, excess: usize) {
    let name = &line[start..end];
    // The ellipsis takes a column, too.
    let kept = head(name, width(name).saturating_sub(excess + 1)).len();
    let first = name.chars().next().map_or(0, char::len_utf8);
    if kept.max(first) < name.len() {
        line.replace_range(start + kept.max(first)..end, "…");
    }
}
