//! Rows of text under aligned columns.

/// Lines: the first column to the left, the others to the right, two blanks between.
pub(super) fn lines<R: AsRef<[String]>>(header: &[&str], rows: &[R]) -> Vec<String> {
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let all: Vec<&[String]> = std::iter::once(header.as_slice())
        .chain(rows.iter().map(AsRef::as_ref))
        .collect();
    let columns = all.iter().map(|row| row.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            let width = |row: &&[String]| row.get(column).map_or(0, |cell| cell.chars().count());
            all.iter().map(width).max().unwrap_or(0)
        })
        .collect();
    all.iter().map(|row| line(row, &widths)).collect()
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        })
        .collect();
    cells.join("  ").trim_end().to_owned()
}

/// `number` with `digits` digits after the point; `-` where it is unknown.
pub(super) fn number(number: f64, digits: usize) -> String {
    if number.is_finite() {
        format!("{number:.digits$}")
    } else {
        "-".to_owned()
    }
}

/// From the least to the largest.
pub(super) fn range(min: f64, max: f64, digits: usize) -> String {
    format!("{}..{}", number(min, digits), number(max, digits))
}

#[cfg(test)]
mod tests {
    use super::{lines, number, range};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["nothing", "1.5"], ["an observer", "12.25"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            lines(&["", "ns"], &rows),
            ["                ns", "nothing        1.5", "an observer  12.25"]
        );
    }

    #[test]
    fn unknown_is_not_a_number() {
        assert_eq!(number(f64::NAN, 2), "-");
        assert_eq!(range(-1.25, 3.0, 1), "-1.2..3.0");
    }
}
