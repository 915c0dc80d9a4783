//! A drawing made of characters, on which texts are placed by row and column.

use std::fmt::Write as _;

use anstyle::Style;
use unicode_width::UnicodeWidthChar;

use super::fit::width;

/// Rows of cells, one per column. A wide character takes two cells.
#[derive(Debug)]
pub(super) struct Canvas {
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    /// `None` in the second cell of a wide character.
    letter: Option<char>,
    style: Style,
}

const BLANK: Cell = Cell {
    letter: Some(' '),
    style: Style::new(),
};

impl Canvas {
    /// A canvas with these `lines`.
    pub(super) fn new(lines: &[&str]) -> Self {
        let mut canvas = Self {
            rows: vec![Vec::new(); lines.len()],
        };
        for (row, line) in lines.iter().enumerate() {
            canvas.put(row, 0, line, Style::new());
        }
        canvas
    }

    /// Places `text` at `row`, starting at `column`.
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

    /// Places `text` at `row`, ending before column `end`.
    pub(super) fn put_before(&mut self, row: usize, end: usize, text: &str, style: Style) {
        self.put(row, end.saturating_sub(width(text)), text, style);
    }

    /// Sets the style of `columns` cells of `row`, starting at `column`.
    pub(super) fn paint(&mut self, row: usize, column: usize, columns: usize, style: Style) {
        let cells = self.rows.get_mut(row).into_iter().flatten();
        for cell in cells.skip(column).take(columns) {
            cell.style = style;
        }
    }

    /// The lines, without trailing blanks.
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
    fn texts_are_placed_by_columns_and_not_characters() {
        let mut canvas = Canvas::new(&["│        │", ""]);
        canvas.put(0, 2, "收 FIN", Style::new());
        canvas.put_before(1, 10, "状态", Style::new());
        assert_eq!(canvas.lines().collect::<Vec<_>>(), ["│ 收 FIN │", "      状态"]);
    }

    #[test]
    fn a_style_ends_where_its_cells_end() {
        let mut canvas = Canvas::new(&["abc"]);
        canvas.paint(0, 1, 1, Style::new().bold());
        assert_eq!(canvas.lines().collect::<Vec<_>>(), ["a\u{1b}[1mb\u{1b}[0mc"]);
    }
}
