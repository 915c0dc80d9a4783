//! The screen that text is laid out for: the terminal at standard output.

use crate::cli::ColorArgs;
use crate::sys::terminal;
use crate::view::screen::{Color, Screen};

/// Width of standard output, and whether to colour it by `choice`.
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
