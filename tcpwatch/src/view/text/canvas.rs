//! A drawing of letters, into which words are put at their places.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthChar;

use super::wrap::width;

/// Rows of columns; a letter of two columns has its second column to itself.
#[derive(Debug)]
pub(super) struct Canvas {
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// `None`: the second column of the letter before.
    letter: Option<char>,
    style: Style,
}

const BLANK: Cell = Cell {
    letter: Some(' '),
    style: Style::new(),
};

impl Canvas {
    /// Begins with these `lines`.
    pub(super) fn new(lines: &[&str]) -> Self {
        let mut canvas = Self {
            rows: vec![Vec::new(); lines.len()],
        };
        for (row, line) in lines.iter().enumerate() {
            canvas.put(row, 0, line, Style::new());
        }
        canvas
    }

    /// Puts `text` at `row`, from column `column` on.
    pub(super) fn put(&mut self, row: usize, mut column: usize, text: &str, style: Style) {
        let Some(cells) = self.rows.get_mut(row) else {
            return;
        };
        for letter in text.chars() {
            let columns = letter.width().unwrap_or(0);
            if cells.len() < column + columns {
                cells.resize(column + columns, BLANK);
            }
            for place in 0..columns {
                let cell = &mut cells[column + place];
                cell.letter = (place == 0).then_some(letter);
                cell.style = style;
            }
            column += columns;
        }
    }

    /// Puts `text` at `row`, so that it ends before column `end`.
    pub(super) fn put_before(&mut self, row: usize, end: usize, text: &str, style: Style) {
        self.put(row, end.saturating_sub(width(text)), text, style);
    }

    /// Gives `columns` columns from `column` on in `row` this `style`.
    pub(super) fn paint(&mut self, row: usize, column: usize, columns: usize, style: Style) {
        let cells = self.rows.get_mut(row).into_iter().flatten();
        for cell in cells.skip(column).take(columns) {
            cell.style = style;
        }
    }

    /// The lines, without blanks at their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.rows.iter().map(|cells| {
            let filled = cells.iter().rposition(|cell| cell.letter != Some(' '));
            let cells = &cells[..filled.map_or(0, |last| last + 1)];
            let mut line = String::new();
            let mut before = Style::new();
            for cell in cells {
                if cell.style != before {
                    // Writing to a string cannot fail.
                    let _ = write!(line, "{before:#}{}", cell.style);
                    before = cell.style;
                }
                line.extend(cell.letter);
            }
            let _ = write!(line, "{before:#}");
            line
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_put_by_columns() {
        let mut canvas = Canvas::new(&["│        │", ""]);
        canvas.put(0, 2, "收 FIN", Style::new());
        canvas.put_before(1, 10, "状态", Style::new());
        assert_eq!(canvas.lines().collect::<Vec<_>>(), ["│ 收 FIN │", "      状态"]);
    }

    #[test]
    fn colour_is_put_back() {
        let mut canvas = Canvas::new(&["abc"]);
        canvas.paint(0, 1, 1, Style::new().bold());
        assert_eq!(canvas.lines().collect::<Vec<_>>(), ["a\u{1b}[1mb\u{1b}[0mc"]);
    }
}
