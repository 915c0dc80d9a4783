//! tcpwatch's side: starts a symboliser, asks it, and ends it when it takes too long.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::functions::{INLINED_MAX, NAME_MAX};
use super::walk::FRAMES_MAX;
use super::wire::{Copied, Found, Frame, MapId, Place, Reply, Request, Walked, receive, send};
use crate::clock;
use crate::input::stacks::{Unnamed, Why};

/// How long it may read one file: a large program with debug information takes seconds.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Questions that one request may need at most: more than a batch of stacks has places of different files.
const ASKS_MAX: u32 = 8192;

/// The symboliser process: started by the first request, and by the first one after it ended.
pub struct Symboliser {
    program: PathBuf,
    running: Option<Running>,
    /// Whether a warning has said that it cannot be started.
    has_warned: bool,
}

struct Running {
    child: Child,
    socket: UnixStream,
    /// The numbers of the files that it was given.
    given: HashSet<u32>,
}

/// What the symboliser asks while it unwinds.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The number of the process, of [`Copied`].
    pub process: u32,
    /// The address at which it wants to know the mapping.
    pub address: u64,
}

/// The answer: the mapping and its file, or why there is none.
pub type Answer = Result<(Found, Arc<OwnedFd>), Why>;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It could not be started.
    NotStarted,
    /// It died.
    Died,
    /// It took longer than 10 s for a file.
    TooSlow,
}

impl From<Stopped> for Unnamed {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::NotStarted => Self::NoSymboliser,
            Stopped::Died => Self::Died,
            Stopped::TooSlow => Self::TooSlow,
        }
    }
}

impl Symboliser {
    /// One that executes `program`, which must be tcpwatch.
    #[must_use]
    pub fn new(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            running: None,
            has_warned: false,
        }
    }

    /// Unwinds `copies`; `answer` is asked for what processes have mapped.
    ///
    /// # Errors
    /// It ended before it had unwound them all.
    pub fn unwind(
        &mut self,
        copies: Vec<Copied>,
        answer: &mut dyn FnMut(Ask) -> Answer,
    ) -> Result<Vec<Walked>, Stopped> {
        let count = copies.len();
        let mut given = Vec::new();
        let mut asked = |reply: &Reply| match *reply {
            Reply::Mapping(process, address) => match answer(Ask { process, address }) {
                Ok((found, file)) => {
                    given.push(found.file);
                    Some((Request::Mapping(Ok(found)), Some(file)))
                }
                Err(why) => Some((Request::Mapping(Err(why)), None)),
            },
            _ => None,
        };
        let reply = self.request(&Request::Unwind(copies), None, &mut asked)?;
        let files = &mut self.running()?.given;
        files.extend(given);
        match reply {
            Reply::Unwound(walked)
                if walked.len() == count && walked.iter().all(|walked| is_possible(walked, files)) =>
            {
                Ok(walked)
            }
            _ => Err(self.end(Stopped::Died)),
        }
    }

    /// The functions at `addresses` of `file`, which has the number `number`; `debug_file` is asked for the debug information of a build
    /// ID.
    ///
    /// # Errors
    /// They are unknown, and why.
    pub fn functions(
        &mut self,
        number: u32,
        file: BorrowedFd<'_>,
        addresses: Vec<u64>,
        debug_file: &dyn Fn(&[u8]) -> Option<OwnedFd>,
    ) -> Result<Vec<Vec<Frame>>, Unnamed> {
        let count = addresses.len();
        let mut asked = |reply: &Reply| match reply {
            Reply::DebugFile(build_id) => Some((Request::DebugFile, debug_file(build_id).map(Arc::new))),
            _ => None,
        };
        self.named(&Request::Functions(number, addresses), file, count, &mut asked)
    }

    /// The functions at `addresses` by a perf map.
    ///
    /// # Errors
    /// They are unknown, and why.
    pub fn mapped(
        &mut self,
        map: MapId,
        file: BorrowedFd<'_>,
        addresses: Vec<u64>,
    ) -> Result<Vec<Vec<Frame>>, Unnamed> {
        let count = addresses.len();
        self.named(&Request::Mapped(map, addresses), file, count, &mut |_| None)
    }

    fn named(
        &mut self,
        request: &Request,
        file: BorrowedFd<'_>,
        count: usize,
        asked: &mut Asked<'_>,
    ) -> Result<Vec<Vec<Frame>>, Unnamed> {
        match self.request(request, Some(file), asked)? {
            Reply::Named(Ok(named)) if named.len() == count && named.iter().all(|frames| are_possible(frames)) => {
                Ok(named)
            }
            Reply::Named(Err(why)) => Err(why),
            _ => Err(self.end(Stopped::Died).into()),
        }
    }

    /// Sends `request`, answers what is `asked`, and returns the reply.
    fn request(
        &mut self,
        request: &Request,
        file: Option<BorrowedFd<'_>>,
        asked: &mut Asked<'_>,
    ) -> Result<Reply, Stopped> {
        let socket = &self.running()?.socket;
        let mut exchange = || {
            let mut until_ns = clock::monotonic_ns() + PATIENCE_NS;
            send(socket, request, file)?;
            for _ in 0..ASKS_MAX {
                let (reply, _) = receive(socket, Some(until_ns))?.ok_or(ErrorKind::UnexpectedEof)?;
                let Some((answer, file)) = asked(&reply) else {
                    return Ok(reply);
                };
                if file.is_some() {
                    until_ns = clock::monotonic_ns() + PATIENCE_NS;
                }
                send(socket, &answer, file.as_ref().map(|file| file.as_fd()))?;
            }
            Err(ErrorKind::InvalidData.into())
        };
        let exchanged: io::Result<Reply> = exchange();
        exchanged.map_err(|error| {
            log::debug!("the symboliser: {error}");
            let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            self.end(if is_late { Stopped::TooSlow } else { Stopped::Died })
        })
    }

    /// Starts it, if it does not run.
    ///
    /// # Errors
    /// It cannot be started, which a warning says once.
    pub fn start(&mut self) -> Result<(), Stopped> {
        self.running().map(drop)
    }

    /// Whether it was started, and has not ended since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    fn running(&mut self) -> Result<&mut Running, Stopped> {
        if self.running.is_none() {
            self.running = match Running::start(&self.program) {
                Ok(running) => Some(running),
                Err(error) => {
                    if !std::mem::replace(&mut self.has_warned, true) {
                        log::warn!("the names of functions are unknown: cannot start the symboliser: {error}");
                    }
                    None
                }
            };
        }
        self.running.as_mut().ok_or(Stopped::NotStarted)
    }

    fn end(&mut self, why: Stopped) -> Stopped {
        self.running = None;
        why
    }
}

/// Answers a question of the symboliser; `None` if it is none.
type Asked<'a> = dyn FnMut(&Reply) -> Option<(Request, Option<Arc<OwnedFd>>)> + 'a;

/// Whether the symboliser may have found `walked`, of the files that it was given.
fn is_possible(walked: &Walked, given: &HashSet<u32>) -> bool {
    let is_given = |place: &Place| match place {
        Place::File(file, _) => given.contains(file),
        Place::Anonymous(_) => true,
    };
    walked.places.len() <= FRAMES_MAX + 1 && walked.places.iter().all(is_given)
}

/// Whether the symboliser may have found `frames` at an address.
fn are_possible(frames: &[Frame]) -> bool {
    let texts = frames.iter().flat_map(|frame| [&frame.function, &frame.file]).flatten();
    frames.len() <= INLINED_MAX && texts.map(String::len).all(|length| length <= NAME_MAX)
}

impl Running {
    fn start(program: &Path) -> io::Result<Self> {
        let (socket, of_child) = UnixStream::pair()?;
        socket.set_write_timeout(Some(Duration::from_nanos(PATIENCE_NS)))?;
        let child = Command::new(program)
            .arg0("tcpwatch")
            .arg("symboliser")
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(of_child))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let running = Self {
            child,
            socket,
            given: HashSet::new(),
        };
        match receive(&running.socket, Some(clock::monotonic_ns() + PATIENCE_NS))? {
            Some((Reply::Ready, _)) => Ok(running),
            _ => Err(io::Error::other("it cannot give up its privileges")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
