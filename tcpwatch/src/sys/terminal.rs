//! Facts about standard output: the width of the terminal, whether to use colour, and whether the reader is gone.

use std::io::{self, stdout};

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

/// Bytes that a pipe takes at once or not at all (`PIPE_BUF`, `pipe(7)`).
const PIPE_BUF: usize = 4096;

/// Columns of the terminal on standard output; `None` if it is not a terminal or has no size (`TIOCGWINSZ`, `tty_ioctl(4)`).
#[must_use]
pub fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0).then(|| size.ws_col.into())
}

/// Whether to use colour: standard output is a terminal with colours, and `NO_COLOR` is not set.
#[must_use]
pub fn takes_colour() -> bool {
    AutoStream::choice(&stdout()) != ColorChoice::Never
}

/// Whether standard output is a pipe whose reader is gone (`POLLERR`, `poll(2)`). A command that rarely writes would not notice
/// otherwise.
#[must_use]
pub fn reader_gone() -> bool {
    let out = stdout();
    let mut asked = [PollFd::new(&out, PollFlags::empty())];
    poll(&mut asked, Some(&Timespec::default())).is_ok_and(|_| asked[0].revents().contains(PollFlags::ERR))
}

/// Whether standard output is a regular file, which takes all that is written.
#[must_use]
pub fn is_file() -> bool {
    fstat(stdout()).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

/// Writes a part of `bytes` to standard output: all, where that is a file, else so few that one page of room in a pipe is enough. A
/// larger part would be written only when a slow reader has taken all of it, and nobody could see that it reads.
///
/// # Errors
/// As `write(2)`.
pub fn write(bytes: &[u8], is_file: bool) -> io::Result<usize> {
    let most = if is_file { bytes.len() } else { PIPE_BUF };
    Ok(rustix::io::write(stdout(), &bytes[..bytes.len().min(most)])?)
}
