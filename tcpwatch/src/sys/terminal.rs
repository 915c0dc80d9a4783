//! Standard output: how wide a terminal it is, whether it wants colour, whether anybody reads it.

use std::io::stdout;

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Columns of the terminal on standard output; `None` where it is none, or does not say (`TIOCGWINSZ`, `tty_ioctl(4)`).
#[must_use]
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
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
