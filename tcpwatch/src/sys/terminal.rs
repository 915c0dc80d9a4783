//! Standard output: how wide a terminal it is, whether it wants colour, whether anybody reads it.

use std::io::stdout;

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Columns text is laid out for where there is no terminal: enough for everything.
const DEFAULT_WIDTH: usize = 120;

/// Columns of the terminal on standard output; 120 where it is none (`TIOCGWINSZ`, `tty_ioctl(4)`).
#[must_use]
pub fn width() -> usize {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        _ => DEFAULT_WIDTH,
    }
}

/// Whether what goes to standard output may be coloured: it is a terminal that can, and `NO_COLOR` is not set.
#[must_use]
pub fn takes_colour() -> bool {
    AutoStream::choice(&stdout()) != ColorChoice::Never
}

/// Whether standard output is a pipe whose reader has gone (`POLLERR`, `poll(2)`): what is quiet would never notice by
/// writing.
#[must_use]
pub fn reader_gone() -> bool {
    let out = stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|_| asked[0].revents().contains(PollFlags::ERR))
}
