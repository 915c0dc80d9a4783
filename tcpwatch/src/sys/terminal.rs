//! Facts about standard output: the width of the terminal, whether to use colour, and whether the reader is gone.

use std::io::{self, IoSlice, stdout};

use anstream::{AutoStream, ColorChoice};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::{ReadWriteFlags, pwritev2};

/// Bytes that a pipe takes at once or not at all (`PIPE_BUF`, `pipe(7)`).
const PIPE_BUF: usize = 4096;

/// The offset that means the position of the file (`pwritev2(2)`).
const AT_POSITION: u64 = u64::MAX;

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

/// Writes a part of `bytes` to standard output. A file takes all of them. Anything else takes what it has room for, or where it has none, so
/// few bytes that one page of room in a pipe is enough: a larger part would be written only when a slow reader has taken all of it, and
/// nobody could see that it reads.
///
/// # Errors
/// As `write(2)`.
pub fn write(bytes: &[u8], is_file: bool) -> io::Result<usize> {
    let out = stdout();
    if is_file {
        return Ok(rustix::io::write(&out, bytes)?);
    }
    // Before Linux 6.4 pipes refuse the flag, and terminals always do.
    if let Ok(count) = pwritev2(&out, &[IoSlice::new(bytes)], AT_POSITION, ReadWriteFlags::NOWAIT) {
        return Ok(count);
    }
    Ok(rustix::io::write(&out, &bytes[..bytes.len().min(PIPE_BUF)])?)
}
