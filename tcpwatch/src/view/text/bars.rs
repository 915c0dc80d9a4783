//! Sockets by state as a bar chart.

use std::io::{self, Write};

use super::fit::write_row;
use crate::model::counts::StateCounts;
use crate::model::format::thousands;
use crate::view::screen::Screen;

/// Block characters for 0 to 7 eighths of a column.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Writes a bar for each state that has sockets, the largest first. The longest bar takes half of the room beside the numbers.
///
/// # Errors
/// `out` cannot be written to.
pub fn write(out: &mut impl Write, counts: &StateCounts, screen: Screen) -> io::Result<()> {
    let mut rows: Vec<_> = counts.iter().filter(|&(_, sockets)| sockets > 0).collect();
    rows.sort_by_key(|&(_, sockets)| std::cmp::Reverse(sockets));
    let Some(&(_, largest)) = rows.first() else {
        return Ok(());
    };
    let names = rows.iter().map(|(state, _)| state.name().len()).max().unwrap_or(0);
    let numbers = thousands(largest).len().max(4);
    let columns = (screen.columns().saturating_sub(2 + names + 2 + numbers + 2) / 2).max(8);
    for (state, sockets) in rows {
        let name = state.name();
        let style = screen.style(state);
        let number = thousands(sockets);
        let bar = bar(sockets, largest, columns);
        let row = format!("  {style}{name:names$}{style:#}  {number:>numbers$}  {style}{bar}{style:#}");
        write_row(&row, screen, out)?;
    }
    Ok(())
}

/// A bar for `part`, where `whole` has a bar of so many `columns`; at least an eighth of a column.
#[must_use]
pub fn bar(part: u64, whole: u64, columns: usize) -> String {
    let eighths = u128::from(part) * 8 * columns as u128 / u128::from(whole.max(1));
    let eighths = usize::try_from(eighths).unwrap_or(usize::MAX).clamp(1, 8 * columns);
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}

#[cfg(test)]
mod tests {
    use tcpwatch_common::TcpState;

    use super::*;

    fn text(counts: &[(TcpState, u64)], width: usize) -> String {
        let mut all = StateCounts::default();
        for &(state, sockets) in counts {
            all.add(state, sockets);
        }
        let mut out = Vec::new();
        write(&mut out, &all, Screen::plain(width)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_length_of_a_bar_is_proportional_to_its_number() {
        let counts = [
            (TcpState::Listen, 1),
            (TcpState::Established, 412),
            (TcpState::CloseWait, 127),
        ];
        let want = "  ESTABLISHED   412  █████████████████████████████\n  \
                      CLOSE_WAIT    127  ████████▉\n  \
                      LISTEN          1  ▏\n";
        assert_eq!(text(&counts, 80), want);
    }

    #[test]
    fn bars_are_drawn_at_any_width() {
        assert_eq!(text(&[], 80), "");
        for width in [50, 80, 500] {
            let bars = text(&[(TcpState::TimeWait, u64::MAX / 11), (TcpState::Close, 1)], width);
            assert!(bars.contains('█') && bars.ends_with("▏\n"), "{width}");
        }
        assert_eq!(bar(1, 2, 1), "▌");
        assert_eq!(bar(0, 0, 1), "▏");
    }
}
