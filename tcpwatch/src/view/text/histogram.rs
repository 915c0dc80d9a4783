//! A histogram: the figures people ask for, then a bar for each power of two.

use std::io::{self, Write};

use crate::input::histogram::{Bucket, Histogram};
use crate::model::format::{duration, quiet, thousands, two_digits};
use crate::view::screen::Screen;
use crate::view::text::bars;

/// The row of a power of two.
struct PowerRow {
    from: String,
    to: String,
    count: u64,
}

impl From<Bucket> for PowerRow {
    fn from(bucket: Bucket) -> Self {
        Self {
            from: duration(bucket.from_ns),
            to: duration(bucket.le_ns.saturating_add(1)),
            count: bucket.count,
        }
    }
}

/// Writes `title`, the quantiles of `histogram`, and its counts by powers of two, from the first power that is not empty to the last.
///
/// A range includes where it begins and not where it ends. Lines fill `screen`, whose bars take what the numbers leave.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, title: &str, histogram: &Histogram, screen: Screen) -> io::Result<()> {
    writeln!(out, "{title}")?;
    figures(out, histogram)?;
    if histogram.unknown() > 0 {
        writeln!(out, "  unknown start: {}", thousands(histogram.unknown()))?;
    }
    let rows: Vec<PowerRow> = histogram.powers().into_iter().map(PowerRow::from).collect();
    let widest = |text: fn(&PowerRow) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let from = widest(|row| row.from.len());
    let to = widest(|row| row.to.len());
    let number = widest(|row| thousands(row.count).len());
    let cells = screen
        .columns()
        .saturating_sub(2 + from + 3 + to + 2 + number + 2)
        .max(1);
    let largest = rows.iter().map(|row| row.count).max().unwrap_or(0);
    for row in &rows {
        write!(
            out,
            "  {:>from$} - {:>to$}  {:>number$}",
            row.from,
            row.to,
            quiet(row.count)
        )?;
        match row.count {
            0 => writeln!(out)?,
            count => writeln!(out, "  {}", bars::bar(count, largest, cells))?,
        }
    }
    Ok(())
}

/// Prints a line with p50, p90, p99 and the longest time.
fn figures(out: &mut dyn Write, histogram: &Histogram) -> io::Result<()> {
    let Some(max) = histogram.max() else {
        return writeln!(out, "  nothing measured");
    };
    write!(out, "  ")?;
    for (name, p) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        let value = histogram.quantile(p).unwrap_or(max);
        write!(out, "{name} {}  ", duration(two_digits(value)))?;
    }
    writeln!(out, "max {}", duration(two_digits(max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::histogram::BUCKETS;

    fn text(histogram: &Histogram, width: usize) -> String {
        let mut out = Vec::new();
        write(&mut out, "time in SYN_SENT", histogram, Screen::plain(width)).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// 1,234 around 10 us, 20 around 60 us, 1 of 3.2 ms.
    fn handshakes() -> Histogram {
        let mut histogram = Histogram::default();
        for _ in 0..1234 {
            histogram.record(10_000);
        }
        for _ in 0..20 {
            histogram.record(60_000);
        }
        histogram.record(3_200_000);
        histogram
    }

    #[test]
    fn figures_come_first_and_bars_are_as_long_as_counts_are_large() {
        let mut histogram = handshakes();
        histogram.record_unknown();
        let want = "time in SYN_SENT\n  \
            p50 10us  p90 10us  p99 60us  max 3.2ms\n  \
            unknown start: 1\n  \
            8.2us -  16us  1,234  ████████████████████████████████████████████████████████\n   \
             16us -  33us      ·\n   \
             33us -  66us     20  ▉\n   \
             66us - 131us      ·\n  \
            131us - 262us      ·\n  \
            262us - 524us      ·\n  \
            524us - 1.0ms      ·\n  \
            1.0ms - 2.1ms      ·\n  \
            2.1ms - 4.2ms      1  ▏\n";
        assert_eq!(text(&histogram, 80), want);
    }

    #[test]
    fn lines_fit_the_screen() {
        for width in [30, 40, 80, 200] {
            let text = text(&handshakes(), width);
            let longest = text.lines().skip(2).map(|line| line.chars().count()).max();
            assert_eq!(longest, Some(width));
        }
        // Too narrow for the numbers alone: they wrap, and there is still a bar.
        assert!(text(&handshakes(), 0).contains("1,234  █\n"));
    }

    #[test]
    fn any_length_and_any_count_can_be_drawn() {
        let mut extremes = Histogram::default();
        for bucket in 0..BUCKETS {
            extremes.add(bucket, u64::MAX);
        }
        extremes.add_unknown(u64::MAX);
        extremes.record(0);
        let drawn = text(&extremes, 80);
        assert!(drawn.contains("    0ns -           1ns  "), "{drawn}");
        assert_eq!(drawn.lines().count(), 3 + 65);
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        assert_eq!(
            text(&Histogram::default(), 80),
            "time in SYN_SENT\n  nothing measured\n"
        );
    }
}
