//! Standard output, where it is a terminal: how wide it is, whether it wants colour.

use std::io::stdout;

use anstream::{AutoStream, ColorChoice};

use crate::cli::Color;
use crate::view::screen::Screen;

/// Columns text is laid out for where there is no terminal.
const DEFAULT_WIDTH: usize = 80;

/// Columns of the terminal on standard output; 80 where it is none (`TIOCGWINSZ`, `tty_ioctl(4)`).
#[must_use]
pub fn width() -> usize {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_WIDTH,
    }
}

/// Whether to colour what goes to standard output: as `choice` says, else on a terminal, unless `NO_COLOR` is set.
#[must_use]
pub fn wants_colour(choice: Color) -> bool {
    match choice {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => AutoStream::choice(&stdout()) != ColorChoice::Never,
    }
}

/// The screen to lay text out for.
#[must_use]
pub fn screen(choice: Color) -> Screen {
    Screen {
        width: width(),
        colour: wants_colour(choice),
    }
}
