//! Where text goes: how wide it is, and whether it takes colour.

use anstyle::Style;
use tcpwatch_common::TcpState;

use super::states;

/// Whether to colour text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Columns that text is drawn in where there is no terminal.
const DEFAULT_WIDTH: usize = 120;

/// The screen text is laid out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns of the terminal; `None` where there is none, and no line is too long.
    pub width: Option<usize>,
    /// Whether to colour.
    pub colour: bool,
}

impl Screen {
    /// A terminal of so many columns, and no colours.
    #[must_use]
    pub const fn plain(width: usize) -> Self {
        Self {
            width: Some(width),
            colour: false,
        }
    }

    /// Columns to draw in.
    #[must_use]
    pub fn columns(self) -> usize {
        self.width.unwrap_or(DEFAULT_WIDTH)
    }

    /// `style`, or none without colour.
    #[must_use]
    pub const fn styled(self, style: Style) -> Style {
        if self.colour { style } else { Style::new() }
    }

    /// The style of a state, or none without colour.
    #[must_use]
    pub const fn style(self, state: TcpState) -> Style {
        self.styled(states::style(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_colour_writes_nothing() {
        let screen = Screen::plain(80);
        let style = screen.style(TcpState::Established);
        assert_eq!(format!("{style}x{style:#}"), "x");
        let style = Screen { colour: true, ..screen }.style(TcpState::Established);
        assert_eq!(format!("{style}x{style:#}"), "\u{1b}[32mx\u{1b}[0m");
    }
}
