//! Whose a connection is, and how it ended: the end of a line, in whatever room is left.

use std::fmt::Write as _;

use crate::model::trace::{Row, Traced};

/// In place of how an owner is known, where there is no room for it and it did not call `connect()` or `accept()`.
const DOUBT: char = '~';

/// How much is said, the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// `nginx[812] (listen) docker:0123456789ab, closed by worker[900]  peer closed first`
    All,
    /// `nginx[812] (listen) 0123456789ab peer closed`
    Short,
    /// `nginx[812]~ peer closed`
    Bare,
    /// `nginx~ peer closed`
    Name,
}

/// Writes the owner of `row`, `?` for nobody, and how it ended if it did; in `room` columns, if there is an end to them.
pub(super) fn write<T: Traced>(line: &mut String, row: &Row<T>, room: Option<usize>) {
    let at = line.len();
    for said in [Said::All, Said::Short, Said::Bare, Said::Name] {
        line.truncate(at);
        who(line, row, said);
        let end_of_name = line.len();
        how(line, row, said);
        let Some(room) = room else { return };
        let too_many = line[at..].chars().count().saturating_sub(room);
        if too_many == 0 {
            return;
        }
        if said == Said::Name {
            cut(line, at, end_of_name, too_many);
        }
    }
}

/// Writes whose it is.
fn who<T: Traced>(line: &mut String, row: &Row<T>, said: Said) {
    let Some(owner) = row.what.event().owner else {
        line.push('?');
        return;
    };
    // Writing to a string cannot fail, here and below.
    let _ = match said {
        Said::Name => write!(line, "{}", owner.comm),
        _ => write!(line, "{owner}"),
    };
    if matches!(said, Said::Bare | Said::Name) {
        return;
    }
    if !owner.how.suffix().is_empty() {
        let _ = write!(line, " {}", owner.how.suffix());
    }
    if let Some(container) = row.cgroup.as_ref().and_then(|cgroup| cgroup.container.as_ref()) {
        let _ = match said {
            Said::All => write!(line, " {container}"),
            _ => write!(line, " {}", container.short()),
        };
    }
}

/// Writes who closed it, where that is another, and how it ended; before that the mark of an owner of whom it was not said how
/// it is known.
fn how<T: Traced>(line: &mut String, row: &Row<T>, said: Said) {
    let owner = row.what.event().owner;
    if matches!(said, Said::Bare | Said::Name) && owner.is_some_and(|owner| !owner.how.suffix().is_empty()) {
        line.push(DOUBT);
    }
    let closer = row.what.closer().filter(|_| said == Said::All);
    if let Some(closer) = closer {
        let _ = write!(line, ", closed by {closer}");
    }
    if let Some(ended) = row.ended {
        let _ = match said {
            Said::All => write!(line, "  {}", ended.words()),
            _ => write!(line, " {}", ended.short()),
        };
    }
}

/// Takes `too_many` columns from the end of the name between `start` and `end`, though not its first letter.
fn cut(line: &mut String, start: usize, end: usize, too_many: usize) {
    let name = &line[start..end];
    // One more for the sign of it.
    let kept = name.chars().count().saturating_sub(too_many + 1).max(1);
    if let Some((at, _)) = name.char_indices().nth(kept) {
        line.replace_range(start + at..end, "…");
    }
}
