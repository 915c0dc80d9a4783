//! The screen that text is laid out for.

use crate::cli::ColorArgs;
use crate::sys::terminal;
use crate::view::screen::{Color, Screen};

/// Standard output, coloured as `choice` says.
pub(super) fn screen(choice: ColorArgs) -> Screen {
    Screen {
        width: terminal::width(),
        colour: match choice.color {
            Color::Auto => terminal::takes_colour(),
            Color::Always => true,
            Color::Never => false,
        },
    }
}
