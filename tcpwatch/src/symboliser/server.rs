//! The symboliser itself: answers what tcpwatch asks over its standard input, until that ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use hashbrown::HashMap;

use super::functions::Functions;
use super::perf_map::PerfMap;
use super::sandbox;
use super::unwinding::Program;
use super::walk::{Mapped, walk};
use super::wire::{Copied, Found, Frame, MapId, Reply, Request, Walked, receive, send};
use crate::input::stacks::{Unnamed, Why};

/// Bytes of sections that are kept of files, a quarter of the memory that the process may have.
const KEPT_MAX: u64 = 64 << 20;
/// Files that are kept, each of which is open.
const FILES_MAX: usize = 64;
/// Processes whose mappings are remembered.
const PROCESSES_MAX: usize = 1024;

/// Gives up all privileges and serves whoever holds the other end of the socket that is the standard input.
///
/// # Errors
/// It is no socket, or the privileges cannot be given up.
pub fn serve() -> Result<()> {
    // Those that tcpwatch itself was started with.
    // SAFETY: nothing was opened yet, so nothing uses a descriptor above the standard ones.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no standard input")?;
    rustix::net::getsockname(&socket)
        .ok()
        .context("the symboliser is started by tcpwatch itself; try tcpwatch leaks --watch --stacks")?;
    sandbox::enter()?;
    let mut server = Server {
        socket: UnixStream::from(socket),
        mappings: HashMap::new(),
        programs: Kept::default(),
        functions: Kept::default(),
        map: None,
    };
    send(&server.socket, &Reply::Ready, None)?;
    while let Some((request, file)) = receive(&server.socket, None)? {
        let reply = server.reply(request, file.map(File::from))?;
        send(&server.socket, &reply, None)?;
    }
    Ok(())
}

struct Server {
    socket: UnixStream,
    /// What processes have mapped, by their numbers. At most [`PROCESSES_MAX`]; before one more, all are forgotten.
    mappings: HashMap<u32, Vec<Found>>,
    programs: Kept<Program>,
    functions: Kept<Functions>,
    /// The perf map that was read last.
    map: Option<(MapId, PerfMap)>,
}

/// What was read of files, by their numbers. Before one more than [`FILES_MAX`], or when they have more than [`KEPT_MAX`] bytes, all are
/// forgotten, and are read again where needed.
struct Kept<T> {
    files: HashMap<u32, (Rc<T>, u64)>,
    bytes: u64,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            files: HashMap::new(),
            bytes: 0,
        }
    }
}

impl<T> Kept<T> {
    fn get(&self, number: u32) -> Option<Rc<T>> {
        self.files.get(&number).map(|(file, _)| Rc::clone(file))
    }

    /// Makes room for a file that will be read.
    fn make_room(&mut self) {
        if self.files.len() >= FILES_MAX || self.bytes > KEPT_MAX {
            *self = Self::default();
        }
    }

    fn insert(&mut self, number: u32, file: T, bytes: u64) -> Rc<T> {
        let file = Rc::new(file);
        self.files.insert(number, (Rc::clone(&file), bytes));
        self.bytes += bytes;
        file
    }
}

impl Server {
    fn reply(&mut self, request: Request, file: Option<File>) -> Result<Reply> {
        Ok(match request {
            Request::Unwind(copies) => {
                Reply::Unwound(copies.iter().map(|copied| self.walk(copied)).collect::<Result<_>>()?)
            }
            Request::Functions(number, addresses) => {
                let file = file.context("no file came")?;
                Reply::Named(self.named(number, file, &addresses)?)
            }
            Request::Mapped(id, addresses) => {
                let file = file.context("no file came")?;
                Reply::Named(self.mapped(id, file, &addresses))
            }
            Request::Mapping(_) | Request::DebugFile => bail!("an answer to no question"),
        })
    }

    fn walk(&mut self, copied: &Copied) -> Result<Walked> {
        let mut broken = None;
        let walked = walk(copied, &mut |address| {
            self.mapping(copied.process, address).unwrap_or_else(|error| {
                broken = Some(error);
                Err(Why::Unreadable)
            })
        });
        broken.map_or(Ok(walked), Err)
    }

    /// What is mapped at `address` of `process`.
    fn mapping(&mut self, process: u32, address: u64) -> Result<Result<Mapped, Why>> {
        let known = self.mappings.get(&process).into_iter().flatten();
        let known = known.copied().find(|found| (found.start..found.end).contains(&address));
        let known = known.and_then(|found| Some((found, self.programs.get(found.file)?)));
        let (found, program) = match known {
            Some(known) => known,
            None => match self.ask_mapping(process, address)? {
                Ok(found) => found,
                Err(why) => return Ok(Err(why)),
            },
        };
        let bias = program.bias(found.start, found.offset).ok_or(Why::Undecided);
        Ok(bias.map(|bias| (found.file, program, bias)))
    }

    fn ask_mapping(&mut self, process: u32, address: u64) -> Result<Result<(Found, Rc<Program>), Why>> {
        send(&self.socket, &Reply::Mapping(process, address), None)?;
        let (found, file) = match self.answer()? {
            (Request::Mapping(Ok(found)), Some(file)) => (found, file),
            (Request::Mapping(Err(why)), _) => return Ok(Err(why)),
            _ => bail!("another answer than what was asked"),
        };
        let program = match self.program(found.file, file) {
            Ok(program) => program,
            Err(why) => return Ok(Err(why)),
        };
        if self.mappings.len() >= PROCESSES_MAX && !self.mappings.contains_key(&process) {
            self.mappings.clear();
        }
        let mappings = self.mappings.entry(process).or_default();
        // Asked for again where the file was forgotten.
        mappings.retain(|other| other.start != found.start);
        mappings.push(found);
        Ok(Ok((found, program)))
    }

    /// What is known of how to leave the functions of the file `number`.
    fn program(&mut self, number: u32, file: OwnedFd) -> Result<Rc<Program>, Why> {
        if let Some(program) = self.programs.get(number) {
            return Ok(program);
        }
        self.programs.make_room();
        let program = Program::read(File::from(file))?;
        let bytes = program.bytes as u64;
        Ok(self.programs.insert(number, program, bytes))
    }

    fn named(&mut self, number: u32, file: File, addresses: &[u64]) -> Result<Result<Vec<Vec<Frame>>, Unnamed>> {
        let functions = match self.functions(number, file)? {
            Ok(functions) => functions,
            Err(why) => return Ok(Err(why)),
        };
        Ok(Ok(addresses.iter().map(|&address| functions.at(address)).collect()))
    }

    /// What is known of the functions of the file `number`.
    fn functions(&mut self, number: u32, file: File) -> Result<Result<Rc<Functions>, Unnamed>> {
        if let Some(functions) = self.functions.get(number) {
            return Ok(Ok(functions));
        }
        self.functions.make_room();
        let mut broken = None;
        let read = Functions::read(file, &mut |build_id| {
            self.ask_debug_file(build_id).unwrap_or_else(|error| {
                broken = Some(error);
                None
            })
        });
        if let Some(error) = broken {
            return Err(error);
        }
        Ok(read.map(|functions| {
            let bytes = functions.bytes;
            self.functions.insert(number, functions, bytes)
        }))
    }

    fn ask_debug_file(&self, build_id: Vec<u8>) -> Result<Option<File>> {
        send(&self.socket, &Reply::DebugFile(build_id), None)?;
        match self.answer()? {
            (Request::DebugFile, file) => Ok(file.map(File::from)),
            _ => bail!("another answer than what was asked"),
        }
    }

    fn mapped(&mut self, id: MapId, file: File, addresses: &[u64]) -> Result<Vec<Vec<Frame>>, Unnamed> {
        if self.map.as_ref().is_none_or(|(read, _)| *read != id) {
            // The old one makes room first.
            self.map = None;
            self.map = Some((id, PerfMap::read(file)?));
        }
        let map = self.map.as_ref().ok_or(Unnamed::Unreadable)?;
        Ok(map.1.functions(addresses))
    }

    fn answer(&self) -> Result<(Request, Option<OwnedFd>)> {
        receive(&self.socket, None)?.context("tcpwatch ended")
    }
}
