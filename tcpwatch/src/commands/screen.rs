//! The screen that text is laid out for, the terminal at standard output, and the time zone of its times.

use jiff::tz::TimeZone;

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

/// The time zone of this process (`TZ`, `/etc/localtime`).
#[expect(clippy::disallowed_methods, reason = "commands give views the time zone")]
pub(super) fn zone() -> TimeZone {
    TimeZone::system()
}
