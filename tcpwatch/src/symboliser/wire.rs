//! What tcpwatch and its symboliser say to each other: messages over a stream socket, some of which carry a descriptor.
//!
//! tcpwatch sends a [`Request`]. The symboliser sends one [`Reply`], and before it as many questions as it needs, each of which
//! tcpwatch answers.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::input::stacks::{Unnamed, Why};

/// Bytes of a message at most: a batch of stacks has fewer, and so have the names of the functions of a stack.
const MESSAGE_MAX: usize = 4 << 20;

/// A copy of a stack to unwind.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Copied {
    /// A number of tcpwatch's for the process, as its maps were when they were read.
    pub process: u32,
    /// The user-mode registers: the start of the kernel's `struct pt_regs`.
    pub registers: Vec<u64>,
    /// The stack, from the stack pointer upwards.
    pub stack: Vec<u8>,
}

/// What is mapped at an address of a process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Found {
    /// The first address of the mapping.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// The byte of the file that is at `start`.
    pub offset: u64,
    /// tcpwatch's number of the file, whose descriptor comes with the message.
    pub file: u32,
}

/// A code address in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// In a file: its number, and the address that its symbols use.
    File(u32, u64),
    /// In anonymous memory of the process.
    Anonymous(u64),
}

/// An unwound stack, the innermost frame first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Walked {
    /// The current instruction, and the return address of each caller.
    pub places: Vec<Place>,
    /// Whether the last frame is the start of the thread.
    pub finished: Result<(), Why>,
}

impl Walked {
    /// A stack of which nothing is known.
    #[must_use]
    pub const fn unknown(why: Why) -> Self {
        Self {
            places: Vec::new(),
            finished: Err(why),
        }
    }
}

/// A function at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its demangled name; `None` if there is no symbol.
    pub function: Option<String>,
    /// Its source file.
    pub file: Option<String>,
    /// The line in the source file.
    pub line: Option<u32>,
    /// Whether it is inlined into the next frame.
    pub is_inlined: bool,
}

/// A perf map, and its state: a map that has grown is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MapId {
    /// Device and inode number of the file.
    pub file: (u64, u64),
    /// Its bytes.
    pub size: u64,
    /// When it was written last: seconds and nanoseconds.
    pub changed: (i64, u64),
}

/// What tcpwatch sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Unwind these.
    Unwind(Vec<Copied>),
    /// Name the functions at these addresses of the file with this number, whose descriptor comes with it.
    Functions(u32, Vec<u64>),
    /// Name the functions at these addresses by the perf map whose descriptor comes with it.
    Mapped(MapId, Vec<u64>),
    /// The answer to [`Reply::Mapping`]. A descriptor comes with it if it is a file.
    Mapping(Result<Found, Why>),
    /// The answer to [`Reply::DebugFile`]. A descriptor comes with it if there is such a file.
    DebugFile,
}

/// What the symboliser sends.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It has given up its privileges, and may be asked.
    Ready,
    /// What is at this address of the process with this number?
    Mapping(u32, u64),
    /// Is there a file with the debug information for this build ID?
    DebugFile(Vec<u8>),
    /// The stacks, unwound, in the same order.
    Unwound(Vec<Walked>),
    /// For each address the functions there: those inlined first. None if there is no symbol.
    Named(Result<Vec<Vec<Frame>>, Unnamed>),
}

/// Sends `message`, and `file` with it.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(&files));
    }
    // A stream takes the four bytes at once or not at all: its buffer counts by the page.
    let sent = sendmsg(socket, &[IoSlice::new(&length)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != length.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    socket.write_all(&body)
}

/// Receives a message, and the file that came with it, until `until_ns` (`CLOCK_MONOTONIC`); `None` if the other side ended.
pub(super) fn receive<T: DeserializeOwned>(
    mut socket: &UnixStream,
    until_ns: Option<u64>,
) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let wait = || match until_ns {
        Some(until_ns) => {
            let left_ns = until_ns.saturating_sub(clock::monotonic_ns());
            let left = (left_ns > 0).then(|| Duration::from_nanos(left_ns));
            socket.set_read_timeout(Some(left.ok_or(ErrorKind::TimedOut)?))
        }
        None => Ok(()),
    };
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        wait()?;
        let mut parts = [IoSliceMut::new(&mut length)];
        match recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    let file = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        })
        .flatten()
        .next();
    if received == 0 {
        return Ok(None);
    }
    if received < length.len() {
        // Who sends four bytes sends them at once.
        return Err(ErrorKind::InvalidData.into());
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > MESSAGE_MAX {
        return Err(io::Error::new(ErrorKind::InvalidData, "a message is too long"));
    }
    let mut body = vec![0; length];
    let mut filled = 0;
    while filled < length {
        wait()?;
        match socket.read(&mut body[filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let message = postcard::from_bytes(&body).map_err(|why| io::Error::new(ErrorKind::InvalidData, why))?;
    Ok(Some((message, file)))
}
